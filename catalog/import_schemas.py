"""Import schemas: control files that have a number, a description, an owner, and others who may use them or not."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, func, or_, select
from sqlalchemy.exc import IntegrityError

import clock
from catalog.database import reading, writing
from catalog.keys import Key
from catalog.tables import import_schemas
from errors import Refusal

MADE_BY_US = 2**52  # numbers from here on are those of generated schemas, which are nowhere stored


class Restriction(StrEnum):
    """Who may use a schema."""

    PRIVATE = "Private"  # the key that made it
    PUBLIC = "Public"  # all


@dataclass(frozen=True, slots=True)
class ImportSchema:
    """One schema; its YAML is in the spool."""

    id: int  # below 2^52
    name: str  # by which `!Name` lines call it
    description: str
    restriction: Restriction
    digest: str  # of the control file
    key_id: str  # its owner
    version: int  # counts its changes from 1
    created_at: datetime
    modified_at: datetime


def create(engine: Engine, key: Key, *, name: str, description: str, restriction: Restriction, digest: str) -> ImportSchema:
    """Make a schema. Refusal 409 where the key has one of this name."""
    now = clock.now()
    row = {"name": name, "description": description, "restriction": restriction, "digest": digest, "key_id": key.id}
    made = ImportSchema(secrets.randbelow(MADE_BY_US - 1) + 1, **row, version=1, created_at=now, modified_at=now)  # type: ignore[arg-type]
    _write(engine, name, lambda connection: connection.execute(import_schemas.insert(), {c.name: getattr(made, c.name) for c in _COLUMNS}))
    return made


_COLUMNS = tuple(import_schemas.c)


def visible(engine: Engine, key: Key) -> list[ImportSchema]:
    """Return the schemas that a key may use, sorted by name."""
    with reading(engine) as connection:
        rows = connection.execute(select(import_schemas).where(_is_visible(key)).order_by(import_schemas.c.name, import_schemas.c.id))
        return [_schema(row) for row in rows]


def get(engine: Engine, schema_id: int, key: Key) -> ImportSchema | None:
    """Return a schema that the key may use."""
    with reading(engine) as connection:
        row = connection.execute(select(import_schemas).where(import_schemas.c.id == schema_id, _is_visible(key))).one_or_none()
    return None if row is None else _schema(row)


def change(engine: Engine, schema: ImportSchema, key: Key, **changed: Any) -> ImportSchema:
    """Change a schema. Refusal 403 where it is another key's; 409 where the name is taken, or it was changed meanwhile."""
    _refuse_others(schema, key)
    values = {**changed, "version": schema.version + 1, "modified_at": clock.now()}
    this = import_schemas.update().where(import_schemas.c.id == schema.id, import_schemas.c.version == schema.version)
    if not _write(engine, changed.get("name", schema.name), lambda connection: connection.execute(this.values(values))).rowcount:
        raise Refusal(409, "schema_changed", f"The schema {schema.id} was changed meanwhile.")
    found = get(engine, schema.id, key)
    assert found is not None  # noqa: S101 - its owner sees it
    return found


def remove(engine: Engine, schema: ImportSchema, key: Key) -> None:
    """Delete a schema; batches that were made with it keep their control file. Refusal 403 where it is another key's."""
    _refuse_others(schema, key)
    with writing(engine) as connection:
        connection.execute(import_schemas.delete().where(import_schemas.c.id == schema.id))


def digest_named(connection: Connection, name: str, key_id: str) -> str | None:
    """Return the control file of the schema that a key means by a name: its own, else a public one.

    A schema of this very name is meant before one whose name differs in case and underscores.
    """
    is_mine = import_schemas.c.key_id == key_id
    # Databases fold letters each in its own way, but all count them alike.
    is_as_long = func.length(func.replace(import_schemas.c.name, "_", "")) == len(name.replace("_", ""))
    query = select(import_schemas.c.name, import_schemas.c.digest).where(or_(is_mine, _IS_PUBLIC), is_as_long)
    found = connection.execute(query.order_by(is_mine.desc(), import_schemas.c.created_at)).all()
    for like in (str, _fold):
        for known, digest in found:
            if like(known) == like(name):
                return str(digest)
    return None


def _fold(name: str) -> str:
    return name.replace("_", "").lower()


_IS_PUBLIC = import_schemas.c.restriction == Restriction.PUBLIC


def _is_visible(key: Key) -> ColumnElement[bool]:
    return or_(import_schemas.c.key_id == key.id, _IS_PUBLIC)


def _refuse_others(schema: ImportSchema, key: Key) -> None:
    if schema.key_id != key.id and not key.can("admin"):
        raise Refusal(403, "not_yours", "Only the key that made the schema may change it.")


def _write(engine: Engine, name: str, statement: Any) -> Any:
    try:
        with writing(engine) as connection:
            return statement(connection)
    except IntegrityError:
        raise Refusal(409, "name_taken", f"There is a schema {name[:80]!r} already.") from None


def _schema(row: Any) -> ImportSchema:
    return ImportSchema(**{**row._mapping, "restriction": Restriction(row.restriction)})
