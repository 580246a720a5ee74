"""Uploaded files: which digests the spool holds, and who may know of them."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine, or_, select

import clock
from catalog.database import insert, reading, writing
from catalog.keys import Key
from catalog.tables import batch_files, batches, control_pins, files, uploads


@dataclass(frozen=True, slots=True)
class StoredFile:
    """An uploaded file as one key may see it: of other keys' uploads it shows nothing."""

    digest: str
    size: int  # bytes
    names: tuple[str, ...]  # by which it was uploaded, sorted; a file put by its digest alone has none
    created_at: datetime  # of the first upload that the key may see
    used_at: datetime  # last, by whomever: it is kept for a time from then
    batches: tuple[int, ...]  # ids of the batches with it, oldest first


def add(engine: Engine, digest: str, size: int, *, key_id: str, name: str = "") -> None:
    """Note that a key has uploaded bytes that the spool holds now. A repeated call changes nothing but the time of their last use."""
    with writing(engine) as connection:
        note_upload(connection, digest, size, key_id=key_id, name=name)


def note_upload(connection: Connection, digest: str, size: int, *, key_id: str, name: str = "") -> None:
    """Do the same in a transaction that goes on."""
    now = clock.now()
    row = {"digest": digest, "size": size, "used_at": now}
    connection.execute(insert(connection, files).on_conflict_do_update(index_elements=["digest"], set_={"used_at": now}), row)
    upload = {"digest": digest, "key_id": key_id, "name": name, "created_at": now}
    connection.execute(insert(connection, uploads).on_conflict_do_nothing(), upload)


def find(engine: Engine, digest: str, key: Key) -> StoredFile | None:
    """Return an uploaded file; None where there is none, or this key may not see it: the caller cannot tell which."""
    sees_all = key.can("read:all")
    seen = select(uploads.c.name, uploads.c.created_at).where(uploads.c.digest == digest)
    used = select(batches.c.id).join(batch_files, batch_files.c.batch_id == batches.c.id).where(batch_files.c.digest == digest)
    if not sees_all:
        seen, used = seen.where(uploads.c.key_id == key.id), used.where(batches.c.key_id == key.id)
    with reading(engine) as connection:
        rows = connection.execute(seen).all()
        if not rows:
            return None
        kept = connection.execute(select(files.c.size, files.c.used_at).where(files.c.digest == digest)).one()
        ids = connection.scalars(used.group_by(batches.c.id, batches.c.created_at).order_by(batches.c.created_at, batches.c.id)).all()
    names = sorted({row.name for row in rows} - {""})
    return StoredFile(digest, int(kept.size), tuple(names), min(row.created_at for row in rows), kept.used_at, tuple(ids))


def controls_of(engine: Engine, digest: str) -> list[str]:
    """Return the digests of the control files by which batches with this file are read, those that their rows name included."""
    with_it = select(batches.c.control).join(batch_files, batch_files.c.batch_id == batches.c.id).where(batch_files.c.digest == digest)
    named = select(control_pins.c.digest).join(batch_files, batch_files.c.batch_id == control_pins.c.batch_id)
    with reading(engine) as connection:
        return list(connection.scalars(with_it.union(named.where(batch_files.c.digest == digest))))


@dataclass(frozen=True, slots=True)
class Listed:
    """A file as lists show it."""

    digest: str
    size: int  # bytes
    name: str  # by which it was uploaded; "" where by its digest alone
    created_at: datetime  # of that upload
    used_at: datetime


def newest(engine: Engine, key: Key, sought: str, limit: int) -> list[Listed]:
    """Return the uploads that the key may see, newest first: those whose digest begins so, or whose name holds it; all for ""."""
    query = select(files.c.digest, files.c.size, uploads.c.name, uploads.c.created_at, files.c.used_at).join_from(uploads, files)
    if sought:
        in_name = uploads.c.name.icontains(sought, autoescape=True)
        query = query.where(or_(in_name, files.c.digest.startswith(sought.lower(), autoescape=True)))
    if not key.can("read:all"):
        query = query.where(uploads.c.key_id == key.id)
    with reading(engine) as connection:
        found = connection.execute(query.order_by(uploads.c.created_at.desc(), uploads.c.digest).limit(limit))
        return [Listed(*row) for row in found]
