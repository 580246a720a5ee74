"""Write ops to SQLite, always exactly in their order: in runs of like ops, or one by one where more must be watched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.ops import LOOK_UP, Ops, Outcomes
from engine.target.sqlite.one_by_one import OneByOne
from engine.target.sqlite.runs import Runs

if TYPE_CHECKING:
    from engine.target.sqlite.session import SqliteSession


def write(session: SqliteSession, ops: Ops, is_each_checked: bool) -> Outcomes:
    """Carry out ops. `is_each_checked`: deferred foreign keys count for each record, instead of at the end."""
    table, deferred = ops.entity.table, session.deferred
    has_deferred = bool(deferred.outgoing(table) or (table.referenced_by and deferred.incoming(table)))
    if has_deferred and not is_each_checked:
        deferred.remember(table)
    one_by_one = OneByOne(session, ops, is_watched=has_deferred and is_each_checked)
    if ops.late or table.has_triggers or table.has_rewrites or (has_deferred and is_each_checked):
        for op in range(len(ops)):
            one_by_one.take(op)
        return one_by_one.outcomes
    runs = Runs(session, ops, one_by_one.outcomes)
    for kind, start, stop in runs.cut():
        if kind == LOOK_UP or not runs.can_take(kind, start):
            for op in range(start, stop):
                one_by_one.take(op)
        else:
            runs.take(kind, start, stop)
    return one_by_one.outcomes
