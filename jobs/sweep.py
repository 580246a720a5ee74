"""The sweep: repairs what was lost, every few seconds, in a process of its own beside each worker.

RQ's own maintenance does not run while a worker is busy, and RQ's registries prove nothing: the catalog's leases decide. All sweeps but
one, whose turn it is, only give their worker's sign of life.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from catalog import batches, holds, idempotency, markers, turns
from catalog.batches import HeldLease
from errors import LadingError
from jobs import queues, retention
from settings import Settings
from spool import Spool

HINTS = 100  # the most hints that one sweep sends: a worker that is woken up claims whatever waits
RARE_SECONDS = 3600  # how often is deleted what is kept no longer

log = logging.getLogger(__name__)


@dataclass
class Sweep:
    """What a sweep works on."""

    catalog: Engine
    spool: Spool
    redis: Redis
    worker: str  # the name of the worker it stands beside
    settings: Settings
    alive_seconds: float = queues.ALIVE_SECONDS / 3
    _tidied_at: float = field(default=float("-inf"), init=False)
    _seen_at: dict[HeldLease, float] = field(default_factory=dict, init=False)  # when each was seen first; time.monotonic()

    def run(self, is_over: threading.Event, parent: int) -> None:
        """Go on until `is_over`, or until the parent process, the worker, has died. No outage of the catalog or of Redis ends it."""
        next_sweep = 0.0
        self._safely(self.compare_spool)
        while not is_over.is_set() and os.getppid() == parent:
            self._safely(self.say_alive)
            if time.monotonic() >= next_sweep:
                self._safely(self.sweep)
                next_sweep = time.monotonic() + self.settings.sweep_seconds
            is_over.wait(min(self.alive_seconds, self.settings.sweep_seconds))
        self._safely(lambda: queues.say_dead(self.redis, self.worker, self.spool.marker()))
        self._safely(lambda: turns.give_up(self.catalog, "sweep", self.worker))

    def compare_spool(self) -> None:
        """Log an error where this host sees another spool than the catalog knows: the files of batches would not be found here."""
        marker = self.spool.marker()
        if markers.record_marker(self.catalog, "spool", marker) != marker:
            log.error("SPOOL_URL is not the spool that the catalog knows: all web and worker processes must share one")

    def say_alive(self) -> None:
        """Tell that the worker lives, and which spool it sees."""
        queues.say_alive(self.redis, self.worker, self.spool.marker())

    def sweep(self) -> None:
        """Do all repairs once, if it is this sweep's turn."""
        if not turns.take(self.catalog, "sweep", self.worker, 3 * self.settings.sweep_seconds):
            return
        for batch_id in batches.hand_back_expired(self.catalog, self.silent()):
            log.warning("batch %d: its lease ran out, another worker takes it over", batch_id)
        self._safely(self.announce)
        if time.monotonic() - self._tidied_at >= RARE_SECONDS:
            self.tidy()
            self._tidied_at = time.monotonic()

    def silent(self) -> list[HeldLease]:
        """Return the leases that nobody has renewed for as long as they last, by a clock that nobody sets.

        The wall clock may be set back as a worker dies; its lease would look good for as much longer.
        """
        now = time.monotonic()
        self._seen_at = {lease: self._seen_at.get(lease, now) for lease in batches.held_leases(self.catalog)}
        return [lease for lease, seen_at in self._seen_at.items() if now - seen_at > self.settings.lease_seconds]

    def announce(self) -> None:
        """Send the hints again that Redis lost: of batches handed back, scheduled while Redis was down, or whose start time has come."""
        lost = queues.enqueue_lost(self.redis, batches.waiting(self.catalog, HINTS))
        if lost:
            log.info("sent %d hints again, the first for batch %d", len(lost), lost[0])

    def tidy(self) -> None:
        """Delete what is kept no longer, each kind for itself: an outage of one place keeps nothing of the others."""
        self._safely(self._forget_replies)
        self._safely(self._delete)

    def _delete(self) -> None:
        if holds.held_until(self.catalog) is not None:
            log.info("nothing is deleted: a backup is being made")
            return
        for step in retention.STEPS:
            self._safely(partial(step, self.catalog, self.spool, self.settings))

    def _forget_replies(self) -> None:
        replies = idempotency.forget_old(self.catalog, kept_hours=self.settings.idempotency_hours)
        if replies:
            log.info("deleted %d replies that were kept for repeated requests", replies)

    def _safely(self, step: Callable[[], object]) -> None:
        """Take a step; an outage is logged, and the next round tries again."""
        try:
            step()
        except (SQLAlchemyError, RedisError, OSError, LadingError) as error:
            log.warning("the sweep goes on after: %s", error)
