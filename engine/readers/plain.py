"""Plain delimited files: every row is a record of one entity and action."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from engine import faults
from engine.chunk import Block, Chunk
from engine.faults import Fault
from engine.plan import Action, EntityPlan
from engine.readers.limits import FileRefused
from engine.readers.lines import Lines
from engine.readers.rows import Rows, is_blank
from engine.readers.sheet import SheetRows
from engine.readers.task import Task, name_problem, place_names

_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?[\r\n]*', re.IGNORECASE)


def separator_of(task: Task, lines: Lines) -> str:
    """Return what separates fields: what the first line says (`sep=;`), else the control file, else a comma (TSV: a tab)."""
    first = lines.peek(1, 1)
    match = _SEPARATOR_LINE.fullmatch(first[0]) if first else None
    if match:
        lines.drop(1)
        return match[1]
    return task.file.separator or ("\t" if task.format == "tsv" else ",")


def delimited_rows(task: Task) -> Rows:
    """Return the rows of delimited text."""
    lines = Lines(task.read, task.encoding, task.limits, task.seek)
    return Rows(lines, separator_of(task, lines), task.file.quote, task.limits)


def read_plain(task: Task, entity: EntityPlan, action: Action, rows: Rows | SheetRows | None = None) -> Iterator[Chunk]:
    """Yield the chunks of a plain file: delimited text, or a sheet whose `rows` are given."""
    rows = rows or delimited_rows(task)
    names = _header(task, rows) if task.file.has_header else list(entity.inputs)
    if names is None:
        return
    width = len(names)
    places = place_names(names, entity.inputs)
    _warn(task, names, set(places.values()))
    if isinstance(rows, SheetRows):
        rows.width, rows.used = width, {index: name for name, index in places.items()}
    if task.start_line > rows.lines.number:
        rows.lines.skip_to(task.start_line, task.resume.get("offset"))
    rows.check = lambda before, unread, row: _wrong_width(task, width, row)
    while True:
        chunk = _chunk(task, rows, width, (entity, action, places))
        if chunk is None:
            return
        if len(chunk):
            yield chunk


def _header(task: Task, rows: Rows | SheetRows) -> list[str] | None:
    """Read the header; None where the file has no line. FileRefused where the names of its columns are not certain."""
    while True:
        taken, starts, wrong = rows.take(1, 1)
        if not taken:
            return None
        if wrong:
            raise FileRefused("header", f"The header cannot be read: {wrong[0].message}", starts[0])
        if not is_blank(taken[0]):
            break
    names = [_unmarked(name.strip(), task.file.entity) for name in taken[0]]
    if len(names) > task.limits.columns:
        raise FileRefused("header", f"The header has {len(names)} columns, more than the limit of {task.limits.columns}", starts[0])
    if problem := name_problem(names):
        raise FileRefused("header", f"The header cannot be used: {problem}", starts[0])
    return names


def _unmarked(name: str, entity: EntityPlan | None) -> str:
    """Return a column's name without the star by which templates mark those that are needed."""
    if not name.startswith("*") or entity is None or name in entity.inputs:
        return name
    return name.lstrip("* ")


def _warn(task: Task, names: Sequence[str], used: set[int]) -> None:
    """Warn of columns that no input takes, once a file: a run that is resumed has said so already."""
    extra = [name for index, name in enumerate(names) if index not in used]
    if extra and task.record == 0:
        task.warnings.append(f"the control file has no input for: {', '.join(extra)}")


def _wrong_width(task: Task, width: int, row: list[str]) -> Fault | None:
    if len(row) == width:
        return None
    if len(row) > task.limits.columns:
        return faults.fault(faults.TOO_MANY_COLUMNS, found=len(row), limit=task.limits.columns)
    return faults.fault(faults.COLUMN_COUNT, expected=width, found=len(row))


def _chunk(task: Task, rows: Rows | SheetRows, width: int, what: tuple[EntityPlan, Action, dict[str, int]]) -> Chunk | None:
    """Read the next chunk; None at the end of the file. It may be empty where there are blank lines only."""
    lines: list[int] = []
    kept: list[list[str]] = []
    wrong: dict[int, list[Fault]] = {}
    chars = task.chunk_bytes
    is_over = True
    while len(lines) < task.chunk_records and chars > 0:
        before = rows.lines.chars_dropped
        taken, starts, unread = rows.take(task.chunk_records - len(lines), chars)
        if not taken:
            break
        is_over = False
        chars -= rows.lines.chars_dropped - before
        odd = sorted(unread)
        if odd or set(map(len, taken)) != {width}:
            odd = sorted({*odd, *(index for index, row in enumerate(taken) if len(row) != width)})
        blank = {index for index in odd if index not in unread and is_blank(taken[index]) and (width > 1 or not taken[index])}
        faulty = [index for index in odd if index not in blank]
        for index in faulty:
            position = len(lines) + index - sum(before < index for before in blank)
            wrong[position] = [fault for fault in [unread.get(index) or _wrong_width(task, width, taken[index])] if fault]
        kept += _without(taken, {*odd})
        lines += _without(starts, blank)
    if is_over:
        return None
    positions = [position for position in range(len(lines)) if position not in wrong] if wrong else range(len(lines))
    blocks = [_block(kept, positions, *what)] if kept else []
    return task.chunk(lines, blocks, wrong, rows.lines.number, rows.lines.place())


def _without(items: Sequence[Any], gone: set[int]) -> Sequence[Any]:
    return [item for index, item in enumerate(items) if index not in gone] if gone else items


def _block(kept: list[list[str]], positions: Sequence[int], entity: EntityPlan, action: Action, places: dict[str, int]) -> Block:
    columns = list(zip(*kept, strict=True))
    return Block(entity, action, tuple(places), [columns[index] for index in places.values()], positions)
