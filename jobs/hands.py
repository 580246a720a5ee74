"""Helping with a batch that another worker carries out: inviting, and being invited. See engine.sharing and engine.hand."""

from __future__ import annotations

import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

from redis import Redis
from redis.exceptions import RedisError

from catalog import batches
from catalog.batches import Claim
from engine.hand import ReadOtherwise, lend_hand
from engine.order import RunOrder
from errors import ControlFileInvalid, DigestMismatch, DigestUnknown, SpoolFull, SpoolUnavailable, TargetUnavailable
from jobs import queues
from jobs.carry import Means
from jobs.order import order_of

USUALLY = 4  # other workers that may help with one batch, where the setting does not say
WORTH_SECONDS = 3.0  # a run that seems to be over by then needs no help
PAUSE_SECONDS = 60.0  # how long nobody is invited after Redis could not be reached: asking it keeps the run waiting
AT_ONCE = 2  # hands of a worker: one converts while the other waits for the server
LOOK_SECONDS = 0.5  # how long a worker watches the processors before it helps
CLAIM_SECONDS = 1.0  # how often a hand looks whether a batch can be claimed, which comes first
TROUBLES = (ControlFileInvalid, DigestMismatch, DigestUnknown, ReadOtherwise, SpoolFull, SpoolUnavailable, TargetUnavailable, OSError)

log = logging.getLogger(__name__)


class Invitations:
    """Asks other workers for help, by Redis."""

    def __init__(self, redis: Redis, most: int) -> None:
        """`most`: how many may help with one batch."""
        self._redis, self._most = redis, most
        self._not_before = float("-inf")

    def send(self, batch_id: int, present: int, seconds_left: float) -> None:
        """Ask for as many more as there may be beside those that are present, if the run seems to need so long that it is worth it."""
        if present >= self._most or seconds_left < WORTH_SECONDS or time.monotonic() < self._not_before:
            return
        try:
            queues.invite(self._redis, batch_id, self._most, present)
        except RedisError as error:
            log.warning("batch %d: nobody can be asked for help: %s", batch_id, error)
            self._not_before = time.monotonic() + PAUSE_SECONDS


def help_with(means: Means, batch_id: int) -> Claim | None:
    """Write chunks of a running batch, until nothing is to be done there, or a batch could be claimed: return that."""
    if not means.target.can_share_writing or (means.settings.hands is None and idle_processors() < 1):
        return None
    running = batches.running(means.catalog, batch_id)
    if running is None:
        return None
    watch = _Watch(means)
    try:
        plan, allowed = means.plans.get(running.control), means.limits.of(running.key_id)
    except TROUBLES as error:
        log.warning("batch %d: cannot be helped with: %s", batch_id, error)
        return None
    order, _ = order_of(means.settings, means.spool, running, plan, means.scratch, lambda: None, allowed)
    with ThreadPoolExecutor(AT_ONCE, "hand") as pool:
        written = sum(pool.map(lambda _: _help(means, order, watch), range(AT_ONCE)))
    log.info("batch %d: wrote %d chunks for another worker", batch_id, written)
    return watch.claim


def idle_processors() -> float:
    """Return how many processors of this machine were idle for some time just now; all, where the system does not tell.

    Whoever helps on a busy machine takes from those who are at work there: two workers and the database on two cores are slower than one.
    """
    try:
        before = _ticks()
        time.sleep(LOOK_SECONDS)
        idle, all_of_them = (after - then for after, then in zip(_ticks(), before, strict=True))
    except OSError:
        return float(os.cpu_count() or 1)
    return (os.cpu_count() or 1) * idle / max(all_of_them, 1)


def _ticks() -> tuple[int, int]:
    """Return the clock ticks that all processors have been idle, and all there were, since the start: the first line of /proc/stat."""
    ticks = [int(text) for text in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(ticks[3:5]), sum(ticks)  # the 4th and 5th: idle, and idle until a disk answers


def _help(means: Means, order: RunOrder, watch: _Watch) -> int:
    """Be one hand; return how many chunks it wrote. What goes wrong ends the help, and is for the run's holder to meet again."""
    try:
        return lend_hand(order, means.target, means.spool, means.worker, watch.should_leave, means.settings.heartbeat_seconds)
    except TROUBLES as error:
        log.warning("batch %d: helps no more: %s", order.batch_id, error)
    except (AssertionError, LookupError, TypeError, ValueError):
        log.exception("batch %d: helps no more after an internal error", order.batch_id)
    watch.leave()
    return 0


class _Watch:
    """Tells the hands of this worker when to leave: when it is to stop, one of them has failed, or a batch could be claimed."""

    def __init__(self, means: Means) -> None:
        self.claim: Claim | None = None
        self._means, self._look_at = means, time.monotonic() + CLAIM_SECONDS
        self._is_over = False
        self._lock = Lock()

    def leave(self) -> None:
        """Have all leave."""
        self._is_over = True

    def should_leave(self) -> bool:
        """Tell whether to leave, looking for a batch now and then."""
        with self._lock:
            if not self._is_left() and time.monotonic() >= self._look_at:
                self.claim = batches.claim(self._means.catalog, self._means.worker, self._means.settings.lease_seconds)
                if self.claim is not None:
                    self._means.heart.hold(self.claim)  # another hand of this worker may still be in a long chunk
                self._look_at = time.monotonic() + CLAIM_SECONDS
            return self._is_left()

    def _is_left(self) -> bool:
        return self._is_over or self.claim is not None or self._means.is_stopping()
