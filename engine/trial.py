"""Try a control file on a sample: what each record would become, without a run, and without anything being written.

A sample is read, converted and looked up by what carries out runs. What only the database can say while it writes (its constraints, its
triggers, whether a row differs at all) is left to a dry run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO

from engine.apply import Step, forbidden
from engine.chunk import Block, Chunk
from engine.convert import Context, Converted, convert
from engine.faults import LOOKUP_AMBIGUOUS, SKIPPED_HEADER, Fault
from engine.lookup import Hints, Resolver, said
from engine.ops import DELETE, INSERT, LOOK_UP, REFUSED, UNCHANGED, UPDATE, Ops, Session, Written, decide, plain
from engine.plan import FilePlan, Plan
from engine.readers import Limits, read
from engine.target import Target

MOST_RECORDS = 200
MOST_CELLS = 20_000  # of all records; no further ones are told
SHOWN_CHARS = 200  # of a value
STATEMENT_SECONDS = 5.0
_LIMITS = Limits(field_chars=64 * 1024, line_bytes=1024 * 1024, expanded_bytes=16 * 1024 * 1024)
_OPERATIONS = {INSERT: "create", UPDATE: "update", DELETE: "delete", UNCHANGED: "update", REFUSED: "refuse"}


@dataclass(frozen=True, slots=True)
class TriedCell:
    """What a column would get: `means` tells whether that is the `value`, or else what."""

    column: str
    value: str
    means: str  # value, null, default (the column's), kept (what is there), masked, fault, later (an earlier record may decide it)


@dataclass(slots=True)
class TriedRecord:
    """What one line of the sample would become."""

    line: int
    entity: str = ""
    table: str = ""
    action: str = ""
    operation: str = "refuse"  # create, update, delete, refuse, skip, or read (where nothing was looked up)
    is_certain: bool = True  # False: as the table is now, but an earlier record of the file may change it
    row: str = ""  # the id of the row that was found
    cells: list[TriedCell] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


@dataclass(slots=True)
class Tried:
    """What became of a sample."""

    name: str  # as which file
    records: list[TriedRecord]
    warnings: list[str]
    is_whole: bool  # False: the sample goes on behind these records


def try_sample(
    plan: Plan, file: FilePlan, name: str, stream: BinaryIO, context: Context, target: Target | None,
    resolve_name: Callable[[str], Plan | None] = lambda name: None,
) -> Tried:  # fmt: skip
    """Try a plan on the first records of a sample; without a target nothing is looked up.

    Raises FileRefused where it cannot be read as a whole, and TargetUnavailable.
    """
    chunks = read(
        stream, file, plan, file_index=0, first_chunk_number=0, resolve_name=resolve_name, limits=_LIMITS, file_name=name,
        chunk_records=MOST_RECORDS,
    )  # fmt: skip
    with closing(chunks):  # type: ignore[type-var] # a generator, which the readers promise as no more than an iterator
        chunk = next(chunks, None)
        if chunk is None:
            return Tried(name, [], [], True)
        with _reading(target) as session:
            records = _tried(chunk, file, context, session)
        shown = _bounded(records)
        return Tried(name, shown, chunk.warnings, len(shown) == len(records) and next(chunks, None) is None)


@contextmanager
def _reading(target: Target | None) -> Iterator[Session | None]:
    """Lend a session in a transaction that only reads."""
    if target is None:
        yield None
        return
    session = target.session()
    try:
        session.begin_reading(STATEMENT_SECONDS)
        yield session
    finally:
        session.rollback()
        target.give_back(session)


def _tried(chunk: Chunk, file: FilePlan, context: Context, session: Session | None) -> list[TriedRecord]:
    records = [TriedRecord(line) for line in chunk.lines]
    for position, faults in chunk.faults.items():
        records[position].faults = list(faults)
        if faults[0].kind.code == SKIPPED_HEADER.code:
            records[position].operation = "skip"
    for block in chunk.blocks:
        for position in block.positions:
            record = records[position]
            record.entity, record.table, record.action = block.entity.name, block.entity.table.name, block.action.value
        ready = convert(block, file, chunk.lines, context)
        mine = [records[position] for position in block.positions]
        if session is None:
            _show_converted(ready, mine)
        else:
            _Trial(session, chunk.file, block, ready, mine).show()
    return records


def _show_converted(ready: Converted, records: list[TriedRecord]) -> None:
    """Show what was converted, where nothing is looked up."""
    for row, record in enumerate(records):
        record.faults = ready.faults.get(row, [])
        record.operation = "refuse" if record.faults else "read"
        record.cells = _cells_of(ready, row, record.faults)


def _cells_of(ready: Converted, row: int, faults: list[Fault]) -> list[TriedCell]:
    """Show one record's columns as far as they need no look-up, and those whose look-up is at fault."""
    wrong = {name for fault in faults for name in (fault.column, *fault.column.split(", "))}
    shown = []
    for one in ready.cells:
        if one.values[row] is None and wrong & {one.column.name, one.mapping.source.input}:
            shown.append(TriedCell(one.column.name, "", "fault"))
        else:
            written = Written(one.column, one.values, one.empties, one.on_insert, one.on_update, one.mapping.is_masked)
            shown.append(_cell(written, row, None))
    for wanted in ready.lookups:
        if wanted.mapping is not None and wrong & wanted.mapping.inputs():
            shown += [TriedCell(column.name, "", "fault") for column in wanted.mapping.columns]
    return shown


