"""A catalog that was brought back and is older than the target beside it."""

from __future__ import annotations

from sqlalchemy import Engine, delete, null, select, update

import clock
from catalog.database import lock_queue, writing
from catalog.states import State
from catalog.tables import batches, lanes, runs, wants

CODE = "restored"
MESSAGE = "the catalog was brought back from a backup: this run may have been carried out since then; look before you send it again"


def give_up(engine: Engine) -> list[int]:
    """End all runs that wait or go on, as failed, and return their batches.

    What became of them after the backup nobody knows: the ledger of a run that is over is cleared away, so carrying one out again might
    do its work twice.
    """
    with writing(engine) as connection:
        lock_queue(connection)
        open_ones = select(batches.c.id, batches.c.run).where(batches.c.state.in_((State.SCHEDULED, State.RUNNING, State.HELD)))
        found = connection.execute(open_ones.order_by(batches.c.place)).all()
        for batch_id, number in found:
            ended = {"state": State.FAILED, "code": CODE, "status_msg": MESSAGE, "completed_at": clock.now()}
            connection.execute(update(runs).where(runs.c.batch_id == batch_id, runs.c.number == number).values(ended))
            # The fence rises, so that a worker that still holds the lease writes nothing more.
            over = {"state": State.FAILED, "fence": batches.c.fence + 1, "worker": null(), "lease_until": null()}
            connection.execute(update(batches).where(batches.c.id == batch_id).values(over))
        connection.execute(delete(wants))
        connection.execute(update(lanes).values(batch_id=null()))
    return [int(batch_id) for batch_id, _ in found]
