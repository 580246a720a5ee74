"""A worker's lease on a batch, renewed by a thread of its own while the batch is carried out."""

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
    """Renews the lease of a claimed batch every `heartbeat_seconds`, tells the catalog how far it is, and learns whether to go on.

    The thread matters: a chunk may keep the database, and so the run, busy for longer than a lease lasts.
    """

    def __init__(self, catalog: Engine, claim: Claim, lease_seconds: float, heartbeat_seconds: float) -> None:
        self.counts: Counts | None = None  # so far; the run sets it and the next, and the next heartbeat tells the catalog
        self.progress: float | None = None  # 0 to 1
        self._catalog, self._claim = catalog, claim
        self._lease_seconds, self._heartbeat_seconds = lease_seconds, heartbeat_seconds
        self._ends_at = time.monotonic() + lease_seconds
        self._beat = Beat.CANCEL if claim.is_cancel_wanted else Beat.OK
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"lease of batch {claim.batch_id}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._is_over.set()
        self._thread.join()

    def is_cancel_wanted(self) -> bool:
        """Tell whether somebody wants the batch stopped; LeaseLost where it is no longer this worker's."""
        if self._beat is Beat.LOST or time.monotonic() > self._ends_at:
            raise LeaseLost(f"the lease of batch {self._claim.batch_id} (fence {self._claim.fence}) is lost")
        return self._beat is Beat.CANCEL

    def _renew(self) -> None:
        while not self._is_over.wait(self._heartbeat_seconds):
            asked_at = time.monotonic()
            try:
                self._beat = batches.heartbeat(
                    self._catalog, self._claim.batch_id, self._claim.fence, self._lease_seconds, self.progress, self.counts
                )
            except SQLAlchemyError as error:
                # The catalog may be back before the lease ends; if it is not, is_cancel_wanted says that the lease is lost.
                log.warning("batch %d: the lease could not be renewed: %s", self._claim.batch_id, error)
                continue
            if self._beat is Beat.LOST:
                return
            self._ends_at = asked_at + self._lease_seconds
