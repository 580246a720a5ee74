"""A hand: a worker that writes chunks of a run that another one holds. See engine.offers and engine.sharing."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread

from engine import offers
from engine.faults import Fault
from engine.ledger import LedgerEntry
from engine.ops import SharedSession
from engine.order import RunOrder, Store
from engine.readers.collection import Compiled, Shape
from engine.reading import Reading
from engine.target import Target
from engine.uncollected import uncollected
from engine.writing import Found, Writing
from errors import LadingError, LeaseLost, TargetUnavailable

IDLE_SECONDS = 5.0  # a hand that finds nothing to do for so long leaves
POLLS_SECONDS = (0.002, 0.02)  # how soon it looks again: soon after a chunk, less often the longer nothing comes


class ReadOtherwise(LadingError):
    """A chunk that is offered is not the one that is found at its place: this worker's settings differ. Nothing was written."""


def write_offered(session: SharedSession, reading: Reading, writing: Writing) -> LedgerEntry | None:
    """Take an offered chunk, and write it; None where none is free."""

    def find() -> Found | None:
        offer = session.take(writing.order.run, writing.fence)
        if offer is None:
            return None
        chunk = reading.chunk_at(offer.place)
        if chunk is None or (len(chunk), chunk.next_line) != (offer.positions, offer.next_line):
            raise ReadOtherwise(f"chunk {offer.place.chunk} of run {writing.order.run} is read otherwise here: do the settings differ?")
        return chunk, writing.convert(chunk)

    return writing.write(session, find)


def lend_hand(order: RunOrder, target: Target, store: Store, name: str, should_leave: Callable[[], bool], beat_seconds: float = 5.0) -> int:
    """Write chunks of a run until it is over, nothing comes for a while, or `should_leave`, asked between chunks; return how many.

    Raises TargetUnavailable, ReadOtherwise and DigestMismatch; what was begun then is on offer again.
    """
    session = target.shared_session()
    try:
        joined = session.join(order.run, name)
        if joined is None:
            return 0
        number, fence = joined
        try:
            with uncollected(), _Beating(target, number, beat_seconds) as beating:
                return _Work(order, target, store, session, number, fence).until(lambda: should_leave() or beating.is_dismissed)
        finally:
            with suppress(TargetUnavailable):  # its row is then dropped with the run's
                target.ask(offers.leave, number)
    finally:
        session.rollback()
        target.give_back(session)


class _Beating:
    """Gives signs of life from a thread of its own, as long as the `with` block lasts: a chunk may take longer than a holder is patient."""

    def __init__(self, target: Target, number: int, seconds: float) -> None:
        self._target, self._number, self._seconds = target, number, seconds
        self.is_dismissed = False
        self._is_over = Event()
        self._thread = Thread(target=self._beat, name="hand", daemon=True)

    def __enter__(self) -> _Beating:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._is_over.wait(self._seconds):
            with suppress(TargetUnavailable):  # the hand itself soon finds that out
                self.is_dismissed = not self._target.ask(offers.beat, self._number)


class _Work:
    def __init__(self, order: RunOrder, target: Target, store: Store, session: SharedSession, number: int, fence: int) -> None:
        self._order, self._target, self._session, self._fence = order, target, session, fence
        self._reading = Reading(order, {}, lambda name: None, _refuse_shape)
        self._writing = Writing(order, store, self._reading, fence, number)

    def until(self, should_leave: Callable[[], bool]) -> int:
        """Write chunks; return how many."""
        for file in self._order.files:
            file.verify()
        written, pause, idle_at = 0, POLLS_SECONDS[0], time.monotonic()
        with suppress(LeaseLost):  # the run is over, or goes on under another holder
            while not should_leave() and time.monotonic() - idle_at < IDLE_SECONDS:
                is_free = self._target.ask(offers.is_any_free, self._order.run, self._fence)
                if is_free and write_offered(self._session, self._reading, self._writing) is not None:
                    written, pause, idle_at = written + 1, POLLS_SECONDS[0], time.monotonic()
                    continue
                time.sleep(pause)
                pause = min(2 * pause, POLLS_SECONDS[1])
        return written


def _refuse_shape(shape: Shape) -> Compiled | Fault:
    raise ReadOtherwise(f"records that name their entity, as {shape}, are never offered")
