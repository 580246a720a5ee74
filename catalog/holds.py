"""A hold: until a given time nothing is deleted that a backup being made may still name."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Engine, delete

import clock
from catalog.database import insert, writing
from catalog.markers import marker
from catalog.tables import markers

_PART = "hold"


def hold(engine: Engine, until: datetime) -> None:
    """Begin a hold, or let one that there is end at another time."""
    with writing(engine) as connection:
        row = {"part": _PART, "value": until.isoformat(), "created_at": clock.now()}
        begin = insert(connection, markers).on_conflict_do_update(index_elements=["part"], set_={"value": row["value"]})
        connection.execute(begin, row)


def release(engine: Engine) -> None:
    """End the hold, if there is one."""
    with writing(engine) as connection:
        connection.execute(delete(markers).where(markers.c.part == _PART))


def held_until(engine: Engine) -> datetime | None:
    """Return when the hold ends; None where there is none, or none any more."""
    said = marker(engine, _PART)
    until = None if said is None else datetime.fromisoformat(said)
    return until if until is not None and until > clock.now() else None
