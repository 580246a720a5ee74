"""Telling rows that are up to date already from what one query returns of them, without staging anything.

A row whose columns print as the record's texts holds what the record says: texts that the server gives are taken back as the very same
values. The reverse does not hold (`2.5` in a file is `2.50` in the table), so that whatever looks different is staged and compared there.
"""

from __future__ import annotations

from collections import Counter
from operator import eq
from typing import Any

import psycopg

from engine.ops import Ops
from engine.target.postgresql import sql
from engine.target.postgresql.checking import Checking
from engine.target.postgresql.copytext import literal

_MOST_IN_VAIN = 3  # chunks whose rows were up to date, but did not look so


class Comparing(Checking):
    """The part of a session that compares rows with records."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        """See Transaction."""
        super().__init__(connection)
        self._unchanged: set[tuple[str | None, str]] = set()  # tables most of whose rows were up to date in the last chunk
        self._in_vain: Counter[tuple[str | None, str]] = Counter()

    def renew(self) -> None:
        """See Session.renew."""
        super().renew()
        self._unchanged.clear()
        self._in_vain.clear()

    def _expect(self, ops: Ops, changed: int, size: int) -> None:
        """Learn from a set of known rows of which some were changed whether comparing will be worth it."""
        key = ops.entity.table.key
        if 2 * changed < size and self._in_vain[key] < _MOST_IN_VAIN:
            self._unchanged.add(key)

    def _compared(self, ops: Ops) -> dict[int, tuple[str | bytes | None, ...]]:
        """Return by op the locators of rows that hold what their records say; {} where few are expected to."""
        identity, key = ops.entity.identity, ops.entity.table.key
        if key not in self._unchanged or identity is None or not sql.is_by_any(identity) or not sql.is_indexed(identity):
            return {}
        compared = [w for w in ops.written if not w.is_key]
        with self._unless_about_data():
            self._cursor.execute(sql.find_whole(identity, [w.column for w in compared]), (literal(ops.keys[0]),))
            rows = self._cursor.fetchall()
        size = len(sql.results_of(identity))
        held = dict(zip([row[size] for row in rows], rows, strict=True))
        nothing = (None,) * (size + 1 + len(compared))
        found = [held.get(key, nothing) for key in ops.keys[0]]
        # What a row would be if it held what its record says, its locator being its own.
        wanted = zip(*([row[n] for row in found] for n in range(size)), ops.keys[0], *(w.values for w in compared), strict=True)
        same = {op: found[op][:size] for op, is_same in enumerate(map(eq, found, wanted)) if is_same}
        for written in compared:
            if written.on_update != "null":
                for op in written.empties:
                    same.pop(op, None)
        if 2 * len(same) < len(found):
            self._unchanged.discard(key)
            self._in_vain[key] += 1
        return same
