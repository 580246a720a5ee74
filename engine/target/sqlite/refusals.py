"""From what SQLite says of a refused row, which is little, to a fault that says which column and value, and what would have been right."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence

from engine import faults as f
from engine.faults import Fault, fault
from engine.locks import is_busy
from engine.ops import DELETE, Ops, plain, shown
from engine.tables import ForeignKey, quote
from errors import TargetLocked, TargetUnavailable

# What may be wrong with a record. Anything else (a full disk, a lock, a damaged file) ends the attempt.
_ABOUT_DATA = {sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_RANGE}
_CONSTRAINT_DATATYPE = 3091  # of STRICT tables; the sqlite3 module of Python 3.11 has no name for it


def is_about_data(connection: sqlite3.Connection, error: sqlite3.Error) -> bool:
    """Say whether an error is the record's fault. It is not if SQLite has undone the whole transaction."""
    return connection.in_transaction and (getattr(error, "sqlite_errorcode", 0) & 0xFF) in _ABOUT_DATA


def unavailable(error: sqlite3.Error) -> TargetUnavailable:
    """Return the exception that ends the attempt."""
    return (TargetLocked if is_busy(error) else TargetUnavailable)(f"SQLite: {error}")


def fault_of(connection: sqlite3.Connection, ops: Ops, op: int, kind: str, error: sqlite3.Error) -> Fault:
    """Return the fault of an op that the database refused; `kind` is what the op was to do."""
    table, message = ops.entity.table, str(error)
    rest = message.partition(" failed: ")[2]
    match getattr(error, "sqlite_errorcode", 0):
        case sqlite3.SQLITE_CONSTRAINT_NOTNULL:
            column = rest.removeprefix(f"{table.name}.")
            return fault(f.NOT_NULL, column, _value(ops, op, column))
        case sqlite3.SQLITE_CONSTRAINT_UNIQUE | sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY | sqlite3.SQLITE_CONSTRAINT_ROWID:
            return _unique(ops, op, rest)
        case sqlite3.SQLITE_CONSTRAINT_CHECK:
            return _check(ops, op, rest)
        case sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
            return foreign_key(connection, ops, op, kind)
        case code if code == _CONSTRAINT_DATATYPE:
            column = message.rpartition(f"{table.name}.")[2]
            return fault(f.DATABASE_REFUSED, column, _value(ops, op, column), reason=shown(ops.entity, message))
    return fault(f.DATABASE_REFUSED, reason=shown(ops.entity, message))


def foreign_key(connection: sqlite3.Connection, ops: Ops, op: int, kind: str) -> Fault:
    """Return the fault of a record that violates a foreign key, which SQLite does not name: find the one whose parent is missing."""
    for key in ops.entity.table.foreign_keys if kind != DELETE else ():
        values = [_raw(ops, op, column) for column in key.columns]
        if None not in values and not _has_parent(connection, key, values):
            return missing_parent(ops, op, key)
    identity = ops.entity.identity
    column = ", ".join(p.column.name for p in identity.parts) if identity else ""
    value = "***" if ops.entity.is_identity_masked else ", ".join(plain(part[op]) for part in ops.keys)
    users = ", ".join(dict.fromkeys(name for _, name in ops.entity.table.referenced_by))
    return fault(
        f.FOREIGN_KEY_VIOLATED, column, value, reason="other rows still refer to", constraint=f"from {users}" if users else "unknown"
    )


def missing_parent(ops: Ops, op: int, key: ForeignKey) -> Fault:
    """Return the fault of a reference to a row that does not exist."""
    value = ", ".join(_value(ops, op, c) for c in key.columns)
    return fault(f.FOREIGN_KEY_VIOLATED, ", ".join(key.columns), value, reason=f"does not exist in {key.table}", constraint=key.name)


def _has_parent(connection: sqlite3.Connection, key: ForeignKey, values: Sequence[str | bytes | None]) -> bool:
    conditions = " AND ".join(f"{quote(c)} = ?" for c in key.referenced_columns)
    return connection.execute(f"SELECT 1 FROM {quote(key.table)} WHERE {conditions}", values).fetchone() is not None


def _unique(ops: Ops, op: int, rest: str) -> Fault:
    table = ops.entity.table
    by_text = {", ".join(f"{table.name}.{c}" for c in u.columns): u for u in table.uniques if u.columns}
    unique = by_text.get(rest)
    if unique is None:  # an index with expressions is named: index 'name'
        name = rest.partition("'")[2].rpartition("'")[0] or rest
        return fault(f.UNIQUE_VIOLATED, "value", "", table=table.name, constraint=name)
    columns = ", ".join(unique.columns)
    # SQLite makes up names for the indexes of unnamed constraints, which mean nothing to anybody.
    name = columns if not unique.name or unique.name.startswith("sqlite_autoindex") else unique.name
    return fault(f.UNIQUE_VIOLATED, columns, ", ".join(_value(ops, op, c) for c in unique.columns), table=table.name, constraint=name)


def _check(ops: Ops, op: int, rule: str) -> Fault:
    """Return the fault of a broken CHECK. An unnamed one is told by its text: where that has one column only, it is to blame."""
    words = set(re.findall(r"\w+", rule.lower()))
    named = [c for c in ops.entity.table.columns if c.lower() in words]
    column = named[0] if len(named) == 1 else ""
    return fault(f.CHECK_VIOLATED, column, _value(ops, op, column), table=ops.entity.table.name, constraint=rule, rule="")


def _raw(ops: Ops, op: int, column: str) -> str | bytes | None:
    return next((w.values[op] for w in ops.written if w.column.name == column), None)


def _value(ops: Ops, op: int, column: str) -> str:
    """Return what the record says for a column, as receipts may show it."""
    for written in ops.written:
        if written.column.name == column:
            value = written.values[op]
            return "***" if written.is_masked else plain(value)
    return ""
