"""What both ways of writing share: the values that statements get, row ids, and what is said of refused ops."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

from engine import changes
from engine.ops import INSERT, REFUSED, Ops, Outcomes, Written, plain
from engine.tables import Table
from engine.target.sqlite import refusals

if TYPE_CHECKING:
    from engine.target.sqlite.session import SqliteSession

_LITERAL = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?|'([^']|'')*'|[xX]'[0-9a-fA-F]*'|NULL|TRUE|FALSE", re.IGNORECASE)


def refuse(connection: sqlite3.Connection, ops: Ops, outcomes: Outcomes, op: int, kind: str, error: sqlite3.Error) -> None:
    """Record that the database refused an op; TargetUnavailable if that is not about the record."""
    if not refusals.is_about_data(connection, error):
        raise refusals.unavailable(error) from error
    error.__traceback__ = None  # its frames hold the rows of the whole chunk
    outcomes.kinds[op] = REFUSED
    outcomes.faults[op] = [refusals.fault_of(connection, ops, op, kind, error)]


def column_of(session: SqliteSession, written: Written, kind: str) -> Sequence[Any]:
    """Return a column's values as an INSERT or UPDATE is to have them; what a run leaves out may hold anything."""
    if not written.empties:
        return written.values
    rule = written.on_insert if kind == INSERT else written.on_update
    default = written.column.default
    value = session.literal(default) if rule == "default" and default is not None and _LITERAL.fullmatch(default) else None
    values = list(written.values)
    for op in written.empties:
        values[op] = value
    return values


def is_ruled(written: Written, kind: str) -> bool:
    """Say whether empty cells of this column need a statement of their own."""
    rule = written.on_insert if kind == INSERT else written.on_update
    if not written.empties or rule == "null":
        return False
    default = written.column.default
    return rule == "keep" or (default is not None and not _LITERAL.fullmatch(default))


def update_values(ruled: Sequence[Written], written: Sequence[Written], op: int, offset: int) -> list[str]:
    """Return for each written column what it is set to, as SQL: a parameter, or its default."""
    numbers = count(offset + 1)
    return [f"({w.column.default})" if w in ruled and op in w.empties else f"?{next(numbers)}" for w in written]


def next_rowid(connection: sqlite3.Connection, quoted: str, name: str, is_autoincrement: bool) -> int:
    """Return the row id that SQLite would give the next row."""
    (largest,) = connection.execute(f"SELECT coalesce(max(rowid), 0) FROM {quoted}").fetchone()
    if is_autoincrement:
        row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (name,)).fetchone()
        largest = max(largest, row[0] if row else 0)
    return int(largest) + 1


def id_of(table: Table, locator: Sequence[Any] | None) -> str:
    """Return a row's id as receipts show it."""
    return ",".join(map(plain, locator)) if locator and table.primary_key else ""


def told_changes(ops: Ops, written: Sequence[Written], seen: Sequence[Any]) -> str:
    """Return what changes in a row as results tell it; `seen` is what sql.compared asks for."""
    found = [(n, _text(seen[3 * n + 1]), _text(seen[3 * n + 2])) for n in range(len(written)) if seen[3 * n]]
    return changes.told(ops, written, found, len(found))


def _text(value: Any) -> str | None:
    return None if value is None else plain(value)
