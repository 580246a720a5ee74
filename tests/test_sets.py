"""What must stay fast: records at fault do not send the others of their chunk through the row loop."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.ops import Ops, Outcomes
from engine.target.postgresql.session import PostgresSession
from tests.engine_parts import run_import, sql
from tests.test_law import ITEM_TABLE, ITEMS, ddl


def test_records_that_are_at_fault_leave_the_others_a_set(pg_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty key, a bad number and a ragged line are refused before the database is asked; all others are copied as one set."""
    ddl(pg_database, ITEM_TABLE)
    taken = counting_loops(monkeypatch)
    rows = "code,name,seat\na,A,1\n,B,2\nc,C,x\nd,D\ne,E,5\n"
    done = run_import(pg_database, ITEMS % "Merge", {"items.csv": rows}, tmp_path)
    assert done.codes == ["RecordCreated", "KeyMissing", "InvalidInteger", "ColumnCount", "RecordCreated"]
    assert taken == []
    assert sql(pg_database, "SELECT code FROM item ORDER BY 1") == [("a",), ("e",)]


CHECKED = """CREATE TABLE item(id SERIAL PRIMARY KEY, code varchar(9) NOT NULL UNIQUE, name varchar(9) NOT NULL DEFAULT 'none',
 seat integer CONSTRAINT b_low CHECK (seat < 50), CONSTRAINT a_named CHECK (name <> 'x'), CONSTRAINT c_even CHECK (seat % 2 = 0)
 {more});"""
CHECKED_ROWS = "code,name,seat\na,A,2\nb,x,51\nc,C,51\nd,D,7\nb,B,4\ne,,\nf,F,8\n"
CHECKED_CODES = ["RecordCreated", *["CheckViolated"] * 3, *["RecordCreated"] * 3]


def counting_loops(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the number of records of each call of the row loop."""
    taken: list[int] = []
    row_loop = PostgresSession._loop

    def counted(session: PostgresSession, ops: Ops) -> Outcomes:
        taken.append(len(ops))
        return row_loop(session, ops)

    monkeypatch.setattr(PostgresSession, "_loop", counted)
    return taken


def test_rows_that_a_check_refuses_leave_the_others_a_set(pg_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row is refused by the first of its CHECKs, as alone; of the others only the one whose key came before is taken by itself."""
    ddl(pg_database, CHECKED.format(more=""))
    taken = counting_loops(monkeypatch)
    done = run_import(pg_database, ITEMS % "Merge", {"items.csv": CHECKED_ROWS}, tmp_path)
    assert done.codes == CHECKED_CODES
    assert [r["Message"].split("constraint ")[1] for r in done.results[1:4]] == ["a_named of item", "b_low of item", "c_even of item"]
    assert taken == [1]
    assert sql(pg_database, "SELECT code, name, seat FROM item ORDER BY 1") == [
        ("a", "A", 2), ("b", "B", 4), ("e", "none", None), ("f", "F", 8)
    ]  # fmt: skip
    ids = sql(pg_database, "SELECT code, id::text FROM item")
    assert {r["EntityId"] for r in done.results if r["EntityId"]} == {row_id for _, row_id in ids}


def test_rows_that_the_next_chunk_brings_are_checked_too(pg_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of two rows come to what one chunk comes to, whether the chunk before had refused rows or none."""
    ddl(pg_database, CHECKED.format(more=""))
    taken = counting_loops(monkeypatch)
    done = run_import(pg_database, ITEMS % "Merge", {"items.csv": CHECKED_ROWS}, tmp_path, chunk_records=2)
    assert done.codes == CHECKED_CODES
    assert taken == []


@pytest.mark.parametrize(
    "more",
    [
        ", CONSTRAINT d_counts CHECK (few())",  # what it says depends on other rows
        ", total integer NOT NULL DEFAULT 3, CONSTRAINT d_other CHECK (total <> 4)",  # of a column that the records do not give
    ],
)
def test_rows_whose_checks_say_more_than_the_rows_are_taken_one_by_one(
    pg_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str
) -> None:
    """A CHECK that calls a function of the user's, or reads what the database fills in, is left to the database: row by row."""
    sql(pg_database, "CREATE FUNCTION few() RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT count(*) < 9 FROM item); END'")
    ddl(pg_database, CHECKED.format(more=more))
    taken = counting_loops(monkeypatch)
    done = run_import(pg_database, ITEMS % "Merge", {"items.csv": CHECKED_ROWS}, tmp_path)
    assert done.codes == CHECKED_CODES
    assert taken == [7]
