"""A run's chunks, over all its files, from where the ledger says that it stands."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence, Set
from contextlib import closing
from dataclasses import dataclass
from itertools import accumulate

from engine.chunk import Chunk
from engine.faults import Fault
from engine.ledger import LedgerEntry
from engine.order import RunOrder
from engine.ordered import in_group_order
from engine.plan import FilePlan, Plan
from engine.readers import FileRefused, read
from engine.readers.collection import Compile, Compiled, Shape


@dataclass(frozen=True, slots=True)
class Place:
    """Where a chunk begins: what a reader must know to read that one alone."""

    file: int  # 0-based, in the order in which the run takes its files
    chunk: int  # 0-based in the run
    first_record: int = 0  # 0-based number, in its file, of its first position
    line: int = 1  # physical line
    resume: str = ""  # see engine.readers.read

    @property
    def offset(self) -> int | None:
        """Return at which byte of its file it begins, where reading can begin there; None where all before it must be read."""
        found = json.loads(self.resume).get("offset") if self.resume else None
        return found if isinstance(found, int) else None

    @classmethod
    def behind(cls, chunk: Chunk | LedgerEntry, number: int) -> Place:
        """Return where the chunk behind this one begins, which has the given number."""
        return cls(chunk.file, number + 1, chunk.first_record + _positions(chunk), chunk.next_line, chunk.resume)


def _positions(chunk: Chunk | LedgerEntry) -> int:
    return len(chunk) if isinstance(chunk, Chunk) else chunk.positions


class Reading:
    """Reads the files of one run."""

    def __init__(
        self,
        order: RunOrder,
        entries: Mapping[int, LedgerEntry],
        resolve_name: Callable[[str], Plan | None],
        compile_shape: Compile,
    ) -> None:
        """`entries`: the committed chunks, kept up by the run."""
        self.order, self.entries = order, entries
        self._resolve_name, self._compile = resolve_name, compile_shape
        # The tables of the named control files that were met, and of the records that name their own entity.
        self._named: set[tuple[str | None, str]] = set()
        self._written_from: dict[int, set[tuple[str | None, str]]] = {}
        self.warnings: list[str] = []
        self.place = Place(0, 0)  # where the chunk begins that `chunks` gave last

    def has_refused_file(self) -> bool:
        """Look at the head of every file, as far as it must go, before anything is written."""
        try:
            for index in range(len(self.order.files)):
                least = self.file_plan(index).min_rows
                with closing(self.read(index, 0, None)) as chunks:
                    any(count >= least for count in accumulate(chunk.records for chunk in chunks))
        except FileRefused:
            return True
        return False

    def must_look_ahead(self) -> bool:
        """Tell whether a file could be refused after something was written; the only file of a run without its first record cannot."""
        return len(self.order.files) > 1 or any(self.file_plan(index).min_rows > 1 for index in range(len(self.order.files)))

    def file_plan(self, index: int) -> FilePlan:
        file = self.order.files[index]
        plan = self.order.plan.file(file.name)
        if plan is None:
            raise AssertionError(f"the control file has no place for {file.name}")
        return plan.read_as(file.format, file.separator) if file.format or file.separator else plan

    def resolve_name(self, name: str) -> Plan | None:
        """Resolve the name of a `!` row; the tables that its entities write count as written from then on."""
        plan = self._resolve_name(name)
        if plan is not None:
            self._named.update(plan.tables)
        return plan

    def compile_shape(self, shape: Shape) -> Compiled | Fault:
        """Compile a shape of records that name their own entity; its table counts as written from then on."""
        compiled = self._compile(shape)
        if isinstance(compiled, Compiled):
            self._named.add(compiled.entity.table.key)
        return compiled

    def written_from(self, index: int) -> Set[tuple[str | None, str]]:
        """Return the keys of the tables that a file and those behind it write; an ordered run takes all files as one."""
        if index not in self._written_from:
            plans = [self.file_plan(number) for number in range(0 if self.order.is_ordered else index, len(self.order.files))]
            self._written_from[index] = {key for p in plans for key in self._written(p)}
        return self._written_from[index] | self._named

    def _written(self, plan: FilePlan) -> Sequence[tuple[str | None, str]]:
        return [plan.entity.table.key] if plan.entity and plan.action else self.order.plan.tables

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
            place = Place.behind(resume, number - 1) if resume else Place(index, number)
            for chunk in self.read(index, number, resume, ordered):
                for warning in chunk.warnings:
                    self.warnings.append(f"{chunk.file_name}: {warning}")
                self.place = place
                yield chunk
                number = chunk.number + 1
                place = Place.behind(chunk, chunk.number)

    def read(self, index: int, number: int, last: LedgerEntry | None, ordered: bool = False) -> Generator[Chunk, None, None]:
        """Read one file, from behind the chunk that the ledger has last. Raises FileRefused, also at the end where too few records came."""
        records = sum(entry.records for entry in self.entries.values() if entry.file == index and entry.chunk < number) if last else 0
        for chunk in self._read(Place.behind(last, number - 1) if last else Place(index, number), ordered):
            records += chunk.records
            yield chunk
        least = self.file_plan(index).min_rows
        if records < least:
            said = (
                f"The file has {records or 'no'} records, and must have at least {least} (min_rows in the control file; 0 lets it be empty)"
            )
            raise FileRefused("min_rows", said)

    def chunk_at(self, place: Place) -> Chunk | None:
        """Read one chunk; None where the file ends before it."""
        with closing(self._read(place)) as chunks:
            return next(chunks, None)

    def _read(self, place: Place, ordered: bool = False) -> Generator[Chunk, None, None]:
        """Read one file from a place on."""
        file = self.order.files[place.file]
        with file.open() as stream:
            for chunk in read(
                stream, self.file_plan(place.file), self.order.plan, file_name=file.name, file_index=place.file,
                first_chunk_number=place.chunk, resolve_name=self.resolve_name, compile_shape=self.compile_shape, limits=self.order.limits,
                chunk_records=self.order.chunk_records, chunk_bytes=self.order.chunk_bytes, ordered=ordered,
                start_line=place.line, first_record=place.first_record, resume=place.resume,
            ):  # fmt: skip
                self.order.allowed.refuse_beyond(chunk)
                yield chunk
