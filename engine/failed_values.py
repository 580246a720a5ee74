"""The refused records of a file, one by one, as values by the names that the file gives its columns."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from io import BufferedReader, StringIO
from itertools import chain, islice
from typing import Any, BinaryIO, NamedTuple

from engine.failed import SEPARATOR_LINE, Layout, Mark, Unpacked, cut, numbered_lines, opened
from engine.readers.bytestream import decompressed, open_blocks
from engine.readers.limits import Limits
from engine.readers.xlsx.book import open_book
from engine.readers.xlsx.sheet import rows

_BLOCK_BYTES = 256 * 1024
_MOST_CHARS = 64 * 1024  # of a record; of a longer one nothing but its beginning is told
_SHOWN_CHARS = 1000
_END = -1, ""  # of a record's pieces


class Record(NamedTuple):
    """A refused record."""

    line: int  # as its result tells it
    values: dict[str, Any] | None  # None: it cannot be read
    text: str  # as it stands in the file; of a sheet's row ""

    @property
    def shown(self) -> str:
        """Return as much of the text as can be shown of a record that cannot be read."""
        return self.text[:_SHOWN_CHARS].rstrip("\r\n")


def refused_records(
    stream: BinaryIO, name: str, layout: Layout, inputs: Sequence[str], results: Iterator[Mark], most: int, limits: Limits
) -> Iterator[Record]:
    """Yield the first refused records of a file that is not in the multi-entity form; `inputs` name the columns of one without a header.

    Values of JSON have its types, all others are texts. Memory grows neither with the file nor with a record. FileRefused where the file
    cannot be read.
    """
    if layout.is_sheet:
        yield from islice(_of_sheet(stream, layout, inputs, results, limits), most)
    elif layout.is_array:
        read, _ = open_blocks(stream, name, layout.encoding, limits)
        wanted = islice((mark.line for mark in results if mark.is_kept), most)
        pieces = cut(BufferedReader(Unpacked(read), _BLOCK_BYTES), wanted)
        yield from (_of_json(line, text) for line, text in _joined((number, piece.decode(errors="replace")) for number, piece in pieces))
    else:
        text, encoding = opened(BufferedReader(Unpacked(decompressed(stream, name, limits)), _BLOCK_BYTES), layout.encoding)
        said = layout.encoding if encoding == "latin-1" else encoding
        lines = ((number, line.encode(encoding, "replace").decode(said, "replace")) for number, line in numbered_lines(text))
        yield from islice(_of_lines(lines, layout, inputs, results), most)


def _of_lines(lines: Iterator[tuple[int, str]], layout: Layout, inputs: Sequence[str], results: Iterator[Mark]) -> Iterator[Record]:
    """Read delimited text, or JSON Lines."""
    found = _joined(_of_records(lines, results))
    if layout.is_json_lines:
        yield from (_of_json(line, text) for line, text in found if line)
        return
    separator, names = layout.separator, list(inputs)
    for line, text in found:
        if line:
            cells = _cells(text, separator, layout.quote)
            yield Record(line, dict(zip(names, cells, strict=True)) if len(cells) == len(names) else None, text)
            continue
        head = text.removeprefix("\ufeff")
        if said := SEPARATOR_LINE.match(head.partition("\n")[0]):
            separator, head = said[1], head.partition("\n")[2]
        if layout.has_header:
            names = [_unmarked(cell.strip(), inputs) for cell in _cells(head.lstrip("\r\n"), separator, layout.quote)]


def _of_records(lines: Iterator[tuple[int, str]], results: Iterator[Mark]) -> Iterator[tuple[int, str]]:
    """Yield what stands before the first record, as line 0, and the pieces of the refused records, each with its record's line."""
    record, mark = 0, next(results, None)
    if mark is None:
        return
    is_kept = True
    for number, text in lines:
        while mark is not None and mark.line <= number:
            if is_kept:
                yield _END
            is_kept, record = mark.is_kept, mark.line
            mark = next(results, None)
        if is_kept:
            yield record, text


def _joined(pieces: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Join the pieces of each record, as far as a record is kept; each is given as soon as it is known to be over."""
    line, held, size = -1, list[str](), 0
    for number, piece in chain(pieces, [_END]):
        if number != line and line >= 0:
            yield line, "".join(held)
        if number != line:
            line, held, size = number, [], 0
        if size <= _MOST_CHARS:
            held.append(piece)
            size += len(piece)


def _of_json(line: int, text: str) -> Record:
    text = text.strip()
    try:
        values = json.loads(text, parse_constant=_no_constant) if len(text) <= _MOST_CHARS else None
    except (ValueError, RecursionError):
        values = None
    return Record(line, values if isinstance(values, dict) else None, text)


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is no JSON value")


def _cells(text: str, separator: str, quote: str) -> list[str]:
    """Return the cells of a text's first row; [] where it cannot be read."""
    quotes: dict[str, Any] = {"quotechar": quote} if quote else {"quoting": csv.QUOTE_NONE, "quotechar": None}
    try:
        return next(csv.reader(StringIO(text, newline=""), delimiter=separator, strict=True, **quotes), [])
    except csv.Error:
        return []


def _of_sheet(stream: BinaryIO, layout: Layout, inputs: Sequence[str], results: Iterator[Mark], limits: Limits) -> Iterator[Record]:
    book = open_book(stream, limits)
    with closing(book.texts):
        names = None if layout.has_header else list(inputs)
        mark = next(results, None)
        for row in rows(book, book.sheet(layout.sheet), limits):
            cells = [str(cell) for cell in row.cells]
            if names is None and any(map(str.strip, cells)):
                names = [_unmarked(cell.strip(), inputs) for cell in cells]
                continue
            while mark is not None and mark.line < row.number:
                mark = next(results, None)
            if mark is None:
                return
            if names is not None and mark.line == row.number and mark.is_kept:
                cells += [""] * (len(names) - len(cells))
                yield Record(row.number, {name: cell for name, cell in zip(names, cells, strict=False) if name}, "")


def _unmarked(name: str, inputs: Sequence[str]) -> str:
    """Return a column's name without the star by which templates mark those that are needed."""
    return name if name in inputs else name.lstrip("* ")
