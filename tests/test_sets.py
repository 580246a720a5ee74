"""What must stay fast: records at fault do not send the others of their chunk through the row loop."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from engine.ops import Ops, Outcomes
from engine.plan import Lookup
from engine.tables import Column
from engine.target.postgresql import sql as sql_text
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


PRICED = """CREATE TABLE item(id SERIAL PRIMARY KEY, code varchar(9) NOT NULL UNIQUE, name varchar(9) DEFAULT 'none', seat numeric(6,2));
 INSERT INTO item (code, name, seat) VALUES ('a', 'A', 1), ('b', 'B', 2), ('c', 'C', 3), ('d', NULL, 4), ('e', 'E', 5), ('f', 'F', NULL),
 ('g', 'G', 7), ('h', 'none', 8)"""
KEEPING = ITEMS.replace("  - name:\n", "  - name: {empty: keep}\n")


def counting_stages(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the number of records whenever known rows are staged."""
    staged: list[int] = []
    fill = PostgresSession._fill

    def counted(session: PostgresSession, ops: Ops, columns: tuple[str, ...]) -> str:
        staged.append(len(ops))
        return fill(session, ops, columns)

    monkeypatch.setattr(PostgresSession, "_fill", counted)
    return staged


def test_rows_that_look_unchanged_are_not_staged(pg_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a chunk of rows that were up to date only those are staged that look different from their records."""
    ddl(pg_database, PRICED)
    staged = counting_stages(monkeypatch)
    rows = "code,name,seat\na,A,1.00\nb,B,2.00\nc,C,3\ng,G,7.00\nf,F,\nz,Z,1\nd,,4.00\nd,D,4.00\n"
    done = run_import(pg_database, ITEMS % "Merge", {"items.csv": rows}, tmp_path, chunk_records=2)
    same, new = "RecordUnchanged", "RecordCreated"
    assert done.codes == [same, same, same, same, same, new, same, "RecordUpdated"]
    assert staged == [2, 1]
    assert [r["EntityId"] for r in done.results] == ["1", "2", "3", "7", "6", "9", "4", "4"]
    assert sql(pg_database, "SELECT name, seat::text FROM item WHERE code IN ('d', 'z') ORDER BY code") == [("D", "4.00"), ("Z", "1.00")]


def test_values_that_are_kept_are_not_compared(pg_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cell that keeps its column's value says nothing of it: the row is unchanged if the other columns are."""
    ddl(pg_database, PRICED)
    staged = counting_stages(monkeypatch)
    rows = "code,name,seat\na,A,1.00\nb,B,2.00\nc,,3.00\nd,,4.00\ne,,6\nf,F,\n"
    done = run_import(pg_database, KEEPING % "Merge", {"items.csv": rows}, tmp_path, chunk_records=2)
    assert done.codes == [*["RecordUnchanged"] * 4, "RecordUpdated", "RecordUnchanged"]
    assert staged == [2, 2, 1]


def test_rows_that_never_look_unchanged_are_no_longer_compared(pg_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that writes its numbers otherwise than the table prints them is compared in the database, after a few chunks only there."""
    ddl(pg_database, PRICED)
    asked: list[str] = []
    find_whole = sql_text.find_whole

    def counted(lookup: Lookup, columns: Sequence[Column]) -> str:
        asked.append(lookup.entity)
        return find_whole(lookup, columns)

    monkeypatch.setattr(sql_text, "find_whole", counted)
    rows = "code,name,seat\n" + "".join(f"{code},{code.upper()},{number}\n" for number, code in enumerate("abc", 1)) * 6
    done = run_import(pg_database, ITEMS % "Merge", {"items.csv": rows}, tmp_path, chunk_records=2)
    assert set(done.codes) == {"RecordUnchanged"}
    assert len(asked) == 3
