"""Turns: work that one process at a time does for all, such as the sweep."""

from datetime import timedelta

from sqlalchemy import Engine, delete, or_

import clock
from catalog.database import insert, writing
from catalog.tables import markers


def take(engine: Engine, part: str, holder: str, seconds: float) -> bool:
    """Take, or keep, the turn at `part` for so many seconds; False where another holder has it."""
    now = clock.now()
    with writing(engine) as connection:
        put = insert(connection, markers)
        turn = timedelta(seconds=seconds)
        # One that is taken later than now was taken before the clock was set back.
        is_free = or_(markers.c.value == holder, markers.c.created_at <= now - turn, markers.c.created_at > now + turn)
        row = {"part": f"turn:{part}", "value": holder, "created_at": now}
        taken = put.on_conflict_do_update(index_elements=["part"], set_={"value": holder, "created_at": now}, where=is_free)
        return connection.execute(taken.returning(markers.c.part), row).one_or_none() is not None


def give_up(engine: Engine, part: str, holder: str) -> None:
    """End one's turn, so that the next holder need not wait; does nothing where it is another's."""
    with writing(engine) as connection:
        connection.execute(delete(markers).where(markers.c.part == f"turn:{part}", markers.c.value == holder))
