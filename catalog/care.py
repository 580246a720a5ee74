"""What an administrator wants to know of the catalog at a glance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, func, select

from catalog.database import reading
from catalog.states import State
from catalog.tables import batches, files, lanes, uploads


@dataclass(frozen=True, slots=True)
class Lease:
    """A batch that a worker has now."""

    batch_id: int
    worker: str
    lease_until: datetime
    tables: tuple[str, ...]  # whose lanes it holds


@dataclass(frozen=True, slots=True)
class Standing:
    """How much there is, and who works at what."""

    batches: Mapping[str, int]  # on the way, by state
    leases: Sequence[Lease]
    files: int  # that the spool holds
    file_bytes: int


def standing(engine: Engine) -> Standing:
    """Return how things stand."""
    moving = (State.UPLOADING, State.SCHEDULED, State.RUNNING, State.HELD)
    by_state = select(batches.c.state, func.count()).where(batches.c.state.in_(moving)).group_by(batches.c.state)
    leased = select(batches.c.id, batches.c.worker, batches.c.lease_until).where(batches.c.state == State.RUNNING).order_by(batches.c.place)
    held = select(lanes.c.batch_id, lanes.c.table_name).where(lanes.c.batch_id.is_not(None)).order_by(lanes.c.table_name)
    kept = select(func.count(), func.coalesce(func.sum(files.c.size), 0)).where(files.c.digest.in_(select(uploads.c.digest)))
    with reading(engine) as connection:
        tables: dict[int, list[str]] = {}
        for row in connection.execute(held):
            tables.setdefault(row.batch_id, []).append(row.table_name)
        leases = [Lease(row.id, row.worker, row.lease_until, tuple(tables.get(row.id, ()))) for row in connection.execute(leased)]
        count, size = connection.execute(kept).one()
        return Standing({row.state: row[1] for row in connection.execute(by_state)}, leases, int(count), int(size))
