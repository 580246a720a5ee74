"""A worker's lease on the batch that it carries out, renewed by a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from types import TracebackType
from typing import Self

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from catalog import batches
from catalog.batches import Beat, Claim, Counts
from errors import LeaseLost

log = logging.getLogger(__name__)


class Lease:
    """The right to carry one batch out."""

    def __init__(self, catalog: Engine, claim: Claim, lease_seconds: float) -> None:
        self.counts: Counts | None = None  # so far; the run sets it and the next, and the next heartbeat tells the catalog
        self.progress: float | None = None  # 0 to 1
        self.status_msg: str | None = None  # why the run is tried again; "" once it goes on
        self._catalog, self._claim, self._lease_seconds = catalog, claim, lease_seconds
        self._beat = Beat.CANCEL if claim.is_cancel_wanted else Beat.OK
        self._ends_at = time.monotonic() + lease_seconds

    def is_cancel_wanted(self) -> bool:
        """Tell whether somebody wants the batch stopped; LeaseLost where it is no longer this worker's."""
        if self._beat is Beat.LOST or time.monotonic() > self._ends_at:
            raise LeaseLost(f"the lease of batch {self._claim.batch_id} (fence {self._claim.fence}) is lost")
        return self._beat is Beat.CANCEL

    def renew(self) -> None:
        """Renew it, tell the catalog how far the run is, and learn whether to go on."""
        asked_at = time.monotonic()
        try:
            self._beat = batches.heartbeat(
                self._catalog, self._claim.batch_id, self._claim.fence, self._lease_seconds, self.progress, self.counts, self.status_msg
            )
        except SQLAlchemyError as error:
            # The catalog may be back before the lease ends; if it is not, is_cancel_wanted says that the lease is lost.
            log.warning("batch %d: the lease could not be renewed: %s", self._claim.batch_id, error)
            return
        if self._beat is not Beat.LOST:
            self._ends_at = asked_at + self._lease_seconds


class Heart:
    """Renews the lease that is held, every `heartbeat_seconds`, as long as the `with` block lasts.

    Its thread matters: a chunk may keep the database, and so the run, busy for longer than a lease lasts.
    """

    def __init__(self, catalog: Engine, lease_seconds: float, heartbeat_seconds: float) -> None:
        self._catalog, self._lease_seconds, self._heartbeat_seconds = catalog, lease_seconds, heartbeat_seconds
        self._held: Lease | None = None
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heart", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._is_over.set()
        self._thread.join()

    def hold(self, claim: Claim) -> Lease:
        """Begin to renew the lease of a batch claimed just now, in place of any other."""
        self._held = lease = Lease(self._catalog, claim, self._lease_seconds)
        return lease

    def release(self) -> None:
        """Renew nothing until the next claim."""
        self._held = None

    def _beat(self) -> None:
        while not self._is_over.wait(self._heartbeat_seconds):
            lease = self._held
            if lease is not None:
                lease.renew()
