"""Mail addresses that are told of the ends of batches which name none themselves: for each control file's name, and for all others."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import Engine, delete, or_, select

import clock
from catalog.database import insert, reading, writing
from catalog.tables import control_moves, default_addresses

EVERY = ""  # in place of a control file's name: batches of those that have no addresses of their own

Outcome = Literal["success", "failure"]


@dataclass(frozen=True, slots=True)
class Defaults:
    """Who is told of the batches of one control file, or of all others."""

    control: str  # a name, or EVERY
    success: tuple[str, ...]
    failure: tuple[str, ...]
    changed_at: datetime


def put(engine: Engine, control: str, success: Sequence[str], failure: Sequence[str], *, key_id: str) -> None:
    """Set the addresses of a control file's name, or of EVERY; without any they are forgotten."""
    row = {"success": list(success), "failure": list(failure), "key_id": key_id, "changed_at": clock.now()}
    with writing(engine) as connection:
        if success or failure:
            upsert = insert(connection, default_addresses).on_conflict_do_update(index_elements=["control"], set_=row)
            connection.execute(upsert, {"control": control} | row)
        else:
            connection.execute(delete(default_addresses).where(default_addresses.c.control == control))


def listed(engine: Engine) -> list[Defaults]:
    """Return all, sorted by name: EVERY first."""
    of = default_addresses.c
    with reading(engine) as connection:
        rows = connection.execute(select(of.control, of.success, of.failure, of.changed_at).order_by(of.control))
        return [Defaults(row.control, tuple(row.success), tuple(row.failure), row.changed_at) for row in rows]


def told_by_default(engine: Engine, digest: str, outcome: Outcome) -> list[str]:
    """Return who is told of such an end of a batch of this control file: as the names say that ever pointed to it, or else EVERY."""
    of = default_addresses.c
    its_names = select(control_moves.c.name).where(control_moves.c.digest == digest)
    query = select(of.control, of[outcome]).where(or_(of.control == EVERY, of.control.in_(its_names)))
    with reading(engine) as connection:
        rows = connection.execute(query).all()
    own = [addresses for control, addresses in rows if control != EVERY]
    chosen = own or [addresses for _, addresses in rows]
    return sorted({address for addresses in chosen for address in addresses})
