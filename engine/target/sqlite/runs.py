"""Runs of like ops, through executemany, or hundreds of rows with each statement.

A failing statement undoes only itself on SQLite, so that a refusal needs no savepoint: executemany stops at it, and goes on behind it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import count, groupby
from typing import TYPE_CHECKING, Any

from engine.apply import forbidden
from engine.ops import CREATED, DELETE, DELETED, INSERT, REFUSED, UNCHANGED, UPDATE, UPDATED, Ops, Outcomes, Written, plain
from engine.target.sqlite import refusals, sql
from engine.target.sqlite.values import column_of, id_of, is_ruled, next_rowid, refuse, told_changes, update_values

if TYPE_CHECKING:
    from engine.target.sqlite.session import SqliteSession

# Values that one INSERT of many rows gets, at most: it takes a third less time than as many single rows.
MANY_VALUES = 4_500
_LARGEST_ROWID = 2**63 - 1


class Runs:
    """Runs of ops of one kind that leave the same columns to their defaults."""

    def __init__(self, session: SqliteSession, ops: Ops, outcomes: Outcomes) -> None:
        self.session, self.ops, self.outcomes = session, ops, outcomes
        self.connection = session.connection
        self.cursor = session.connection.cursor()
        self.table = ops.entity.table
        self.columns = {INSERT: [column_of(session, w, INSERT) for w in ops.written], UPDATE: []}
        if UPDATE in ops.kinds:
            self.columns[UPDATE] = [column_of(session, w, UPDATE) for w in ops.written]
        self.ruled = {kind: [w for w in ops.written if is_ruled(w, kind)] for kind in (INSERT, UPDATE)}

    def cut(self) -> Iterator[tuple[str, int, int]]:
        """Cut the ops into runs: (kind, start, stop)."""
        kinds = self.ops.kinds
        keys: Iterable[Any] = kinds
        if any(self.ruled.values()):
            keys = [(kind, *(op in w.empties for w in self.ruled.get(kind, ()))) for op, kind in enumerate(kinds)]
        start = 0
        for _, group in groupby(keys):
            stop = start + len(list(group))
            yield kinds[start], start, stop
            start = stop

    def can_take(self, kind: str, start: int) -> bool:
        """Say whether the ids of new rows are known beforehand; where changes are told, whether no update may change another's row."""
        if kind == UPDATE and self.ops.tells_changes:
            return self.table.key not in self.table.referenced_by
        if kind != INSERT:
            return True
        names = {w.column.name for w in self._left(INSERT, start)}
        if self._is_drawn(start):
            alias = next((w for w in self._left(INSERT, start) if w.column.name == self.table.rowid_alias), None)
            return alias is None
        return bool(names) and all(name in names for name in self.table.primary_key)

    def _is_drawn(self, start: int) -> bool:
        """Say whether SQLite would choose the row ids. A file with some of them given is taken one by one."""
        alias = self.table.rowid_alias
        if alias is None:
            return False
        written = next((n for n, w in enumerate(self.ops.written) if w.column.name == alias), None)
        return written is None or None in self.columns[INSERT][written] or start in self.ops.written[written].empties

    def _left(self, kind: str, start: int) -> list[Written]:
        """Return the columns that a run writes: those that it does not leave to their default, or as they are."""
        gone = [w for w in self.ruled[kind] if start in w.empties and (kind == INSERT or w.on_update == "keep")]
        return [w for w in self.ops.written if w not in gone and not (kind == UPDATE and w.is_key)]

    def take(self, kind: str, start: int, stop: int) -> None:
        """Carry out one run."""
        if kind == INSERT:
            self._insert(start, stop)
        elif kind == UPDATE:
            self._update(start, stop)
        elif kind == DELETE:
            self._change(sql.delete(self.table, self.ops.entity.identity), [], start, stop, DELETED, REFUSED)

    # New rows -------------------------------------------------------------------------------------------------------
    def _insert(self, start: int, stop: int) -> None:
        """Insert; ids that SQLite would draw are given, so that they are known: always the very ones that it would have drawn."""
        written = self._left(INSERT, start)
        by_name = {w.column.name: c for w, c in zip(self.ops.written, self.columns[INSERT], strict=True)}
        values = [by_name[w.column.name][start:stop] for w in written]
        names = [w.column.name for w in written]
        is_drawn = self._is_drawn(start)
        number = next_rowid(self.connection, self.table.quoted, self.table.name, self.table.is_autoincrement) if is_drawn else 0
        if is_drawn and number + stop - start > _LARGEST_ROWID:
            raise refusals.unavailable(sqlite3.OperationalError(f"the row ids of {self.table.name} are used up"))
        if is_drawn:
            names = [self.table.rowid_alias or "", *names]
        made = self._insert_many(names, [range(number, number + stop - start), *values] if is_drawn else values)
        self.outcomes.kinds[start : start + made] = [CREATED] * made
        ids = list(map(str, range(number, number + made))) if is_drawn else []
        rest = [column[made:] for column in values] if made else values
        ids += self._insert_each(sql.insert(self.table, names), rest, start + made, stop, number + made if is_drawn else None)
        self._give_ids(start, stop, ids if is_drawn else self._own_ids(by_name, start, stop))

    def _insert_many(self, names: list[str], columns: list[Sequence[Any]]) -> int:
        """Insert rows, many with each statement, up to the first statement that is refused; return how many were inserted.

        What is left, and the row that was refused, are to be inserted one by one. So are rows that may refer to each other: within a
        statement one may refer to a later one.
        """
        rows = min(MANY_VALUES, self.connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)) // len(columns)
        size, made = len(columns[0]), 0
        if rows < 2 or size < 2 * rows or self.table.key in self.table.referenced_by:
            return 0
        statement = sql.insert(self.table, names, rows=rows)
        values: list[Any] = [None] * (rows * len(columns))
        try:
            while made + rows <= size:
                for number, column in enumerate(columns):
                    values[number :: len(columns)] = column[made : made + rows]
                self.cursor.execute(statement, values)
                made += rows
        except sqlite3.Error as error:
            if not refusals.is_about_data(self.connection, error):
                raise refusals.unavailable(error) from error
        return made

    def _insert_each(self, statement: str, columns: list[Sequence[Any]], start: int, stop: int, number: int | None) -> list[str]:
        """Insert rows one by one, drawing row ids from `number` on, if that is given; return these ids, empty ones for refused rows."""
        feeds = [iter(column) for column in columns]
        ids: list[str] = []
        done = start
        while done < stop:
            # The rows are zipped anew behind each refused one, whose number the next row gets; the columns' iterators go on.
            rows = zip(*feeds, strict=True) if number is None else zip(count(number), *feeds, strict=False)
            before = self.connection.total_changes
            try:
                self.cursor.executemany(statement, rows)
                made, refused = stop - done, None
            except sqlite3.Error as error:
                made, refused = self.connection.total_changes - before, error
            if number is not None:
                ids += map(str, range(number, number + made))
                number += made
            self.outcomes.kinds[done : done + made] = [CREATED] * made
            done += made
            if refused is not None:
                refuse(self.connection, self.ops, self.outcomes, done, INSERT, refused)
                ids.append("")
                done += 1
        return ids

    def _own_ids(self, by_name: dict[str, Sequence[Any]], start: int, stop: int) -> list[str]:
        key = [by_name[name][start:stop] for name in self.table.primary_key]
        if not key:
            return [""] * (stop - start)
        if len(key) == 1 and None not in key[0]:
            return list(map(plain, key[0]))
        return [",".join(map(plain, row)) for row in zip(*key, strict=True)]

    def _give_ids(self, start: int, stop: int, ids: list[str]) -> None:
        for op in self.outcomes.faults:
            if start <= op < stop:
                ids[op - start] = ""
        self.outcomes.ids[start:stop] = ids

    # Known rows -----------------------------------------------------------------------------------------------------
    def _update(self, start: int, stop: int) -> None:
        written = self._left(UPDATE, start)
        by_name = {w.column.name: c for w, c in zip(self.ops.written, self.columns[UPDATE], strict=True)}
        offset = len(sql.locator(self.table, self.ops.entity.identity))
        expressions = update_values(self.ruled[UPDATE], written, start, offset)
        statement = sql.update(self.table, self.ops.entity.identity, [w.column for w in written], expressions) if written else ""
        values = [by_name[w.column.name][start:stop] for w, e in zip(written, expressions, strict=True) if e.startswith("?")]
        if written:
            told = self._changes(written, expressions, values, start, stop) if self.ops.tells_changes else {}
            self._change(statement, values, start, stop, UPDATED, UNCHANGED)
            self.outcomes.changes.update({op: said for op, said in told.items() if self.outcomes.kinds[op] == UPDATED})
        else:
            self.outcomes.kinds[start:stop] = [UNCHANGED] * (stop - start)
            self._give_ids(start, stop, [id_of(self.table, self.ops.found[op]) for op in range(start, stop)])

    def _changes(self, written: list[Written], expressions: list[str], values: list[Any], start: int, stop: int) -> dict[int, str]:
        """Tell of the rows of a run that differ what is about to change in them."""
        at = sql.at(self.table, self.ops.entity.identity)
        compared = ", ".join(sql.compared([w.column for w in written], expressions))
        statement = f"SELECT {compared} FROM {self.table.quoted} WHERE {at}"
        rows = zip(*zip(*self.ops.found[start:stop], strict=True), *values, strict=True)
        seen = (self.cursor.execute(statement, row).fetchone() for row in rows)
        return {op: told_changes(self.ops, written, one) for op, one in enumerate(seen, start) if one and any(one[::3])}

    def _change(self, statement: str, values: list[Any], start: int, stop: int, changed: str, unchanged: str) -> None:
        """Change known rows, telling those that did change from those that did not by the number of changes so far."""
        connection, kinds = self.connection, self.outcomes.kinds
        found = self.ops.found[start:stop]
        last = start

        def feed() -> Iterator[tuple[Any, ...]]:
            nonlocal last
            seen = connection.total_changes
            for last, row in enumerate(zip(*zip(*found, strict=True), *values, strict=True), start):
                yield row
                now = connection.total_changes
                if now != seen:
                    kinds[last], seen = changed, now

        kinds[start:stop] = [unchanged] * (stop - start)
        rows = feed()
        while True:
            try:
                self.cursor.executemany(statement, rows)
                break
            except sqlite3.Error as error:
                refuse(connection, self.ops, self.outcomes, last, self.ops.kinds[last], error)
        if unchanged == REFUSED:
            for op in range(start, stop):
                if kinds[op] == REFUSED and op not in self.outcomes.faults:
                    self.outcomes.faults[op] = [forbidden(self.ops, op, is_found=False)]
        self._give_ids(start, stop, [id_of(self.table, row) for row in found])
