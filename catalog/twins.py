"""A batch that was left before its end, found again by who wants the very same."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Engine, select

from catalog.database import reading
from catalog.states import Options, State
from catalog.tables import batch_files, batches, runs

_TO_COME = (State.SCHEDULED, State.RUNNING)


def unfinished(engine: Engine, key_id: str, control: str, files: Mapping[str, str], options: Options) -> int | None:
    """Return the oldest batch of this maker that waits or runs with this control file, these files (digests by name) and these options."""
    like = select(batches.c.id).join(runs, (runs.c.batch_id == batches.c.id) & (runs.c.number == batches.c.run))
    like = like.where(batches.c.key_id == key_id, batches.c.control == control, batches.c.state.in_(_TO_COME)).where(
        runs.c.mode == options.mode,
        runs.c.execution == options.execution,
        runs.c.is_ordered == options.is_ordered,
        runs.c.has_event_handlers == options.has_event_handlers,
        runs.c.start_at.is_not_distinct_from(options.start_at),
    )
    with reading(engine) as connection:
        for batch_id in connection.scalars(like.order_by(batches.c.place)).all():
            held = select(batch_files.c.name, batch_files.c.digest).where(batch_files.c.batch_id == batch_id)
            if {row.name: row.digest for row in connection.execute(held)} == dict(files):
                return int(batch_id)
    return None
