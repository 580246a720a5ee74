"""Single records of a file as they stand in it, cell by cell, so that people see what a result is about."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from itertools import chain
from typing import Any, BinaryIO

from engine.failed import _BLOCK_BYTES, Layout, Mark, Unpacked, numbered_lines, opened, refused
from engine.readers.bytestream import decompressed
from engine.readers.limits import Limits
from engine.results import LINE_CHARS

_SHOWN = 200  # characters of a cell, and cells of a row


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One record."""

    line: int  # 1-based: its first physical line, or its number in a JSON array
    cells: tuple[tuple[str, str], ...]  # (name of the column, or "" where the file tells none; what stands there)


def source_rows(
    stream: BinaryIO, name: str, layout: Layout, lines: Sequence[int], limits: Limits, *, is_json_lines: bool = False
) -> list[SourceRow]:
    """Return the records that begin at these lines (ascending) of a file that is no workbook; those that are not there are left out.

    Cells are cut to 200 characters, rows to 200 cells. The file is read from its beginning, in flat memory. Raises FileRefused.
    """
    if layout.is_array:
        return _of_array(stream, name, layout, lines, limits)
    text, encoding = opened(BufferedReader(Unpacked(decompressed(stream, name, limits)), _BLOCK_BYTES), layout.encoding)
    is_raw = encoding == "latin-1"  # bytes stand for themselves: see opened
    kept = _wanted(numbered_lines(text), lines)
    numbered = ((n, piece.encode(encoding).decode(layout.encoding, "replace") if is_raw else piece) for n, piece in kept)
    if is_json_lines:
        return [_of_json(number, line) for number, line in numbered if number in lines]
    return list(_of_table(numbered, layout, lines))


def _wanted(numbered: Iterator[tuple[int, str]], lines: Sequence[int]) -> Iterator[tuple[int, str]]:
    """Pass over what is between the header and the first wanted line, without a look at it."""
    last = lines[-1] if lines else 0
    for number, line in numbered:
        if number == 1 or number in lines or number > lines[0]:
            yield number, line
        if number > last + _SHOWN:
            return


def _of_table(numbered: Iterator[tuple[int, str]], layout: Layout, lines: Sequence[int]) -> Iterator[SourceRow]:
    csv.field_size_limit(LINE_CHARS)
    first = next(numbered, (1, ""))
    has_names = layout.has_header and not layout.is_multi_entity
    header = _record(iter([first[1].lstrip("\ufeff")]), layout) if has_names else []
    following = chain([] if has_names else [first], numbered)
    for number, line in following:
        if number not in lines:
            continue
        cells = _record(chain([line], (text for _, text in following)), layout)[:_SHOWN]
        names = [name.strip().lstrip("*").strip() for name in header[: len(cells)]]
        names += [""] * (len(cells) - len(names))
        yield SourceRow(number, tuple((name, cell[:_SHOWN]) for name, cell in zip(names, cells, strict=True)))


def _record(lines: Iterator[str], layout: Layout) -> list[str]:
    """Read one record, which takes as many lines as it needs."""
    quoted = csv.reader(lines, delimiter=layout.separator, quotechar=layout.quote) if layout.quote else None
    reader = quoted or csv.reader(lines, delimiter=layout.separator, quoting=csv.QUOTE_NONE)
    try:
        return next(reader, [])
    except csv.Error:
        return []


def _of_array(stream: BinaryIO, name: str, layout: Layout, lines: Sequence[int], limits: Limits) -> list[SourceRow]:
    marks = (Mark(line, True) for line in lines)
    try:
        found = json.loads(b"".join(refused(stream, name, layout, marks, limits)))
    except ValueError:
        return []  # An element that is no JSON is told by its fault; there are no cells to show.
    return [SourceRow(line, _cells(record)) for line, record in zip(lines, found, strict=False)]


def _of_json(number: int, line: str) -> SourceRow:
    try:
        return SourceRow(number, _cells(json.loads(line)))
    except ValueError:
        return SourceRow(number, (("", line[:_SHOWN]),))


def _cells(record: Any) -> tuple[tuple[str, str], ...]:
    pairs = record.items() if isinstance(record, dict) else [("", record)]
    told = ((str(name), value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)) for name, value in pairs)
    return tuple((name, value[:_SHOWN]) for name, value in told)[:_SHOWN]
