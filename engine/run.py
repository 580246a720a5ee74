"""Carry a run out: read → convert → look up → apply → record, chunk by chunk, each counted once.

PerRecord: each chunk is a transaction of its own that ends with its ledger row; a run that was broken off goes on from the ledger's
last word. AllOrNone and dry runs: one transaction for all; broken off, they start over.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from threading import Lock

from engine import results
from engine.apply import Verdicts
from engine.chunk import Chunk
from engine.control.collection import compile_shape
from engine.convert import Converted
from engine.faults import FILE_REFUSED, Fault, fault
from engine.ledger import LedgerEntry
from engine.ops import REFUSED, Session
from engine.order import RunFile, RunOrder, RunResult, State, Stop, Store
from engine.plan import Plan
from engine.readers import FileRefused
from engine.readers.collection import Compiled, Shape
from engine.reading import Reading
from engine.results import Counts
from engine.segments import assemble, counts_of, rewritten, segment_of, sum_of
from engine.sharing import Sharing
from engine.tables import Tables
from engine.target import Target
from engine.uncollected import uncollected
from engine.writers import Footprint, Writers
from engine.writing import Writing
from errors import TargetUnavailable

__all__ = ["RunFile", "RunOrder", "RunResult", "State", "Stop", "Store", "carry_out", "clear"]

ROOM_POLL_SECONDS = 0.2  # how often a run that waits for room in the outbox looks for it


def carry_out(
    order: RunOrder,
    target: Target,
    store: Store,
    resolve_name: Callable[[str], Plan | None],
    on_progress: Callable[[Counts], None] = lambda counts: None,
    should_stop: Callable[[], Stop | None] = lambda: None,
    take_lanes: Callable[[Collection[tuple[str | None, str]]], None] = lambda tables: None,
) -> RunResult:
    """Carry out a run, from where the ledger says that it stands.

    `take_lanes` is called with tables that the plan does not foresee, before they are written; what it raises ends the attempt.

    Raises TargetUnavailable (try again), LeaseLost (another worker has it) and DigestMismatch (a stored file was altered;
    nothing was written).
    """
    run = _Run(order, target, store, resolve_name, on_progress, should_stop, take_lanes)
    with uncollected():
        return run.carry_out()


def clear(order: RunOrder, target: Target, store: Store) -> None:
    """Forget a finished run: its segments and its ledger. Only after its results are stored and its end is recorded."""
    target.forget(order.run)
    store.drop_segments(order.run)


# How a run ends that is stopped for good: its state, its code, what the records that were not reached are told, what the status says.
_STOPPED: dict[Stop, tuple[State, str, str, str]] = {
    "cancel": ("cancelled", "cancelled", "the import was cancelled", "cancelled"),
    "give-up": ("failed", "given_up", "the run was given up after failures", "the run was given up"),
    "time-out": ("failed", "timed_out", "the import took longer than it may", "the run took longer than it may; it was stopped"),
}


class _Run:
    def __init__(
        self,
        order: RunOrder,
        target: Target,
        store: Store,
        resolve_name: Callable[[str], Plan | None],
        on_progress: Callable[[Counts], None],
        should_stop: Callable[[], Stop | None],
        take_lanes: Callable[[Collection[tuple[str | None, str]]], None],
    ) -> None:
        self.order, self.target, self.store, self.on_progress, self.should_stop = order, target, store, on_progress, should_stop
        self.counts = Counts()
        self.entries: dict[int, LedgerEntry] = {}
        self.reading = Reading(order, self.entries, resolve_name, self._compiled)
        self.take_lanes = take_lanes
        self.tables: Tables | None = None  # as they are when the first record names one
        self.writing = Writing(order, store, self.reading, 0)  # once the run is taken over, under its fence
        self.under_way: dict[int, int] = {}  # records by chunk, of those that were given to the writers
        self.lock = Lock()
        self.sharing: Sharing | None = None

    def carry_out(self) -> RunResult:
        for file in self.order.files:
            file.verify()
        self.writing = Writing(self.order, self.store, self.reading, self.target.take_over(self.order.run))
        if self.writing.fence > 1:
            self.entries.update((entry.chunk, entry) for entry in self.target.entries(self.order.run))
        for entry in self.entries.values():
            self.counts += counts_of(entry)
        if not self.entries and self.reading.must_look_ahead() and self.reading.has_refused_file():
            return self._end_refused()
        try:
            return self._as_one() if self.order.is_one_transaction else self._per_record()
        except FileRefused:
            if self.order.is_one_transaction:
                self._take_back()
            return self._end_refused()

    def _compiled(self, shape: Shape) -> Compiled | Fault:
        """Compile a shape of records that name their own entity, and take the lane of its table."""
        try:
            self.tables = self.tables or self.target.tables()
            compiled = compile_shape(shape, self.tables, self.target.dialect)
        except self.target.errors as error:
            raise TargetUnavailable(str(error).strip()) from error
        if isinstance(compiled, Compiled):
            table = compiled.entity.table.key
            if not self.order.allowed.may_write(table):
                return self.order.allowed.fault(table)
            self.take_lanes([table])
        return compiled

    # Per record -----------------------------------------------------------------------------------------------------
    def _per_record(self) -> RunResult:
        chunks = self.reading.chunks()
        writers = Writers(self.target, self._write_chunk, self.order.writers)
        self.sharing = sharing = Sharing(self.target, self.reading, self.writing, self._done)
        stop: Stop | None = None
        with closing(writers), closing(sharing):
            try:
                for chunk in chunks:
                    if chunk.number in self.entries:
                        continue
                    stop = self._wait_for_room(len(chunk)) if self.order.outbox else self.should_stop()
                    if stop:
                        break
                    self.under_way[chunk.number] = len(chunk)
                    self._submit(chunk, sharing, writers)
                else:
                    chunk = None
            except FileRefused:
                # The chunks under way must be in the ledger before the end is told; where one fails, the attempt does.
                writers.wait()
                sharing.wait()
                raise
            writers.wait()
            sharing.wait(is_leaving=stop == "hand-back")
        if stop == "hand-back":
            return RunResult("handed-back", self.counts, iter(()))
        if stop:
            return self._end_stopped(stop, chunk, chunks)
        return self._result("completed")

    def _submit(self, chunk: Chunk, sharing: Sharing, writers: Writers) -> None:
        """Have a chunk written: by whoever helps, if anybody does, else by our own writers."""
        footprint = sharing.wants(chunk, lambda: Footprint.of(chunk, self.writing.convert_keys(chunk)))
        if footprint is not None:
            writers.wait()
            sharing.offer(chunk, footprint)
        else:
            sharing.wait()
            writers.submit(chunk, self.writing.convert(chunk))

    def _wait_for_room(self, records: int) -> Stop | None:
        """Wait until the outbox has room for so many events more; return why the run is to stop meanwhile, if it is.

        A run of one transaction waits before it only: nobody could take its events away before they are committed.
        """
        room = self.order.outbox
        while not (stop := self.should_stop()) and room is not None:
            with self.lock:  # before the outbox is asked: what is committed in between counts twice, and never not at all
                self.under_way = {number: size for number, size in self.under_way.items() if number not in self.entries}
            waiting = sum(self.under_way.values()) + self.target.events_waiting()
            if waiting == 0 or waiting + records <= room.most:
                break
            room.on_wait()
            if self.sharing is not None:
                self.sharing.go_on()
            time.sleep(ROOM_POLL_SECONDS)
        return stop

    def _write_chunk(self, session: Session, chunk: Chunk, converted: list[Converted]) -> None:
        """Apply one chunk in its own transaction."""
        entry = self.writing.write(session, lambda: (chunk, converted))
        if entry is not None:
            self._done(entry)

    def _done(self, entry: LedgerEntry) -> None:
        with self.lock:
            self.entries[entry.chunk] = entry
            self.counts += counts_of(entry)
        if entry.errors:
            # Refused chunks leave exception frames behind, which hold their rows until they are collected.
            gc.collect()
        self.on_progress(self.counts)

    # As one transaction ---------------------------------------------------------------------------------------------
    def _as_one(self) -> RunResult:
        if self.entries:
            # The ledger rows of such a run are written in its one transaction: where there are any, it was committed.
            return self._result("completed")
        self.store.drop_segments(self.order.run)
        chunks = self.reading.chunks()
        stop = self._wait_for_room(1) if self.order.outbox else None
        broken: Fault | None = None
        session = self.target.session()
        try:
            session.begin(self.order.run, self.writing.fence, is_strict_constraints=self.order.execution == "PerRecord")
            for chunk in chunks:
                stop = stop or self.should_stop()
                if stop:
                    break
                self._done(self.writing.applied(session, chunk, self.writing.convert(chunk), self.order.execution == "AllOrNone"))
            else:
                chunk = None
                broken = session.settle() if self.order.execution == "AllOrNone" and not self.counts.errors else None
            if self._is_kept(stop, broken):
                for entry in self.entries.values():
                    session.add_ledger(entry)
                session.commit()
        finally:
            session.rollback()
            self.target.give_back(session)
        if stop == "hand-back":
            return RunResult("handed-back", self.counts, iter(()))
        return self._end_as_one(chunks, chunk, stop, broken)

    def _is_kept(self, stop: Stop | None, broken: Fault | None) -> bool:
        return self.order.mode == "import" and not (stop or broken or self.counts.errors)

    def _end_as_one(self, chunks: Iterator[Chunk], chunk: Chunk | None, stop: Stop | None, broken: Fault | None) -> RunResult:
        if stop:
            self._take_back()
            return self._end_stopped(stop, chunk, chunks, "; everything was rolled back")
        if self.order.execution == "AllOrNone" and (self.counts.errors or broken):
            errors = self.counts.errors
            self._take_back()
            reason = broken.message if broken else f"{errors} of {self.counts.records} records were refused"
            code = "constraint_violated" if broken else "records_refused"
            return self._result("failed", code, f"{reason}; everything was rolled back")
        return self._result("completed")

    def _take_back(self) -> None:
        """After a rollback: what would have been applied is unprocessed, and its results say so."""
        for number, entry in self.entries.items():
            self.entries[number] = rewritten(self.store, entry, results.taken_back(segment_of(self.store, entry)))
        self.counts = sum_of(self.entries.values())

    # Ends -----------------------------------------------------------------------------------------------------------
    def _end_stopped(self, stop: Stop, chunk: Chunk | None, chunks: Iterator[Chunk], more: str = "") -> RunResult:
        """Give `chunk`, at whose border the run was stopped, and all `chunks` after it their results; end the run."""
        state, code, reason, said = _STOPPED[stop]
        self._not_reached(chunk, reason)
        self._not_reached_rest(chunks, reason)
        return self._result(state, code, said + more)

    def _not_reached(self, chunk: Chunk | None, reason: str) -> None:
        """Give each record of a chunk that was not written its result."""
        if chunk is None:
            return
        verdicts = Verdicts([REFUSED] * len(chunk), [""] * len(chunk), dict(chunk.faults))
        notices_and_faults = results.count(Verdicts([REFUSED] * len(chunk.faults), [], dict(enumerate(chunk.faults.values()))))
        records = results.count(verdicts).records
        counts = Counts(records=records, errors=notices_and_faults.errors, unprocessed=records - notices_and_faults.errors)
        entry = self.writing.keep(chunk, counts, results.not_reached(chunk, reason))
        self.entries[chunk.number] = entry
        self.counts += counts

    def _not_reached_rest(self, chunks: Iterator[Chunk], reason: str) -> None:
        for chunk in chunks:
            if chunk.number not in self.entries:
                self._not_reached(chunk, reason)

    def _end_refused(self) -> RunResult:
        """A file that cannot be read as a whole ends the run; it gets one result, and so does every record that was not reached."""
        number = max(self.entries, default=-1) + 1
        last = self.entries.get(number - 1)
        messages = []
        for index in range(last.file if last else 0, len(self.order.files)):
            resume = last if last and last.file == index else None
            line = resume.next_line if resume else 1
            try:
                for chunk in self.reading.read(index, number, resume, self.order.is_ordered):
                    self._not_reached(chunk, "a file of the batch cannot be read")
                    number, line = chunk.number + 1, chunk.next_line
            except FileRefused as refusal:
                messages.append(f"{self.order.files[index].name}: {refusal}")
                number = self._refuse_file(number, index, max(line, refusal.line or 1), refusal)
        return self._result("failed", "file_refused", "; ".join(messages))

    def _refuse_file(self, number: int, index: int, line: int, refusal: FileRefused) -> int:
        chunk = Chunk(number, index, self.order.files[index].name, [line])
        chunk.faults[0] = [fault(FILE_REFUSED, reason=str(refusal))]
        verdicts = Verdicts([REFUSED], [""], chunk.faults)
        self.entries[number] = entry = self.writing.keep(chunk, results.count(verdicts), results.render(chunk, verdicts))
        self.counts += counts_of(entry)
        return number + 1

    def _result(self, state: State, code: str = "", status_msg: str = "") -> RunResult:
        self.counts.check()
        if sorted(self.entries) != list(range(len(self.entries))):
            raise AssertionError(f"chunks of run {self.order.run} are missing: the results would not tell of all records")
        scratch = self.order.scratch if self.order.is_ordered else None
        return RunResult(state, self.counts, assemble(self.store, self.entries, scratch), code, status_msg, self.reading.warnings)
