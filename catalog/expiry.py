"""Batches that are no longer kept: their rows go, their share of the installation's figures stays."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Engine, delete, func, or_, select

from catalog import metrics
from catalog.database import insert, writing
from catalog.states import State
from catalog.tables import batches, metadata, runs, tallies

_AT_ONCE = 200
_ENDS = tuple(state for state in State if state.is_over)


def expire_batches(engine: Engine, before: datetime) -> list[int]:
    """Delete batches whose last run ended before then, or made before then and never scheduled; return them, at most some hundred."""
    with writing(engine) as connection:
        # The lock makes PostgreSQL look again at one that is being scheduled just now.
        old = select(batches.c.id).where(_is_old(before)).order_by(batches.c.created_at).limit(_AT_ONCE)
        found = list(connection.scalars(old.with_for_update()))
        if found:
            _keep_figures(connection, found)
            _delete(connection, found)
    return found


def _is_old(before: datetime) -> ColumnElement[bool]:
    last = select(func.max(func.coalesce(runs.c.completed_at, runs.c.scheduled_at))).where(runs.c.batch_id == batches.c.id)
    has_ended = batches.c.state.in_(_ENDS) & (func.coalesce(last.scalar_subquery(), batches.c.created_at) <= before)
    return or_(has_ended, (batches.c.state == State.UPLOADING) & (batches.c.created_at <= before))


def _keep_figures(connection: Connection, found: list[int]) -> None:
    """Add what these batches count for to the tallies, so that no counter ever falls."""
    for family in metrics.counted(connection, runs.c.batch_id.in_(found)):
        for sample in family.samples:
            if sample.value:
                row = {"name": family.name + sample.suffix, "labels": metrics.labels_text(sample.labels), "value": sample.value}
                adding = insert(connection, tallies).values(row)
                added = adding.on_conflict_do_update(
                    index_elements=["name", "labels"], set_={"value": tallies.c.value + adding.excluded.value}
                )
                connection.execute(added)


def _delete(connection: Connection, found: list[int]) -> None:
    """Delete the batches, and before them what refers to them."""
    for table in reversed(metadata.sorted_tables):
        for key in table.foreign_keys:
            if key.column is batches.c.id:
                connection.execute(delete(table).where(key.parent.in_(found)))
    connection.execute(delete(batches).where(batches.c.id.in_(found)))
