"""Ops one by one, each looked up when its turn comes, and undone as a whole if anything about it is refused."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from engine import faults as f
from engine.apply import forbidden
from engine.faults import Fault, fault
from engine.lookup import said
from engine.ops import (
    CREATED,
    DELETE,
    DELETED,
    INSERT,
    LOOK_UP,
    REFUSED,
    SKIPPED,
    UNCHANGED,
    UPDATE,
    UPDATED,
    Ops,
    Outcomes,
    decide,
)
from engine.plan import Missing
from engine.target.sqlite import refusals, sql
from engine.target.sqlite.values import column_of, id_of, is_ruled, refuse, told_changes, update_values

if TYPE_CHECKING:
    from engine.target.sqlite.session import SqliteSession


class _Refused(Exception):
    """An op that is undone for a reason of ours."""

    def __init__(self, reason: Fault, outcome: str = REFUSED) -> None:
        self.reason, self.outcome = reason, outcome


class OneByOne:
    """Takes ops singly; `is_watched`: deferred foreign keys are checked after each."""

    def __init__(self, session: SqliteSession, ops: Ops, is_watched: bool) -> None:
        self.session, self.ops, self.is_watched = session, ops, is_watched
        self.connection = session.connection
        self.table, self.identity = ops.entity.table, ops.entity.identity
        self.outcomes = Outcomes([REFUSED] * len(ops), [""] * len(ops))
        self._needs_savepoint = is_watched or self.table.has_triggers or self.table.has_rewrites
        self._columns: dict[str, list[list[Any]]] = {}

    def take(self, op: int) -> None:
        """Carry out one op."""
        kind = self.ops.kinds[op]
        if self._needs_savepoint:
            self.connection.execute("SAVEPOINT lading")
        try:
            self._look_late(op)
            kind, locator = self._identify(op)
            self.outcomes.kinds[op] = self._carry_out(op, kind, locator)
        except _Refused as refused:
            self.outcomes.kinds[op] = refused.outcome
            self.outcomes.faults[op] = [refused.reason]
            self._undo(op)
        except sqlite3.Error as error:
            refuse(self.connection, self.ops, self.outcomes, op, kind, error)
            self._undo(op)
        else:
            if self._needs_savepoint:
                self.connection.execute("RELEASE lading")

    def _undo(self, op: int) -> None:
        self.outcomes.ids[op] = ""
        self.outcomes.changes.pop(op, None)
        if self._needs_savepoint:
            self.connection.execute("ROLLBACK TO lading")
            self.connection.execute("RELEASE lading")

    # Look-ups -------------------------------------------------------------------------------------------------------
    def _look_late(self, op: int) -> None:
        skipped: _Refused | None = None
        for late in self.ops.late:
            key = [part[op] for part in late.keys]
            if None in key:
                continue
            is_masked = self.ops.written[late.written[0]].is_masked
            found = self.session.find(late.lookup, [[part] for part in key])
            if found.ambiguous:
                raise _Refused(said(f.LOOKUP_AMBIGUOUS, late.lookup, late.keys, op, is_masked))
            if not found.rows and late.lookup.missing is Missing.ERROR:
                raise _Refused(said(f.REFERENCE_NOT_FOUND, late.lookup, late.keys, op, is_masked, nearest=""))
            if not found.rows and late.lookup.missing is Missing.SKIP:
                # A record that is to be skipped is at fault all the same where another look-up fails.
                skipped = skipped or _Refused(said(f.SKIPPED_MISSING, late.lookup, late.keys, op, is_masked), SKIPPED)
            values = found.rows[0] if found.rows else (None,) * len(late.written)
            for number, value in zip(late.written, values, strict=True):
                self._put(number, op, value)
        if skipped is not None:
            raise skipped

    def _put(self, number: int, op: int, value: Any) -> None:
        """Enter a late result, in the ops themselves (for messages) and in what is written."""
        written = self.ops.written[number]
        if not isinstance(written.values, list):
            written.values = list(written.values)
        written.values[op] = value
        for columns in self._columns.values():
            columns[number][op] = value

    def _identify(self, op: int) -> tuple[str, Sequence[Any] | None]:
        if self.ops.kinds[op] != LOOK_UP or self.identity is None:
            return self.ops.kinds[op], self.ops.found[op]
        found = self.session.find(self.identity, [[part[op]] for part in self.ops.keys])
        if found.ambiguous:
            raise _Refused(said(f.LOOKUP_AMBIGUOUS, self.identity, self.ops.keys, op, self.ops.entity.is_identity_masked))
        kind = decide(self.ops.action, bool(found.rows))
        if kind is None:
            raise _Refused(forbidden(self.ops, op, is_found=bool(found.rows)))
        return kind, found.rows.get(0)

    # Writing --------------------------------------------------------------------------------------------------------
    def _carry_out(self, op: int, kind: str, locator: Sequence[Any] | None) -> str:
        if kind == INSERT:
            return self._insert(op)
        if locator is None:
            raise _Refused(forbidden(self.ops, op, is_found=False))
        self.outcomes.ids[op] = id_of(self.table, locator)
        at = sql.at(self.table, self.identity)
        referred = self.session.deferred.referred(self.table, at, locator) if self.is_watched else []
        outcome = self._update(op, at, locator) if kind == UPDATE else self._delete(op, at, locator)
        if self.is_watched:
            if kind == UPDATE:
                self._refuse_missing_parent(op, at, locator)
            if self.session.deferred.orphaned(self.table, referred):
                raise _Refused(refusals.foreign_key(self.connection, self.ops, op, DELETE))
        return outcome

    def _values(self, kind: str, op: int) -> list[tuple[Any, Any, bool]]:
        """Return (column written, value, whether it is left to the default or as it is) for one op."""
        if kind not in self._columns:
            self._columns[kind] = [list(column_of(self.session, w, kind)) for w in self.ops.written]
        columns = self._columns[kind]
        return [(w, c[op], op in w.empties and is_ruled(w, kind)) for w, c in zip(self.ops.written, columns, strict=True)]

    def _insert(self, op: int) -> str:
        given = [(w, value) for w, value, is_left in self._values(INSERT, op) if not is_left]
        names, values = [w.column.name for w, _ in given], [value for _, value in given]
        locator = [] if self.table.has_rewrites else sql.locator(self.table, self.identity)
        row = self.connection.execute(sql.insert(self.table, names, locator), values).fetchone()
        if locator and row is None:
            raise _Refused(fault(f.NOT_WRITTEN))
        if row is not None:
            self.outcomes.ids[op] = id_of(self.table, row)
            if self.is_watched:
                self._refuse_missing_parent(op, sql.at(self.table, self.identity), row)
        return CREATED

    def _update(self, op: int, at: str, locator: Sequence[Any]) -> str:
        every = self._values(UPDATE, op)
        written = [w for w, _, is_left in every if not (is_left and w.on_update == "keep") and not w.is_key]
        values = [value for w, value, is_left in every if not is_left and not w.is_key]
        ruled = [w for w, _, is_left in every if is_left]
        columns, given = [w.column for w in written], update_values(ruled, written, op, len(locator))
        parameters = [*locator, *values]
        seen = [sql.differs(columns, given), *(sql.compared(columns, given) if self.ops.tells_changes else ())]
        state = self.connection.execute(f"SELECT {', '.join(seen)} FROM {self.table.quoted} WHERE {at}", parameters).fetchone()
        if state is None:
            raise _Refused(forbidden(self.ops, op, is_found=False))
        if not state[0]:
            return UNCHANGED
        done = self.connection.execute(sql.update(self.table, self.identity, columns, given), parameters)
        if done.rowcount == 0 and not self.table.has_rewrites:
            raise _Refused(fault(f.NOT_WRITTEN))
        if self.ops.tells_changes:
            self.outcomes.changes[op] = told_changes(self.ops, written, state[1:])
        return UPDATED

    def _delete(self, op: int, at: str, locator: Sequence[Any]) -> str:
        done = self.connection.execute(sql.delete(self.table, self.identity), locator)
        if done.rowcount == 0 and not self.table.has_rewrites:
            is_there = self.connection.execute(f"SELECT 1 FROM {self.table.quoted} WHERE {at}", locator).fetchone()
            raise _Refused(fault(f.NOT_WRITTEN) if is_there else forbidden(self.ops, op, is_found=False))
        return DELETED

    def _refuse_missing_parent(self, op: int, at: str, locator: Sequence[Any]) -> None:
        key = self.session.deferred.missing_parent(self.table, at, locator)
        if key is not None:
            raise _Refused(refusals.missing_parent(self.ops, op, key))
