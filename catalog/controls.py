"""Control files, kept by digest, and the names that point to them."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Select, bindparam, or_, select

import clock
from catalog.database import insert, reading, writing
from catalog.keys import Key
from catalog.states import TableKey
from catalog.tables import control_comments, control_moves, control_names, controls

# A row for each name, or one without. Made once, since putting a statement together takes longer than to run it.
_WITH_NAMES = select(*controls.c, control_names.c.name).outerjoin(control_names).order_by(control_names.c.name)
_BY_DIGEST = _WITH_NAMES.where(controls.c.digest == bindparam("p_wanted"))
_NAMED = select(control_names.c.digest).where(control_names.c.name == bindparam("p_wanted")).scalar_subquery()
_BY_EITHER = _WITH_NAMES.where(or_(controls.c.digest == bindparam("p_wanted"), controls.c.digest == _NAMED))


@dataclass(frozen=True, slots=True)
class Control:
    """A control file, as far as the catalog knows it; its bytes are in the spool."""

    digest: str
    comment: str  # of its first upload
    key_id: str  # who uploaded it first
    created_at: datetime
    tables: tuple[TableKey, ...]  # that its entities write: the lanes
    names: tuple[str, ...]  # that point to it now, sorted


@dataclass(frozen=True, slots=True)
class Name:
    """A name that points to a control file."""

    name: str
    digest: str
    moved_at: datetime


@dataclass(frozen=True, slots=True)
class Entry:
    """A control file with one of the comments that it was uploaded with."""

    digest: str
    comment: str
    created_at: datetime  # of the first upload with this comment


def add(engine: Engine, digest: str, *, key_id: str, tables: Iterable[TableKey], comment: str = "", name: str | None = None) -> None:
    """Note a control file whose bytes are in the spool, with this comment, and move `name` to it. A repeated call changes nothing."""
    now = clock.now()
    row = {"digest": digest, "comment": comment, "key_id": key_id, "created_at": now, "tables": [list(t) for t in tables]}
    with writing(engine) as connection:
        connection.execute(insert(connection, controls).on_conflict_do_nothing(), row)
        entry = {"digest": digest, "comment": comment, "key_id": key_id, "created_at": now}
        entry["comment_digest"] = hashlib.sha256(comment.encode()).hexdigest()
        connection.execute(insert(connection, control_comments).on_conflict_do_nothing(), entry)
        if name is not None:
            _move(connection, name, digest, key_id, now)


def _move(connection: Connection, name: str, digest: str, key_id: str, now: datetime) -> None:
    moved = {"digest": digest, "key_id": key_id, "moved_at": now}
    upsert = insert(connection, control_names).on_conflict_do_update(
        index_elements=["name"], set_=moved, where=control_names.c.digest != digest
    )
    connection.execute(upsert, {"name": name} | moved)
    past = {"name": name, "digest": digest, "moved_at": now}
    connection.execute(insert(connection, control_moves).on_conflict_do_nothing(), past)


def get(engine: Engine, digest: str) -> Control | None:
    """Return the control file with this digest."""
    return _one(engine, _BY_DIGEST, digest)


def resolve(engine: Engine, digest_or_name: str) -> Control | None:
    """Return the control file with this digest, or the one that this name points to; no name looks like a digest."""
    return _one(engine, _BY_EITHER, digest_or_name)


def _one(engine: Engine, query: Select[Any], wanted: str) -> Control | None:
    with reading(engine) as connection:
        rows: Any = connection.execute(query, {"p_wanted": wanted}).all()
    if not rows:
        return None
    row = rows[0]
    tables = tuple((schema, table) for schema, table in row.tables)
    return Control(row.digest, row.comment, row.key_id, row.created_at, tables, tuple(r.name for r in rows if r.name is not None))


def names(engine: Engine) -> list[Name]:
    """Return every name and where it points, sorted by name."""
    query = select(control_names.c.name, control_names.c.digest, control_names.c.moved_at).order_by(control_names.c.name)
    with reading(engine) as connection:
        return [Name(*row) for row in connection.execute(query)]


def entries(engine: Engine, *, limit: int = 1000) -> list[Entry]:
    """Return the control files with their comments, newest first: one that came with two comments is there twice."""
    of = control_comments.c
    query = select(of.digest, of.comment, of.created_at).order_by(of.created_at.desc(), of.digest, of.comment_digest).limit(limit)
    with reading(engine) as connection:
        return [Entry(*row) for row in connection.execute(query)]


def versions(engine: Engine, name: str) -> list[Name]:
    """Return every control file that a name has pointed to, the newest first."""
    of = control_moves.c
    query = select(of.name, of.digest, of.moved_at).where(of.name == name).order_by(of.moved_at.desc())
    with reading(engine) as connection:
        return [Name(*row) for row in connection.execute(query)]


def is_anothers(engine: Engine, name: str, digest: str, key_id: str) -> bool:
    """Tell whether the name points to another control file than this one, and another key than this one has made it do so."""
    of = control_names.c
    with reading(engine) as connection:
        query = select(of.name).where(of.name == name, of.digest != digest, of.key_id != key_id)
        return connection.scalar(query) is not None


def was_named(engine: Engine, digest: str, name: str) -> bool:
    """Tell whether this name points, or ever pointed, to the control file."""
    query = select(control_moves.c.name).where(control_moves.c.name == name, control_moves.c.digest == digest)
    with reading(engine) as connection:
        return connection.scalar(query) is not None


def is_allowed(control: Control, key: Key) -> bool:
    """Tell whether a key may import with this control file: any, unless it is limited to some names and none of them points here."""
    limited = key.control_names
    return limited is None or not limited.isdisjoint(control.names)
