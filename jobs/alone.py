"""Carrying a batch out without the service: its command is a worker for as long as the batch takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import gettempdir

from sqlalchemy import Engine

from catalog import batches
from engine.target import Target
from jobs.carry import Means, carry
from jobs.hold import Hold
from jobs.key_limits import KeyLimits
from jobs.lease import Heart
from jobs.plans import Plans
from settings import Settings
from spool import Spool

PAUSE_SECONDS = 0.2  # before it looks again whether the batch, which another worker has or whose lanes are taken, can be claimed


def carry_out(
    settings: Settings, catalog: Engine, store: Spool, target: Target, batch_id: int, worker: str, is_stopping: Callable[[], bool]
) -> None:
    """Return when the batch is over, or, handed back at a chunk border, once `is_stopping`.

    What waits before it is carried out first, oldest first, and what a dead worker left is taken over once its lease has run out: so the
    imports of one table keep their order, whoever carries them out. Raises TargetUnavailable, SpoolFull, SQLAlchemyError.
    """
    with Heart(catalog, settings.lease_seconds, settings.heartbeat_seconds) as heart:
        plans, scratch = Plans(store, target), Path(gettempdir())
        hold, limits = Hold(catalog), KeyLimits(catalog)
        means = Means(settings, catalog, store, target, plans, heart, worker, scratch, is_stopping, hold, limits, is_draining=False)
        while not is_stopping() and batches.is_moving(catalog, batch_id):
            batches.hand_back_expired(catalog)
            claim = batches.claim(catalog, worker, settings.lease_seconds)
            if claim is None:
                time.sleep(PAUSE_SECONDS)
            else:
                carry(means, claim)
