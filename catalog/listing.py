"""Lists of batches, newest first, in pages that new batches do not shift."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Engine, or_, select

from catalog.batches import _batch
from catalog.database import reading
from catalog.keys import Key
from catalog.states import Batch, State
from catalog.tables import batch_files, batches, control_names, keys, runs


@dataclass(frozen=True, slots=True)
class Filters:
    """Which batches are wanted; what is None does not matter."""

    state: State | None = None
    control: str | None = None  # digest
    creation_path: str | None = None
    since: datetime | None = None  # made at this instant or later
    key_id: str | None = None  # made by this key
    file: str | None = None  # the digest of one of its files
    text: str | None = None  # that its file's name or its comment holds, in letters of either case; or its id


Place = tuple[datetime, int]  # when a batch was made, and its id: where a page ends, and the next begins


def newest(engine: Engine, key: Key, filters: Filters, *, after: Place | None = None, limit: int = 50) -> list[Batch]:
    """Return at most `limit` batches that the key may see, newest first, beginning after the place where the page before ended."""
    joined = batches.outerjoin(runs, (runs.c.batch_id == batches.c.id) & (runs.c.number == batches.c.run))
    query = (
        select(*batches.c, *(c.label(f"run_{c.name}") for c in runs.c))
        .select_from(joined)
        .where(*_conditions(key, filters, engine.dialect.name))
    )
    if after is not None:
        made_at, batch_id = after
        # The first of the two conditions is what an index can begin at.
        query = query.where(batches.c.created_at <= made_at, or_(batches.c.created_at < made_at, batches.c.id < batch_id))
    with reading(engine) as connection:
        rows = connection.execute(query.order_by(batches.c.created_at.desc(), batches.c.id.desc()).limit(limit)).all()
    return [_batch(row, None) for row in rows]


def _conditions(key: Key, filters: Filters, dialect: str) -> list[ColumnElement[Any]]:
    wanted = {"state": filters.state, "control": filters.control, "creation_path": filters.creation_path, "key_id": filters.key_id}
    conditions: list[ColumnElement[Any]] = [batches.c[name] == value for name, value in wanted.items() if value is not None]
    if filters.since is not None:
        conditions.append(batches.c.created_at >= filters.since)
    if filters.file is not None:
        conditions.append(batches.c.id.in_(select(batch_files.c.batch_id).where(batch_files.c.digest == filters.file)))
    if filters.text is not None:
        conditions.append(_holds(filters.text, dialect))
    if not key.can("read:all"):
        conditions.append(batches.c.key_id == key.id)
    return conditions


def _holds(text: str, dialect: str) -> ColumnElement[bool]:
    columns = (batches.c.file_name, batches.c.comment)
    # SQLite's LIKE takes letters of either case by itself, the same ones as its lower(), which would take most of the time.
    in_words = [c.contains(text, autoescape=True) if dialect == "sqlite" else c.icontains(text, autoescape=True) for c in columns]
    is_id = [batches.c.id == int(text)] if text.isascii() and text.isdecimal() and len(text) <= 16 else []
    return or_(*in_words, *is_id)


@dataclass(frozen=True, slots=True)
class Labels:
    """What the control files and keys of some batches are called."""

    controls: Mapping[str, str]  # by digest: the names that point to it now, with commas between them
    keys: Mapping[str, str]  # by id


def labels(engine: Engine, of: Iterable[Batch]) -> Labels:
    """Return the names of what these batches refer to by id."""
    found = list(of)
    digests, ids = {batch.control for batch in found}, {batch.key_id for batch in found}
    named = select(control_names.c.digest, control_names.c.name).where(control_names.c.digest.in_(digests)).order_by(control_names.c.name)
    by_digest: dict[str, str] = {}
    with reading(engine) as connection:
        for digest, name in connection.execute(named):
            by_digest[digest] = f"{by_digest[digest]}, {name}" if digest in by_digest else name
        by_id = {row.id: row.name for row in connection.execute(select(keys.c.id, keys.c.name).where(keys.c.id.in_(ids)))}
    return Labels(by_digest, by_id)
