"""The shapes of the target's tables as control files were last checked against them: see engine.control.drift."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, select

import clock
from catalog.database import insert, reading, writing
from catalog.tables import control_names, control_shapes


@dataclass(frozen=True, slots=True)
class Seen:
    """What a name points to, and the tables as its control file was last checked against them."""

    name: str
    digest: str
    shape: Mapping[str, Any] | None  # None: it was stored by a version that kept none
    checked_at: datetime | None


def note(engine: Engine, digest: str, shape: Mapping[str, Any]) -> None:
    """Note the tables that a stored control file was just checked against, in place of what was noted before."""
    row = {"shape": dict(shape), "checked_at": clock.now()}
    with writing(engine) as connection:
        upsert = insert(connection, control_shapes).on_conflict_do_update(index_elements=["digest"], set_=row)
        connection.execute(upsert, {"digest": digest} | row)


def seen(engine: Engine, limit: int) -> Sequence[Seen]:
    """Return what is known of the control files that names point to, those whose names moved last first."""
    query = (
        select(control_names.c.name, control_names.c.digest, control_shapes.c.shape, control_shapes.c.checked_at)
        .outerjoin(control_shapes, control_shapes.c.digest == control_names.c.digest)
        .order_by(control_names.c.moved_at.desc(), control_names.c.name)
        .limit(limit)
    )
    with reading(engine) as connection:
        return [Seen(*row) for row in connection.execute(query)]
