"""Markers: what the parts of an installation have proved to be, so that a process that sees another spool or target is found out."""

from sqlalchemy import Engine, select

import clock
from catalog.database import insert, reading, writing
from catalog.tables import markers


def record_marker(engine: Engine, part: str, value: str) -> str:
    """Remember the marker of a part (`spool`, ...) unless one is known, and return the one that is known now.

    Whoever gets another value back than it gave does not see the same part as whoever came first.
    """
    with writing(engine) as connection:
        row = {"part": part, "value": value, "created_at": clock.now()}
        connection.execute(insert(connection, markers).on_conflict_do_nothing(), row)
        return str(connection.scalar(select(markers.c.value).where(markers.c.part == part)))


def marker(engine: Engine, part: str) -> str | None:
    """Return the marker remembered for a part, or None."""
    with reading(engine) as connection:
        value = connection.scalar(select(markers.c.value).where(markers.c.part == part))
    return None if value is None else str(value)
