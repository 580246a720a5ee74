"""The results of single chunks: in the ledger's own row if they are small, else in the store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from engine import results
from engine.chunk import Chunk
from engine.ledger import LedgerEntry
from engine.order import Store
from engine.results import Counts
from engine.target import Target

INLINE_BYTES = 64 * 1024  # a segment up to this size lies in the ledger's row itself: one sync less for a small batch


def record(store: Store, run: str, fence: int, chunk: Chunk, counts: Counts, segment: bytes) -> LedgerEntry:
    """Keep a chunk's results, durably if they go to the store; return its ledger row."""
    is_inline = len(segment) <= INLINE_BYTES
    if not is_inline:
        store.write_segment(run, segment_name(chunk.number, fence), segment)
    return LedgerEntry(
        run=run,
        chunk=chunk.number,
        fence=fence,
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


def rewritten(store: Store, entry: LedgerEntry, segment: bytes) -> LedgerEntry:
    """Replace the results of a chunk whose transaction was rolled back: nothing of it was applied."""
    is_inline = len(segment) <= INLINE_BYTES
    if not is_inline:
        store.write_segment(entry.run, segment_name(entry.chunk, entry.fence), segment)
    kept = segment if is_inline else None
    return replace(entry, created=0, updated=0, deleted=0, skipped=0, segment_digest=sha256(segment).hexdigest(), segment=kept)


def segment_of(store: Store, entry: LedgerEntry) -> bytes:
    """Return a chunk's results, from its ledger row or from the store."""
    if entry.segment is not None:
        return entry.segment
    return store.read_segment(entry.run, segment_name(entry.chunk, entry.fence))


def segment_name(chunk: int, fence: int) -> str:
    """Return the name of a chunk's segment under a fence: no two holders of a run ever write the same."""
    return f"{chunk:08d}-{fence}"


def counts_of(entry: LedgerEntry) -> Counts:
    """Return a ledger row's counts; the records that it does not tell of were not processed."""
    told = entry.created + entry.updated + entry.deleted + entry.skipped + entry.errors
    return Counts(entry.records, entry.created, entry.updated, entry.deleted, entry.skipped, entry.errors, entry.records - told)


def sum_of(entries: Iterable[LedgerEntry]) -> Counts:
    """Add up the counts of ledger rows."""
    total = Counts()
    for entry in entries:
        total += counts_of(entry)
    return total


def assemble(store: Store, entries: Mapping[int, LedgerEntry], scratch: Path | None) -> Iterator[bytes]:
    """Yield the whole results file: the segments in order, each checked against the digest in its ledger row.

    `scratch`: a folder for temporary files, given for an ordered run, whose lines must be brought back into file order.
    """
    yield results.HEADER
    in_order = [entries[number] for number in sorted(entries)]
    segments = (_checked(store, entry) for entry in in_order)
    if scratch is None:
        yield from segments
    else:
        yield from results.in_file_order(zip((e.file for e in in_order), segments, strict=True), scratch)


def _checked(store: Store, entry: LedgerEntry) -> bytes:
    segment = segment_of(store, entry)
    if sha256(segment).hexdigest() != entry.segment_digest:
        raise AssertionError(f"the results of chunk {entry.chunk} of run {entry.run} were altered")
    return segment


def committed(target: Target, run: str, store: Store) -> Iterator[bytes]:
    """Yield the results of a run that goes on: the header, then the longest run of committed chunks. Bytes once seen never change."""
    yield results.HEADER
    entries = {entry.chunk: entry for entry in target.entries(run)}
    number = 0
    while number in entries:
        yield segment_of(store, entries[number])
        number += 1
