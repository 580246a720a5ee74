"""Lists of batches, newest first, in pages that new batches do not shift."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Engine, and_, or_, select

from catalog.batches import _batch
from catalog.database import reading
from catalog.keys import Key
from catalog.states import Batch, State
from catalog.tables import batches, runs


@dataclass(frozen=True, slots=True)
class Filters:
    """Which batches are wanted; what is None does not matter."""

    state: State | None = None
    control: str | None = None  # digest
    creation_path: str | None = None
    since: datetime | None = None  # made at this instant or later
    key_id: str | None = None  # made by this key


Place = tuple[datetime, int]  # when a batch was made, and its id: where a page ends, and the next begins


def newest(engine: Engine, key: Key, filters: Filters, *, after: Place | None = None, limit: int = 50) -> list[Batch]:
    """Return at most `limit` batches that the key may see, newest first, beginning after the place where the page before ended."""
    joined = batches.outerjoin(runs, (runs.c.batch_id == batches.c.id) & (runs.c.number == batches.c.run))
    query = select(*batches.c, *(c.label(f"run_{c.name}") for c in runs.c)).select_from(joined).where(*_conditions(key, filters))
    if after is not None:
        made_at, batch_id = after
        query = query.where(or_(batches.c.created_at < made_at, and_(batches.c.created_at == made_at, batches.c.id < batch_id)))
    with reading(engine) as connection:
        rows = connection.execute(query.order_by(batches.c.created_at.desc(), batches.c.id.desc()).limit(limit)).all()
    return [_batch(row, None) for row in rows]


def _conditions(key: Key, filters: Filters) -> list[ColumnElement[Any]]:
    wanted = {"state": filters.state, "control": filters.control, "creation_path": filters.creation_path, "key_id": filters.key_id}
    conditions: list[ColumnElement[Any]] = [batches.c[name] == value for name, value in wanted.items() if value is not None]
    if filters.since is not None:
        conditions.append(batches.c.created_at >= filters.since)
    if not key.can("read:all"):
        conditions.append(batches.c.key_id == key.id)
    return conditions
