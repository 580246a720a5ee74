"""Helping with a batch that another worker carries out: inviting, and being invited. See engine.sharing and engine.hand."""

from __future__ import annotations

import logging
import time

from redis import Redis
from redis.exceptions import RedisError

from catalog import batches
from catalog.batches import Claim
from engine.hand import ReadOtherwise, lend_hand
from errors import ControlFileInvalid, DigestMismatch, DigestUnknown, SpoolFull, SpoolUnavailable, TargetUnavailable
from jobs import queues
from jobs.carry import Means
from jobs.order import order_of

WORTH_SECONDS = 3.0  # a run that seems to be over by then needs no help
PAUSE_SECONDS = 60.0  # how long nobody is invited after Redis could not be reached: asking it keeps the run waiting
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
    running = batches.running(means.catalog, batch_id)
    if running is None or not means.target.can_share_writing:
        return None
    watch = _Watch(means)
    try:
        plan, allowed = means.plans.get(running.control), means.limits.of(running.key_id)
        order, _ = order_of(means.settings, means.spool, running, plan, means.scratch, lambda: None, allowed)
        written = lend_hand(order, means.target, means.spool, means.worker, watch.should_leave, means.settings.heartbeat_seconds)
        log.info("batch %d: wrote %d chunks for another worker", batch_id, written)
    except TROUBLES as error:
        log.warning("batch %d: helps no more: %s", batch_id, error)
    return watch.claim


class _Watch:
    def __init__(self, means: Means) -> None:
        self.claim: Claim | None = None
        self._means, self._look_at = means, time.monotonic() + CLAIM_SECONDS

    def should_leave(self) -> bool:
        """Tell whether a hand is to stop, or can carry out a batch of its own, which it has claimed then."""
        if not self._means.is_stopping() and time.monotonic() >= self._look_at:
            self.claim = batches.claim(self._means.catalog, self._means.worker, self._means.settings.lease_seconds)
            self._look_at = time.monotonic() + CLAIM_SECONDS
        return self.claim is not None or self._means.is_stopping()