def _cell(written: Written, op: int, kind: str | None) -> TriedCell:
    """Show what a column gets; `kind` tells which of the two rules for empty cells counts."""
    name, value = written.column.name, written.values[op]
    if op in written.empties:
        rule = written.on_update if kind == UPDATE else written.on_insert
        is_drawn = written.column.default is not None or written.column.identity is not None
        return TriedCell(name, "", "kept" if rule == "keep" else rule if is_drawn else "null")
    if value is None:
        return TriedCell(name, "", "null")
    if written.is_masked:
        return TriedCell(name, "", "masked")
    text = plain(value)
    return TriedCell(name, text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}...", "value")


class _Trial:
    """One block, looked up as the table is now."""

    def __init__(self, session: Session, file: int, block: Block, ready: Converted, records: list[TriedRecord]) -> None:
        self.session, self.block, self.ready, self.records = session, block, ready, records
        self.resolver = Resolver(lambda file: {block.entity.table.key})
        self.hints = Hints(session)
        self.step = Step(session, self.resolver, self.hints, file, block, ready.faults)

    def show(self) -> None:
        ops = self.step.prepare(self.ready)
        unknown = self._look_up_late(ops)
        if LOOK_UP in ops.kinds:
            self._find_late(ops)
        for row, faults in self.step.faults.items():
            self.records[row].faults = faults
            self.records[row].cells = _cells_of(self.ready, row, faults)
        rows = range(len(self.block)) if self.step.rows is None else self.step.rows
        for op, row in enumerate(rows):
            record, kind = self.records[row], ops.kinds[op]
            record.operation = _OPERATIONS[kind]
            record.is_certain = record.is_certain and op not in unknown
            record.row = ", ".join(map(plain, ops.found[op] or ()))
            record.cells = [
                TriedCell(w.column.name, "", "later") if number in unknown.get(op, ()) else _cell(w, op, kind)
                for number, w in enumerate(ops.written)
            ]
        for row, skip in self.step.skipped.items():
            self.records[row].operation, self.records[row].faults = "skip", [skip]

    def _look_up_late(self, ops: Ops) -> dict[int, set[int]]:
        """Look up now what a run looks up at each record's turn; return, by op, the columns of which an earlier record decides."""
        unknown: dict[int, set[int]] = {}
        for late in ops.late:
            resolved = self.resolver.resolve(self.session, self.hints, late.lookup, late.keys, 0)
            for number, values in zip(late.written, resolved.columns, strict=True):
                ops.written[number].values = values  # type: ignore[assignment]
            for op in (*resolved.faults, *resolved.skipped):
                unknown.setdefault(op, set()).update(late.written)
        return unknown

    def _find_late(self, ops: Ops) -> None:
        """Find now the rows that a run finds at each record's turn."""
        identity = self.block.entity.identity
        if identity is None or not ops.keys:
            return
        found = self.session.find(identity, ops.keys)
        rows = list(range(len(self.block)) if self.step.rows is None else self.step.rows)
        for op in (op for op, kind in enumerate(ops.kinds) if kind == LOOK_UP):
            record, locator = self.records[rows[op]], found.rows.get(op)
            kind = None if op in found.ambiguous else decide(ops.action, locator is not None)
            record.is_certain = False
            if op in found.ambiguous:
                record.faults = [said(LOOKUP_AMBIGUOUS, identity, ops.keys, op, self.block.entity.is_identity_masked)]
            elif kind is None:
                record.faults = [forbidden(ops, op, locator is not None)]
            ops.kinds[op], ops.found[op] = kind or REFUSED, locator


def _bounded(records: list[TriedRecord]) -> list[TriedRecord]:
    """Return the first records, as many as have no more cells together than are told."""
    cells = 0
    for number, record in enumerate(records):
        cells += len(record.cells)
        if cells > MOST_CELLS:
            return records[:number]
    return records
