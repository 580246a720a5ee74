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
    taken: list[int] = []

    def counted(session: PostgresSession, ops: Ops) -> Outcomes:
        taken.append(len(ops))
        return row_loop(session, ops)

    row_loop = PostgresSession._loop
    monkeypatch.setattr(PostgresSession, "_loop", counted)
    rows = "code,name,seat\na,A,1\n,B,2\nc,C,x\nd,D\ne,E,5\n"
    done = run_import(pg_database, ITEMS % "Merge", {"items.csv": rows}, tmp_path)
    assert done.codes == ["RecordCreated", "KeyMissing", "InvalidInteger", "ColumnCount", "RecordCreated"]
    assert taken == []
    assert sql(pg_database, "SELECT code FROM item ORDER BY 1") == [("a",), ("e",)]
