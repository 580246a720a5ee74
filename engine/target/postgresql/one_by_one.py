"""Taking ops one by one, by the row loop inside the server."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from engine import changes
from engine.ops import CREATED, DELETED, REFUSED, SKIPPED, UNCHANGED, UPDATED, Ops, Outcomes, Written
from engine.target.postgresql import refusals, rowloop
from engine.target.postgresql.finding import Finding


class OneByOne(Finding):
    """The part of a session that takes ops one by one."""

    def _loop(self, ops: Ops) -> Outcomes:
        """Take the ops one by one inside the server."""
        with self._unless_about_data():
            stage = self._make("stage", lambda name: rowloop.stage(name, ops))
            function = self._make("row_loop", lambda name: rowloop.function(name, stage, ops))
            self._copy_into(stage, rowloop.columns(ops))
            self._cursor.execute(f"SELECT * FROM {function}() ORDER BY 1")
            rows = self._cursor.fetchall()
        outcomes = Outcomes([REFUSED] * len(ops), [""] * len(ops))
        for op, outcome, row_id, state, message, constraint, column, detail, *said in rows:
            if outcome == REFUSED:
                refused = refusals.Refused(state, message, constraint or "", column or "", detail or "")
                outcomes.faults[op] = [refusals.fault_of(ops, op, refused)]
            elif outcome in (CREATED, UPDATED, UNCHANGED, DELETED):
                outcomes.kinds[op], outcomes.ids[op] = outcome, row_id or ""
                if outcome == UPDATED and ops.tells_changes:
                    outcomes.changes[op] = self._told(ops, ops.written, *said)
            else:
                outcomes.kinds[op] = SKIPPED if outcome[0] == rowloop.LATE_SKIPPED else REFUSED
                outcomes.faults[op] = [refusals.fault_of_outcome(ops, op, outcome)]
        return outcomes

    @staticmethod
    def _told(ops: Ops, written: Sequence[Written], said: str) -> str:
        """Return what the server said of a row's changes as results tell it; see sql.changes."""
        count, found = orjson.loads(said)
        return changes.told(ops, written, ((number - 1, old, new) for number, old, new in found), count)
