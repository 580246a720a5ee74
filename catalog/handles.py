"""Handles: names that clients choose for the files they send, each key for itself.

A file sent by a handle is kept for a time, or in a directory until it is given up. Only an import makes it a file as others are, which
`uploads` tells of and which is kept as they are.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import datetime
from itertools import count

from sqlalchemy import ColumnElement, Connection, Engine, delete, or_, select, update

import clock
from catalog.database import insert, reading, writing
from catalog.tables import handles
from errors import Refusal


@dataclass(frozen=True, slots=True)
class Handle:
    """A whole file as its handle knows it."""

    handle: str  # a UUID, in lower case
    directory: str | None  # None: it is kept for a time only
    name: str  # good for nothing but display; of the files in one directory no two have the same
    digest: str
    size: int  # bytes
    created_at: datetime
    expires_at: datetime | None  # None: it is kept until it is given up


_FIELDS = [handles.c[name] for name in Handle.__slots__]


def give(engine: Engine, key_id: str, wanted: Handle) -> Handle:
    """Note a file, whose bytes the spool holds by now, under its handle; return what is noted, in a directory perhaps with a number.

    A repeated call only begins the file's time anew. Refusal 409 `handle_taken` where the handle has another file, or is elsewhere.
    """
    this = _is(key_id, wanted.handle)
    with writing(engine) as connection:
        connection.execute(delete(handles).where(this, ~_is_live()))
        for number in count():
            if held := _find(connection, key_id, wanted.handle):
                if (held.digest, held.directory) != (wanted.digest, wanted.directory):
                    raise Refusal(409, "handle_taken", f"The handle {wanted.handle} has another file, or one in another directory.")
                connection.execute(update(handles).where(this).values(expires_at=wanted.expires_at))
                return replace(held, expires_at=wanted.expires_at)
            given = replace(wanted, name=wanted.name if wanted.directory is None else numbered(wanted.name, number))
            made = insert(connection, handles).on_conflict_do_nothing()
            if connection.execute(made, asdict(given) | {"key_id": key_id}).rowcount:
                return given
    raise AssertionError("there is always a next number")


def numbered(name: str, number: int) -> str:
    """Return the name of a file that comes to a directory where so many of its name are.

    >>> numbered("flights.csv", 0), numbered("flights.csv", 2), numbered("flights", 1)
    ('flights.csv', 'flights (2).csv', 'flights (1)')
    """
    stem, dot, ending = name.rpartition(".")
    if not number:
        return name
    return f"{stem} ({number}){dot}{ending}" if stem else f"{name} ({number})"


def find(engine: Engine, key_id: str, handle: str) -> Handle | None:
    """Return the file that a key knows by a handle; None where there is none (any more)."""
    with reading(engine) as connection:
        return _find(connection, key_id, handle)


def hold(connection: Connection, key_id: str, handle: str, digest: str) -> None:
    """Keep the sweep from a handle's file until this transaction has made it a batch's; Refusal 404 where it is there no more."""
    held = select(handles.c.digest).where(_is(key_id, handle), _is_live()).with_for_update()
    if connection.scalar(held) != digest:
        raise unknown(handle)


def listing(engine: Engine, key_id: str, directory: str | None, *, after: str = "", limit: int = 100) -> list[Handle]:
    """Return the files that a key knows by handles, in the order of these: those in a directory, or all; `after` a handle."""
    query = select(*_FIELDS).where(handles.c.key_id == key_id, handles.c.handle > after, _is_live())
    if directory is not None:
        query = query.where(handles.c.directory == directory)
    with reading(engine) as connection:
        return [Handle(*row) for row in connection.execute(query.order_by(handles.c.handle).limit(limit))]


def give_up(engine: Engine, key_id: str, handle: str) -> None:
    """End the time of a handle's file: the sweep deletes it, unless a batch has it. Refusal 404 where there is none."""
    # Its name is freed at once, for the next file of the directory.
    ended = {"expires_at": clock.now(), "directory": None}
    with writing(engine) as connection:
        if not connection.execute(update(handles).where(_is(key_id, handle), _is_live()).values(ended)).rowcount:
            raise unknown(handle)


def unknown(handle: str) -> Refusal:
    """Return the refusal of a handle that has no whole file, or none any more."""
    return Refusal(404, "handle_unknown", f"No whole file is known by the handle {handle}, or its time is over.")


def _find(connection: Connection, key_id: str, handle: str) -> Handle | None:
    row = connection.execute(select(*_FIELDS).where(_is(key_id, handle), _is_live())).one_or_none()
    return None if row is None else Handle(*row)


def _is(key_id: str, handle: str) -> ColumnElement[bool]:
    return (handles.c.key_id == key_id) & (handles.c.handle == handle)


def _is_live() -> ColumnElement[bool]:
    return or_(handles.c.expires_at.is_(None), handles.c.expires_at > clock.now())
