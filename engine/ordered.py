"""Ordered imports: the records of all files by group, smaller groups first, within a group in file order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import groupby, islice
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from engine.chunk import Block, Chunk
from engine.faults import Fault
from engine.plan import Action, EntityPlan
from engine.sorting import external_sort

_NONE = Decimal("-Infinity")  # records without a readable group, and `#` lines: they do nothing, so their place does not matter


class _Kind(NamedTuple):
    """What the records of a block have in common; kept once, referred to by number."""

    entity: EntityPlan
    action: Action
    inputs: tuple[str, ...]


class _Record(NamedTuple):
    group: Decimal
    file: int
    file_name: str
    number: int  # of the position in its file
    line: int
    kind: int | None  # None: the reader's verdict stands
    values: tuple[str | None, ...]
    faults: list[tuple]  # of the reader: (code, message, column, value)
    told: str


def in_group_order(chunks: Iterable[Chunk], scratch: Path, size: int) -> Iterator[Chunk]:
    """Regroup chunks that carry group orders; the new chunks are numbered from 0 and their borders are the same each time.

    A chunk holds consecutive records of one file. Flat memory: the records are sorted in temporary files below `scratch`.
    """
    kinds: list[_Kind] = []
    ordered = external_sort(_records(chunks, kinds), lambda r: (*r[:2], r[3]), scratch)
    number = 0
    for _, of_file in groupby(ordered, key=attrgetter("file")):
        while batch := list(islice(of_file, size)):
            yield _chunk(number, batch, kinds)
            number += 1


def _records(chunks: Iterable[Chunk], kinds: list[_Kind]) -> Iterator[_Record]:
    numbers: dict[tuple, int] = {}
    for chunk in chunks:
        rows: dict[int, tuple[int, tuple[str | None, ...]]] = {}
        for block in chunk.blocks:
            mark = (id(block.entity), block.action, block.inputs)
            if mark not in numbers:
                numbers[mark] = len(kinds)
                kinds.append(_Kind(block.entity, block.action, block.inputs))
            cells: Iterable[tuple[str | None, ...]] = zip(*block.columns, strict=True) if block.columns else [()] * len(block)
            rows.update(zip(block.positions, ((numbers[mark], cell) for cell in cells), strict=True))
        groups = chunk.group_orders or [None] * len(chunk)
        for position, line in enumerate(chunk.lines):
            kind, values = rows.get(position, (None, ()))
            faults = [tuple(f) for f in chunk.faults.get(position, [])]
            group = groups[position]
            yield _Record(
                _NONE if group is None else Decimal(group),
                chunk.file,
                chunk.file_name,
                chunk.first_record + position,
                line,
                kind,
                values,
                faults,
                chunk.told[position] if chunk.told else "",
            )


def _chunk(number: int, records: list[_Record], kinds: list[_Kind]) -> Chunk:
    first = records[0]
    chunk = Chunk(number, first.file, first.file_name, [r.line for r in records], first.number)
    chunk.faults = {p: [Fault(*f) for f in r.faults] for p, r in enumerate(records) if r.faults}
    chunk.told = [r.told for r in records] if any(r.told for r in records) else []
    positions = [(p, r) for p, r in enumerate(records) if r.kind is not None]
    for kind, run in groupby(positions, key=lambda pr: pr[1].kind):
        rows = list(run)
        entity, action, inputs = kinds[kind]
        columns: list[Sequence[str | None]] = [list(column) for column in zip(*(r.values for _, r in rows), strict=True)]
        chunk.blocks.append(Block(entity, action, inputs, columns, [p for p, _ in rows]))
    return chunk
