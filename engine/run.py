"""Carry a run out: read → convert → look up → apply → record, chunk by chunk, each counted once.

PerRecord: each chunk is a transaction of its own that ends with its ledger row; a run that was broken off goes on from the ledger's
last word. AllOrNone and dry runs: one transaction for all; broken off, they start over.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, Literal, Protocol

from engine import results
from engine.apply import Verdicts, apply
from engine.chunk import Chunk
from engine.convert import Context, Converted, convert
from engine.faults import FILE_REFUSED, Fault, fault
from engine.ledger import LedgerEntry
from engine.lookup import Resolver
from engine.ops import REFUSED, Session
from engine.ordered import in_group_order
from engine.plan import FilePlan, Plan
from engine.readers import FileRefused, Limits, read
from engine.results import Counts
from engine.target import Target
from engine.writers import Writers

INLINE_BYTES = 64 * 1024  # a segment up to this size lies in the ledger's row itself: one sync less for a small batch


class Store(Protocol):
    """Where segments lie until the run is over: a spool."""

    def write_segment(self, run: str, name: str, data: bytes) -> None:
        """Write a segment; it is durable on return."""

    def read_segment(self, run: str, name: str) -> bytes:
        """Return a segment."""

    def drop_segments(self, run: str) -> None:
        """Delete all segments of a run."""


@dataclass(frozen=True, slots=True)
class RunFile:
    """One file of the batch."""

    name: str
    open: Callable[[], BinaryIO]
    verify: Callable[[], None]  # reads all its bytes; DigestMismatch


@dataclass(frozen=True, slots=True)
class RunOrder:
    """All that is to be known to carry a run out."""

    run: str  # names the run in the target: the batch's id and the run's number
    batch_id: int
    files: Sequence[RunFile]  # in the order in which they are taken
    plan: Plan
    mode: Literal["import", "dry-run"]
    execution: Literal["PerRecord", "AllOrNone"]
    is_ordered: bool
    started_at: datetime
    scratch: Path  # a folder for temporary files
    limits: Limits = field(default_factory=Limits)
    chunk_records: int = 5_000
    chunk_bytes: int = 8 * 1024 * 1024
    writers: int = 2

    @property
    def is_one_transaction(self) -> bool:
        """Say whether all chunks are written in one transaction."""
        return self.mode == "dry-run" or self.execution == "AllOrNone"


State = Literal["completed", "failed", "cancelled", "handed-back"]
Stop = Literal["cancel", "hand-back"]


@dataclass(slots=True)
class RunResult:
    """How a run ended. `results` yields the results file's bytes; it must be consumed before the run is cleared away."""

    state: State
    counts: Counts
    results: Iterator[bytes]
    code: str = ""
    status_msg: str = ""
    warnings: list[str] = field(default_factory=list)


def carry_out(
    order: RunOrder,
    target: Target,
    store: Store,
    resolve_name: Callable[[str], Plan | None],
    on_progress: Callable[[Counts], None] = lambda counts: None,
    should_stop: Callable[[], Stop | None] = lambda: None,
) -> RunResult:
    """Carry out a run, from where the ledger says that it stands.

    Raises TargetUnavailable (try again), LeaseLost (another worker has it) and DigestMismatch (a stored file was altered;
    nothing was written).
    """
    run = _Run(order, target, store, resolve_name, on_progress, should_stop)
    gc.freeze()
    was_enabled = gc.isenabled()
    # Chunks are plain lists of texts: the collector would look through them again and again and find nothing.
    gc.disable()
    try:
        return run.carry_out()
    finally:
        if was_enabled:
            gc.enable()
        gc.unfreeze()


def clear(order: RunOrder, target: Target, store: Store) -> None:
    """Forget a finished run: its segments and its ledger. Only after its results are stored and its end is recorded."""
    target.forget(order.run)
    store.drop_segments(order.run)


def segment_of(store: Store, entry: LedgerEntry) -> bytes:
    """Return a chunk's results, from its ledger row or from the store."""
    if entry.segment is not None:
        return entry.segment
    return store.read_segment(entry.run, segment_name(entry.chunk, entry.fence))


