"""Writing one chunk: convert, apply, record, in a transaction of its own or in one that goes on. Whoever works on a run writes by this."""

from __future__ import annotations

from collections.abc import Callable

from engine import events, results
from engine.apply import Verdicts, apply
from engine.chunk import Chunk
from engine.convert import Context, Converted, convert, convert_keys
from engine.ledger import LedgerEntry
from engine.lookup import Resolver
from engine.ops import Session
from engine.order import RunOrder, Store
from engine.reading import Reading
from engine.results import Counts
from engine.segments import record

Found = tuple[Chunk, list[Converted]]


class Writing:
    """Writes chunks of one run under one fence."""

    def __init__(self, order: RunOrder, store: Store, reading: Reading, fence: int, hand: int = 0) -> None:
        """`hand`: the number of the hand that writes (see engine.offers); 0 is the run's holder itself."""
        self.order, self.fence = order, fence
        self._store, self._reading = store, reading
        self._resolver = Resolver(reading.written_from)
        self._mark = fence | hand << 32  # no two writers give segments the same name

    def convert(self, chunk: Chunk) -> list[Converted]:
        """Convert a chunk's blocks."""
        plan, context = self._reading.file_plan(chunk.file), self._context(chunk)
        return [convert(block, plan, chunk.lines, context) for block in chunk.blocks]

    def convert_keys(self, chunk: Chunk) -> list[Converted]:
        """Convert of a chunk's blocks only what tells which rows it touches."""
        plan, context = self._reading.file_plan(chunk.file), self._context(chunk)
        return [convert_keys(block, plan, chunk.lines, context) for block in chunk.blocks]

    def _context(self, chunk: Chunk) -> Context:
        return Context(now=self.order.started_at, batch_id=self.order.batch_id, file_name=chunk.file_name)

    def write(self, session: Session, find: Callable[[], Found | None]) -> LedgerEntry | None:
        """Apply the chunk that `find` gives; return its ledger row, or None where it gave none.

        All happens in a transaction of its own, what `find` does too. The chunk's segment is durable before its rows are.
        """
        session.begin(self.order.run, self.fence)
        try:
            found = find()
            if found is None:
                session.rollback()
                return None
            entry = self.applied(session, *found)
            session.add_ledger(entry)
            session.commit()
        except BaseException:
            session.rollback()
            raise
        return entry

    def applied(self, session: Session, chunk: Chunk, converted: list[Converted], waits_for_commit: bool = False) -> LedgerEntry:
        """Apply a chunk within the session's transaction, its events included; return its ledger row."""
        verdicts = apply(session, self._resolver, chunk, converted, waits_for_commit, tells_changes=self.order.mode == "dry-run")
        if self.order.outbox is not None:
            session.add_events(self.order.run, chunk.number, events.pages(chunk, converted, verdicts))
        return self._record(chunk, verdicts)

    def _record(self, chunk: Chunk, verdicts: Verdicts) -> LedgerEntry:
        """Write a chunk's segment; return its ledger row."""
        if self.order.mode == "dry-run":
            verdicts.ids = [""] * len(chunk)
        return self.keep(chunk, results.count(verdicts), results.render(chunk, verdicts))

    def keep(self, chunk: Chunk, counts: Counts, segment: bytes) -> LedgerEntry:
        """Write a segment; return the ledger row that tells of it."""
        return record(self._store, self.order.run, self._mark, chunk, counts, segment)
