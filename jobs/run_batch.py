"""What a message of the queue makes a worker's fork do: claim and carry out whatever waits, one batch after another."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from tempfile import gettempdir
from types import FrameType
from typing import Self

from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

import catalog
from catalog import batches
from catalog.batches import Claim
from engine.target import open_target
from errors import SpoolFull, TargetUnavailable
from jobs import hands, leftovers, queues
from jobs.carry import Means, carry
from jobs.hold import Hold
from jobs.key_limits import KeyLimits
from jobs.lease import Heart
from jobs.plans import Plans
from settings import Settings
from spool import open_spool

LINGER_SECONDS = 30.0  # how long a fork waits for more: it takes a batch in half the time that a fresh one needs
REDIS_SECONDS = 3.0  # a Redis that says nothing for so long, while it is not listened to, is taken to be dead
FORGET_AT_ONCE = 50  # hints of batches that were claimed without them
LISTEN_SECONDS = 0.5  # how long it listens before it looks whether it is to stop

log = logging.getLogger(__name__)
_prepared: tuple[Settings, str, int] | None = None
_is_stopping = False


def prepare(settings: Settings, worker: str) -> None:
    """Tell the forks to come their settings and their worker's name. Opens nothing: connections must not outlive a fork."""
    global _prepared
    _prepared = settings, worker, os.getpid()


def stop(_signal: int = 0, _frame: FrameType | None = None) -> None:
    """Have this process stop at the next chunk border; a signal handler, so it does nothing else."""
    global _is_stopping
    _is_stopping = True


def run(batch_id: int) -> None:
    """Carry out what waits, oldest first. That may be another batch than the one named, and it may be nothing any more."""
    log.debug("woken up by batch %d", batch_id)
    work()


def work(invited_to: int | None = None) -> None:
    """Carry out what waits, and help with the batch that this worker was invited to."""
    if _prepared is None:
        raise RuntimeError("prepare() was not called: batches are run by worker.py only")
    with Drain(*_prepared) as drain:
        drain.work(invited_to)


class Drain:
    """One fork's work. Its connections and compiled plans live as long as it does."""

    def __init__(self, settings: Settings, worker: str, parent: int) -> None:
        self._settings, self._worker, self._parent = settings, worker, parent
        self._redis = queues.connect(settings.redis_url, REDIS_SECONDS)
        self._catalog, self._spool = (
            catalog.connect(settings.catalog_url),
            open_spool(settings.spool_url, settings.spool_cache, settings.spool_cache_bytes),
        )
        self._target = open_target(settings.target_url)
        plans = Plans(self._spool, self._target)
        self._heart = Heart(self._catalog, settings.lease_seconds, settings.heartbeat_seconds)
        scratch = Path(gettempdir())  # for files without a name, which end with their process
        hold, limits = Hold(self._catalog), KeyLimits(self._catalog)
        most = hands.USUALLY if settings.hands is None else settings.hands
        invite = hands.Invitations(self._redis, most).send if most else None
        self._means = Means(
            settings, self._catalog, self._spool, self._target, plans, self._heart, worker, scratch, self.is_stopping, hold, limits, invite
        )
        self._invited_to: int | None = None  # the batch to help with when nothing can be claimed

    def __enter__(self) -> Self:
        self._heart.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._heart.__exit__(None, None, None)
        self._target.close()
        self._catalog.dispose()
        self._redis.close()

    def is_stopping(self) -> bool:
        """Tell whether to stop at the next chunk border: on SIGTERM, and when the worker has died and nobody could send it any more."""
        return _is_stopping or os.getppid() != self._parent

    def work(self, invited_to: int | None = None) -> None:
        """Claim and carry out batches until none has come for a while. An outage ends this; what waits is found again by the sweep."""
        self._invited_to = invited_to
        try:
            while not self.is_stopping():
                if not self._next() and not self._help() and not self._wait():
                    leftovers.clear(self._catalog, self._target, self._spool)
                    return
            # What was handed back, or has come since, need not wait for the sweep: one hint wakes a worker, which takes all.
            queues.enqueue_lost(self._redis, batches.waiting(self._catalog, 1))
        except RedisError as error:
            log.warning("Redis cannot be reached: %s", error)
        except (SQLAlchemyError, TargetUnavailable, SpoolFull, OSError) as error:
            log.error("stopped taking batches: %s", error)

    def _next(self) -> bool:
        """Claim the oldest batch that can run and carry it out, and all that can be claimed after it; False where there was none."""
        return self._carry(batches.claim(self._catalog, self._worker, self._settings.lease_seconds))

    def _carry(self, claim: Claim | None) -> bool:
        first = claim
        done: list[str] = []
        while claim is not None:
            done.append(str(claim.batch_id))
            claim = carry(self._means, claim)
            if len(done) == FORGET_AT_ONCE or claim is None:
                queues.forget(self._redis, done)
                done.clear()
        return first is not None

    def _help(self) -> bool:
        """Help with the batch that this worker was invited to, until another one can be claimed, and carry that out; False without both."""
        if self._invited_to is None:
            return False
        claim = hands.help_with(self._means, self._invited_to)
        if claim is None:
            self._invited_to = None
        return self._carry(claim)

    def _wait(self) -> bool:
        """Wait a little for a hint or an invitation; False where none came.

        Hints that are there already are taken away once one more look has found nothing: they are of batches that run elsewhere, or that
        wait for lanes, whose holder will claim them, or else the sweep announces them again.
        """
        try:
            seen = queues.hints(self._redis)
            if seen:
                if self._next():
                    return True
                queues.forget(self._redis, [name for name in seen if name.isdecimal()])  # others are for the worker to refuse
            until = time.monotonic() + LINGER_SECONDS
            while time.monotonic() < until and not self.is_stopping():
                if (came := queues.wait(self._redis, LISTEN_SECONDS)) is not None:
                    self._invited_to = came.invited_to
                    return came.is_ours
        except RedisError as error:
            log.warning("Redis cannot be reached: %s", error)
        return False
