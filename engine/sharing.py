"""A run that is shared: its holder reads and offers the chunks, others (its hands) write them, and so does the holder in between.

What may be in flight together is told by the same footprints as for the holder's own writers (engine.writers), whoever writes: so the keys
that chunks have in common, and the order of the files, mean the same. What is done is told by the ledger alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from engine import offers
from engine.chunk import Chunk
from engine.hand import write_offered
from engine.ledger import LedgerEntry
from engine.offers import Offer
from engine.ops import SharedSession
from engine.plan import Action
from engine.readers import format_of
from engine.reading import Reading
from engine.target import Target
from engine.writers import Footprint
from engine.writing import Writing
from errors import TargetUnavailable

LOOK_SECONDS = 1.0  # how often it looks who helps; a run that is over before has nobody's help
LINGER_SECONDS = 2.0  # how long it goes on offering when nobody helps any more: a hand may come back at once
POLL_SECONDS = 0.005
MOST_UNFIT = 20  # after so many chunks in a row that cannot be shared nobody is asked for help any more
AHEAD = 2  # chunks offered for each hand: one that it writes, and one that lies ready
FORMATS = ("csv", "tsv", "jsonl", "json")


class Sharing:
    """The holder's side. Use from one thread only."""

    def __init__(self, target: Target, reading: Reading, writing: Writing, done: Callable[[LedgerEntry], None]) -> None:
        """`done` is told of each chunk that is committed."""
        self._target, self._reading, self._writing, self._done = target, reading, writing, done
        self._run, self._fence, self._help = writing.order.run, writing.fence, writing.order.help
        self._in_flight: dict[int, Footprint] = {}
        self._hands = 0
        self._workers = 0  # that the hands belong to
        self._session: SharedSession | None = None
        self._seen: dict[int, tuple[int, float]] = {}  # by hand: its signs of life, and when they were seen to have become so many
        self._look_at = time.monotonic() + LOOK_SECONDS
        self._helped_at = float("-inf")  # when somebody was last seen to help
        self._is_begun = False
        self._unfit = 0  # chunks, the last ones, that could not be shared

    def wants(self, chunk: Chunk, footprint: Callable[[], Footprint]) -> Footprint | None:
        """Return the footprint of the chunk read last, if it is to be offered."""
        if not self._has_help() or self._reading.place.offset is None:
            return None
        touched = footprint()
        if touched.is_shareable and not touched.is_alone:
            self._unfit = 0
            return touched
        self._unfit += 1
        return None

    def offer(self, chunk: Chunk, footprint: Footprint) -> None:
        """Offer the chunk read last, as soon as it can be written beside all that are in flight; until then, help."""
        while not self._has_room(footprint):
            self._collect()
            if not self._has_room(footprint):
                self.go_on()
        self._target.ask(offers.put, self._run, self._fence, Offer(self._reading.place, len(chunk), chunk.next_line))
        self._in_flight[chunk.number] = footprint

    def wait(self, is_leaving: bool = False) -> None:
        """Wait until all that was offered is written, and help; where the holder is leaving, only for what others have taken."""
        if is_leaving and self._in_flight:
            for chunk in self._target.ask(offers.withdraw, self._run, self._fence):
                self._in_flight.pop(chunk, None)
        while self._in_flight:
            self.go_on()

    def close(self) -> None:
        """Dismiss the hands, and give the session back."""
        if self._is_begun:
            with suppress(TargetUnavailable):  # the hands then leave when nothing comes
                self._target.ask(offers.clear, self._run, self._fence)
        if self._session is not None:
            self._target.give_back(self._session)

    # Hands ----------------------------------------------------------------------------------------------------------
    def _has_help(self) -> bool:
        if time.monotonic() >= self._look_at:
            self._look()
        return time.monotonic() - self._helped_at < LINGER_SECONDS and self._unfit < MOST_UNFIT

    def _look(self) -> None:
        """See who helps, ask for more, and dismiss those that give no sign of life."""
        now = time.monotonic()
        self._look_at = now + LOOK_SECONDS
        if self._help is None or not self._can_be_shared():
            self._look_at = float("inf")
            return
        if not self._is_begun:
            self._target.ask(offers.clear, self._run, self._fence - 1)  # what an earlier holder may have left
            self._is_begun = True
        if self._unfit < MOST_UNFIT:
            self._help.invite(self._workers, self._reading.place.file, self._reading.place.offset or 0)
        found = self._target.ask(offers.hands, self._run, self._fence)
        self._seen = {hand.number: (hand.beats, self._since(hand, now)) for hand in found}
        for hand in found:
            if now - self._seen[hand.number][1] > self._help.silent_seconds:
                self._target.ask(offers.dismiss, self._run, hand.number)
        connected = [hand.name for hand in found if hand.is_connected]
        self._hands, self._workers = len(connected), len(set(connected))
        if self._hands:
            self._helped_at = now
        if self._in_flight and (lost := self._target.ask(offers.lost, self._run, self._fence, list(self._in_flight))):
            raise TargetUnavailable(f"the offers of chunks {sorted(lost)} of run {self._run} are gone")

    def _can_be_shared(self) -> bool:
        return can_be_shared(self._target, self._reading, self._writing)

    def _since(self, hand: offers.Hand, now: float) -> float:
        beats, since = self._seen.get(hand.number, (-1, now))
        return since if beats == hand.beats else now

    # Chunks in flight -----------------------------------------------------------------------------------------------
    def go_on(self) -> None:
        """Note which chunks are committed, and write one that nobody has taken, or else wait a moment for those who have."""
        self._collect()
        if not self._in_flight:
            return
        if time.monotonic() >= self._look_at:
            self._look()
        if self._target.ask(offers.is_any_free, self._run, self._fence):
            self._session = self._session or self._target.shared_session()
            entry = write_offered(self._session, self._reading, self._writing)
            if entry is not None:
                self._note(entry)
                return
        time.sleep(POLL_SECONDS)

    def _collect(self) -> None:
        if self._in_flight:
            for entry in self._target.entries(self._run, self._in_flight):
                self._note(entry)

    def _note(self, entry: LedgerEntry) -> None:
        self._in_flight.pop(entry.chunk, None)
        self._done(entry)

    def _has_room(self, footprint: Footprint) -> bool:
        return len(self._in_flight) <= AHEAD * self._hands and all(map(footprint.can_go_beside, self._in_flight.values()))


def can_be_shared(target: Target, reading: Reading, writing: Writing) -> bool:
    """Tell whether chunks of a run may be written by others.

    Not where all is one transaction, or taken by groups; nor where what a file holds is known only from the lines before, as with `!Name`
    rows; nor where triggers, rules or cascades may write any table, since then no writer may remember what it has looked up.
    """
    order = writing.order
    if order.help is None or order.is_one_transaction or order.is_ordered or not target.can_share_writing:
        return False
    for index, file in enumerate(order.files):
        plan = reading.file_plan(index)
        if plan.entity is None or plan.action is None or format_of(plan, file.name) not in FORMATS:
            return False
        table = plan.entity.table
        if table.has_triggers or table.has_rewrites or (plan.action is Action.DELETE and table.referenced_by):
            return False
    return True
