"""The queue: which scheduled batch a worker may run next, and its lease on it.

A lane is the imports of one table of the target. A batch runs only while it holds all lanes of the tables it writes, so imports of one
table run one after another, in the order of their scheduling. A waiting batch has a row in `wants` for each of its lanes; a claim turns
them into `lanes.batch_id`, handing back turns those into `wants` again, at the old place.
"""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, and_, delete, exists, func, literal, or_, select, tuple_, update
from sqlalchemy.sql.expression import bindparam

import clock
from catalog.database import insert, lock_queue, reading, writing
from catalog.schedule import want
from catalog.states import Beat, Claim, Counts, Execution, Mode, Options, State, TableKey
from catalog.tables import batches, lanes, runs, wants


def claim(engine: Engine, worker: str, lease_seconds: float) -> Claim | None:
    """Take the oldest batch that can run now, with all its lanes, for `lease_seconds`; None where none can.

    `worker` says who holds the lease, for people to read. The fence is one higher than that of any earlier holder.
    """


def heartbeat(engine: Engine, batch_id: int, fence: int, lease_seconds: float, progress: float | None = None, counts: Counts | None = None) -> Beat:
    """Renew the lease; note how far the run is where that is given (`progress` from 0 to 1, `counts` so far); tell whether to go on."""


def add_tables(engine: Engine, batch_id: int, fence: int, tables: Collection[TableKey]) -> bool:
    """Take more lanes for a running batch, all or none, without waiting.

    False: one of them is held, or an older batch waits for it, or the lease is lost. Nothing has changed; stop, and `hand_back` with these
    tables, so that the next claim has all lanes at once. (Waiting here while holding lanes could wait for ever.)
    """


def hand_back(engine: Engine, batch_id: int, fence: int, *, tables: Collection[TableKey] = (), is_counted: bool = True) -> bool:
    """Put a running batch back into the queue, at its old place, its lanes free. False: the lease was lost, nothing has changed.

    `tables` are wanted from now on, too. `is_counted` False takes the attempt out of the run's count: it was stopped, it did not fail.
    """


def hand_back_expired(engine: Engine) -> list[int]:
    """Put every running batch whose lease is over back into the queue, at its old place; return their ids, to be announced again."""


def finish(
    engine: Engine,
    batch_id: int,
    fence: int,
    *,
    state: State,
    counts: Counts,
    status_msg: str = "",
    code: str = "",
    results_digest: str | None = None,
    results_size: int | None = None,
) -> bool:
    """End a run for good (`completed`, `failed` or `cancelled`) and free its lanes. False: the lease was lost, nothing has changed.

    Raises CountLawBroken where the counts do not add up.
    """


def waiting(engine: Engine, limit: int = 1000) -> list[int]:
    """Return the ids of the scheduled batches whose start time has come, in the order of their scheduling."""
