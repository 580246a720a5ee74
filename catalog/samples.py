"""How far a run was at each sign of life of its worker: what a chart over time is drawn from."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine, select

import clock
from catalog.database import insert, reading
from catalog.states import Counts
from catalog.tables import run_samples


@dataclass(frozen=True, slots=True)
class Sample:
    """Counts of a run at an instant."""

    at: datetime
    input: int  # records read by then
    errors: int


def note(connection: Connection, batch_id: int, run: int, counts: Counts) -> None:
    """Note how far a run is now."""
    row = {"batch_id": batch_id, "run": run, "at": clock.now(), "input": counts.input, "errors": counts.errors}
    connection.execute(insert(connection, run_samples).on_conflict_do_nothing(), row)


def of_run(engine: Engine, batch_id: int, run: int) -> list[Sample]:
    """Return the samples of a run, oldest first."""
    of = run_samples.c
    query = select(of.at, of.input, of.errors).where(of.batch_id == batch_id, of.run == run).order_by(of.at)
    with reading(engine) as connection:
        return [Sample(*row) for row in connection.execute(query)]