def segment_name(chunk: int, fence: int) -> str:
    """Return the name of a chunk's segment under a fence: no two holders of a run ever write the same."""
    return f"{chunk:08d}-{fence}"


class _Run:
    def __init__(
        self,
        order: RunOrder,
        target: Target,
        store: Store,
        resolve_name: Callable[[str], Plan | None],
        on_progress: Callable[[Counts], None],
        should_stop: Callable[[], Stop | None],
    ) -> None:
        self.order, self.target, self.store, self.on_progress, self.should_stop = order, target, store, on_progress, should_stop
        self.written = set(order.plan.tables)
        self._resolve_name = resolve_name
        self.resolver = Resolver(self.written)
        self.counts = Counts()
        self.entries: dict[int, LedgerEntry] = {}
        self.warnings: list[str] = []
        self.fence = 0
        self.lock = Lock()

    def carry_out(self) -> RunResult:
        for file in self.order.files:
            file.verify()
        self.fence = self.target.take_over(self.order.run)
        self.entries = {entry.chunk: entry for entry in self.target.entries(self.order.run)}
        for entry in self.entries.values():
            self.counts += counts_of(entry)
        if len(self.order.files) > 1 and not self.entries and self._has_refused_file():
            return self._end_refused()
        try:
            return self._as_one() if self.order.is_one_transaction else self._per_record()
        except FileRefused:
            if self.order.is_one_transaction:
                self._take_back()
            return self._end_refused()

    # Per record -----------------------------------------------------------------------------------------------------
    def _per_record(self) -> RunResult:
        chunks = self.chunks()
        writers = Writers(self.target, self._write_chunk, self.order.writers)
        stop: Stop | None = None
        with closing(writers):
            for chunk in chunks:
                if chunk.number in self.entries:
                    continue
                stop = self.should_stop()
                if stop:
                    break
                writers.submit(chunk, self._convert(chunk))
            else:
                chunk = None
            writers.wait()
        if stop == "hand-back":
            return RunResult("handed-back", self.counts, iter(()))
        if stop == "cancel":
            self._not_reached(chunk, "the import was cancelled")
            self._not_reached_rest(chunks, "the import was cancelled")
            return self._result("cancelled", "cancelled", "cancelled")
        return self._result("completed")

    def _convert(self, chunk: Chunk) -> list[Converted]:
        plan = self.file_plan(chunk.file)
        context = Context(now=self.order.started_at, batch_id=self.order.batch_id, file_name=chunk.file_name)
        return [convert(block, plan, chunk.lines, context) for block in chunk.blocks]

    def _write_chunk(self, session: Session, chunk: Chunk, converted: list[Converted]) -> None:
        """Apply one chunk in its own transaction; its segment is durable before its rows are."""
        session.begin(self.order.run, self.fence)
        try:
            entry = self._record(chunk, apply(session, self.resolver, chunk, converted))
            session.add_ledger(entry)
            session.commit()
        except BaseException:
            session.rollback()
            raise
        self._done(entry)

    def _record(self, chunk: Chunk, verdicts: Verdicts) -> LedgerEntry:
        """Write a chunk's segment; return its ledger row."""
        if self.order.mode == "dry-run":
            verdicts.ids = [""] * len(chunk)
        return self._entry(chunk, results.count(verdicts), results.render(chunk, verdicts))

    def _entry(self, chunk: Chunk, counts: Counts, segment: bytes) -> LedgerEntry:
        is_inline = len(segment) <= INLINE_BYTES
        if not is_inline:
            self.store.write_segment(self.order.run, segment_name(chunk.number, self.fence), segment)
        return LedgerEntry(
            run=self.order.run,
            chunk=chunk.number,
            fence=self.fence,
            file=chunk.file,
            first_record=chunk.first_record,
            positions=len(chunk),
            next_line=chunk.next_line,
            resume=chunk.resume,
            records=counts.records,
            created=counts.created,
            updated=counts.updated,
            deleted=counts.deleted,
            skipped=counts.skipped,
            errors=counts.errors,
            segment_digest=sha256(segment).hexdigest(),
            segment=segment if is_inline else None,
        )

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
        chunks = self.chunks()
        stop: Stop | None = None
        broken: Fault | None = None
        with closing(self.target.session()) as session:
            session.begin(self.order.run, self.fence, is_strict_constraints=self.order.execution == "PerRecord")
            try:
                for chunk in chunks:
                    stop = self.should_stop()
                    if stop:
                        break
                    waits = self.order.execution == "AllOrNone"
                    self._done(self._record(chunk, apply(session, self.resolver, chunk, self._convert(chunk), waits)))
                else:
                    chunk = None
                    broken = session.settle() if self.order.execution == "AllOrNone" and not self.counts.errors else None
                if self._is_kept(stop, broken):
                    for entry in self.entries.values():
                        session.add_ledger(entry)
                    session.commit()
            finally:
                session.rollback()
        if stop == "hand-back":
            return RunResult("handed-back", self.counts, iter(()))
        return self._end_as_one(chunks, chunk, stop, broken)

    def _is_kept(self, stop: Stop | None, broken: Fault | None) -> bool:
        return self.order.mode == "import" and not (stop or broken or self.counts.errors)

    def _end_as_one(self, chunks: Iterator[Chunk], chunk: Chunk | None, stop: Stop | None, broken: Fault | None) -> RunResult:
        if stop:
            self._take_back()
            self._not_reached(chunk, "the import was cancelled")
            self._not_reached_rest(chunks, "the import was cancelled")
            return self._result("cancelled", "cancelled", "cancelled; everything was rolled back")
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
            segment = results.taken_back(segment_of(self.store, entry))
            is_inline = len(segment) <= INLINE_BYTES
            if not is_inline:
                self.store.write_segment(self.order.run, segment_name(number, self.fence), segment)
            self.entries[number] = replace(
                entry,
                created=0,
                updated=0,
                deleted=0,
                skipped=0,
                segment_digest=sha256(segment).hexdigest(),
                segment=segment if is_inline else None,
            )
        self.counts = sum_of(self.entries.values())

    # Ends -----------------------------------------------------------------------------------------------------------
    def _not_reached(self, chunk: Chunk | None, reason: str) -> None:
        """Give each record of a chunk that was not written its result."""
        if chunk is None:
            return
        verdicts = Verdicts([REFUSED] * len(chunk), [""] * len(chunk), dict(chunk.faults))
        notices_and_faults = results.count(Verdicts([REFUSED] * len(chunk.faults), [], dict(enumerate(chunk.faults.values()))))
        records = results.count(verdicts).records
        counts = Counts(records=records, errors=notices_and_faults.errors, unprocessed=records - notices_and_faults.errors)
        entry = self._entry(chunk, counts, results.not_reached(chunk, reason))
        self.entries[chunk.number] = entry
        self.counts += counts

    def _not_reached_rest(self, chunks: Iterator[Chunk], reason: str) -> None:
        for chunk in chunks:
            if chunk.number not in self.entries:
                self._not_reached(chunk, reason)

    def _has_refused_file(self) -> bool:
        """Look at the head of every file before anything is written."""
        try:
            for number in range(len(self.order.files)):
                with closing(self._read(number, 0, None)) as chunks:
                    next(chunks, None)
        except FileRefused:
            return True
        return False

    def _end_refused(self) -> RunResult:
        """A file that cannot be read as a whole ends the run; it gets one result, and so does every record that was not reached."""
        number = max(self.entries, default=-1) + 1
        last = self.entries.get(number - 1)
        messages = []
        for index in range(last.file if last else 0, len(self.order.files)):
            try:
                for chunk in self._read(index, number, last if last and last.file == index else None):
                    self._not_reached(chunk, "a file of the batch cannot be read")
                    number = chunk.number + 1
            except FileRefused as refusal:
                messages.append(f"{self.order.files[index].name}: {refusal}")
                number = self._refuse_file(number, index, refusal)
        return self._result("failed", "file_refused", "; ".join(messages))

    def _refuse_file(self, number: int, index: int, refusal: FileRefused) -> int:
        chunk = Chunk(number, index, self.order.files[index].name, [refusal.line or 1])
        chunk.faults[0] = [fault(FILE_REFUSED, reason=str(refusal))]
        verdicts = Verdicts([REFUSED], [""], chunk.faults)
        self.entries[number] = entry = self._entry(chunk, results.count(verdicts), results.render(chunk, verdicts))
        self.counts += counts_of(entry)
        return number + 1

    def _result(self, state: State, code: str = "", status_msg: str = "") -> RunResult:
        self.counts.check()
        return RunResult(state, self.counts, self._assemble(), code, status_msg, self.warnings)

    def _assemble(self) -> Iterator[bytes]:
        """Yield the whole results file: the segments in order, each checked against the digest in its ledger row."""
        yield results.HEADER
        entries = [self.entries[number] for number in sorted(self.entries)]
        segments = (self._checked(entry) for entry in entries)
        if self.order.is_ordered:
            yield from results.in_file_order(zip((e.file for e in entries), segments, strict=True), self.order.scratch)
        else:
            yield from segments

    def _checked(self, entry: LedgerEntry) -> bytes:
        segment = segment_of(self.store, entry)
        if sha256(segment).hexdigest() != entry.segment_digest:
            raise AssertionError(f"the results of chunk {entry.chunk} of run {entry.run} were altered")
        return segment

    # Reading --------------------------------------------------------------------------------------------------------
    def file_plan(self, index: int) -> FilePlan:
        name = self.order.files[index].name
        plan = self.order.plan.file(name)
        if plan is None:
            raise AssertionError(f"the control file has no place for {name}")
        return plan

    def resolve_name(self, name: str) -> Plan | None:
        """Resolve the name of a `!` row; the tables that its entities write count as written from then on."""
        plan = self._resolve_name(name)
        if plan is not None:
            self.written.update(plan.tables)
        return plan

    def chunks(self) -> Iterator[Chunk]:
        """Yield the run's chunks from the first that the ledger lacks; their borders are the same each time."""
        if self.order.is_ordered:
            return in_group_order(self._all_chunks(ordered=True), self.order.scratch, self.order.chunk_records)
        return self._all_chunks()

    def _all_chunks(self, ordered: bool = False) -> Iterator[Chunk]:
        number, last = 0, None
        if not ordered:
            while number in self.entries:
                last = self.entries[number]
                number += 1
        for index in range(last.file if last else 0, len(self.order.files)):
            resume = last if last and last.file == index else None
            for chunk in self._read(index, number, resume, ordered):
                for warning in chunk.warnings:
                    self.warnings.append(f"{chunk.file_name}: {warning}")
                yield chunk
                number = chunk.number + 1

    def _read(self, index: int, number: int, last: LedgerEntry | None, ordered: bool = False) -> Any:
        """Read one file, from behind the chunk that the ledger has last."""
        file = self.order.files[index]
        where: dict[str, Any] = {}
        if last is not None:
            where = {"start_line": last.next_line, "first_record": last.first_record + last.positions, "resume": last.resume}
        with file.open() as stream:
            yield from read(
                stream, self.file_plan(index), self.order.plan, file_name=file.name, file_index=index, first_chunk_number=number,
                resolve_name=self.resolve_name, limits=self.order.limits, chunk_records=self.order.chunk_records,
                chunk_bytes=self.order.chunk_bytes, ordered=ordered, **where,
            )  # fmt: skip


def counts_of(entry: LedgerEntry) -> Counts:
    """Return a ledger row's counts; the records that it does not tell of were not processed."""
    told = entry.created + entry.updated + entry.deleted + entry.skipped + entry.errors
    return Counts(entry.records, entry.created, entry.updated, entry.deleted, entry.skipped, entry.errors, entry.records - told)


def sum_of(entries: Any) -> Counts:
    """Add up the counts of ledger rows."""
    total = Counts()
    for entry in entries:
        total += counts_of(entry)
    return total


def committed(target: Target, run: str, store: Store) -> Iterator[bytes]:
    """Yield the results of a run that goes on: the header, then the longest run of committed chunks. Bytes once seen never change."""
    yield results.HEADER
    entries = {entry.chunk: entry for entry in target.entries(run)}
    number = 0
    while number in entries:
        yield segment_of(store, entries[number])
        number += 1
