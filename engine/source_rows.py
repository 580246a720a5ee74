"""Records of a file as they stand in it, one by one, with the names that the file gives its columns: of text, JSON and sheets.

The results say where records begin; what lies between is passed over, line by line, without a look at it.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from io import BufferedReader, BytesIO, StringIO, TextIOWrapper
from itertools import chain, dropwhile, islice, takewhile, zip_longest
from typing import Any, BinaryIO, NamedTuple, cast

from engine.failed import SEPARATOR_LINE, Layout, Mark, Unpacked, cut, numbered_lines, opened
from engine.readers.bytestream import decompressed, open_blocks
from engine.readers.limits import Limits
from engine.readers.xlsx.book import open_book
from engine.readers.xlsx.sheet import rows
from engine.results import LINE_CHARS

_BLOCK_BYTES = 256 * 1024
_MOST_CHARS = 64 * 1024  # of a record; of a longer one nothing but its beginning is told
_SHOWN_CHARS = 1000
_CELL_CHARS = 200  # of a cell, and so many cells of a row, on a page
_HEAD_LINES = 100  # within which the header is sought where only one row is wanted
_ROW_LINES = 200  # so many lines of it are looked at then, at most
_END = -1, ""  # of a record's pieces


class SourceRow(NamedTuple):
    """A record."""

    line: int  # as its result tells it
    names: Sequence[str]  # of its values, as the file has them; () where it tells none
    cells: Sequence[Any] | None  # those of JSON with its types, all others as texts; None: it cannot be read
    text: str  # as it stands in the file; of a sheet's row ""

    @property
    def values(self) -> dict[str, Any] | None:
        """Return the values by name; None where the record cannot be read, or has not as many as there are names."""
        if self.cells is None or len(self.cells) != len(self.names):
            return None
        return {name: cell for name, cell in zip(self.names, self.cells, strict=True) if name}

    @property
    def shown(self) -> str:
        """Return as much of the text as can be shown of a record that cannot be read."""
        return self.text[:_SHOWN_CHARS].rstrip("\r\n")

    def opened(self, name: str) -> SourceRow:
        """Return the record with the members of one of its values, which is an object, in the place of that."""
        at = next((n for n, (own, cell) in enumerate(self._pairs()) if own == name and isinstance(cell, dict)), None)
        if at is None or self.cells is None:
            return self
        inner = self.cells[at]
        return self._replace(
            names=[*self.names[:at], *inner, *self.names[at + 1 :]], cells=[*self.cells[:at], *inner.values(), *self.cells[at + 1 :]]
        )

    def _pairs(self) -> Iterator[tuple[str, Any]]:
        return zip_longest(self.names, self.cells or (), fillvalue="")

    def shown_cells(self) -> list[tuple[str, str]]:
        """Return (name, text) of the cells, as many and as much of each as a page has room for; of an unreadable record its text."""
        if self.cells is None:
            return [("", self.shown)]
        pairs = islice(self._pairs(), _CELL_CHARS)
        told = ((name, cell if isinstance(cell, str) else json.dumps(cell, ensure_ascii=False)) for name, cell in pairs)
        return [(name, cell[:_CELL_CHARS]) for name, cell in told]


def source_row(stream: BinaryIO, name: str, layout: Layout, inputs: Sequence[str], line: int, limits: Limits) -> SourceRow | None:
    """Return the record that a result tells by this line; None where there is none. See source_rows."""
    head = [Mark(_HEAD_LINES, False)] if line > _HEAD_LINES else []
    behind = Mark(line + (1 if layout.is_json_lines else _ROW_LINES), False)
    marks = iter([*head, Mark(line, True), behind])
    if layout.is_sheet or layout.is_array:
        found = next(source_rows(stream, name, layout, inputs, marks, 1, limits), None)
    else:
        found = next(_of_lines(_decoded(*_text_of(stream, name, layout, limits), line), layout, inputs, marks), None)
    if found is None or found.line != line or (found.cells is None and not found.text.strip()):
        return None
    # Where a record that cannot be read ends, nobody knows: its first line is shown.
    return found if found.cells is not None or layout.is_array else found._replace(text=found.text.splitlines()[0])


def source_rows(
    stream: BinaryIO, name: str, layout: Layout, inputs: Sequence[str], results: Iterator[Mark], most: int, limits: Limits
) -> Iterator[SourceRow]:
    """Yield the first records of a file whose marks are kept; `inputs` name the columns of one without a header.

    Rows of the multi-entity form have no names. Memory grows neither with the file nor with a record. FileRefused where the file cannot
    be read.
    """
    if layout.is_sheet:
        yield from islice(_of_sheet(stream, layout, inputs, results, limits), most)
    elif layout.is_array:
        read, _ = open_blocks(stream, name, layout.encoding, limits)
        wanted = islice((mark.line for mark in results if mark.is_kept), most)
        pieces = cut(BufferedReader(Unpacked(read), _BLOCK_BYTES), wanted)
        yield from (_of_json(line, text) for line, text in _joined((number, piece.decode(errors="replace")) for number, piece in pieces))
    else:
        yield from islice(_of_lines(_decoded(*_text_of(stream, name, layout, limits)), layout, inputs, results), most)


def _text_of(stream: BinaryIO, name: str, layout: Layout, limits: Limits) -> tuple[TextIOWrapper, str, str]:
    """Return a file as text, the encoding that gives its bytes back, and the one that they are in."""
    text, encoding = opened(BufferedReader(Unpacked(decompressed(stream, name, limits)), _BLOCK_BYTES), layout.encoding)
    return text, encoding, layout.encoding if encoding == "latin-1" else encoding


def _decoded(text: TextIOWrapper, encoding: str, said: str, wanted: int = 0) -> Iterator[tuple[int, str]]:
    """Yield the lines with their numbers. Where only the one with the number `wanted` matters, those long before it may be left out."""
    # As Latin-1 is read what has line ends that are the bytes of ASCII: they can be counted.
    lines = _near(text, wanted) if encoding == "latin-1" and wanted > _HEAD_LINES else numbered_lines(text)
    return ((number, line.encode(encoding, "replace").decode(said, "replace")) for number, line in lines)


def _near(text: TextIOWrapper, wanted: int) -> Iterator[tuple[int, str]]:
    """Yield the first lines, and those from the block on in which the wanted one begins: what is between is counted, block by block."""
    blocks, number = _blocks(cast("BufferedReader[Any]", text.detach())), 1
    block = next(blocks, b"")
    head = numbered_lines(TextIOWrapper(BytesIO(block), "latin-1", newline=""))
    yield from takewhile(lambda one: one[0] < _HEAD_LINES, head)
    while block and (behind := number + block.count(b"\n") + block.count(b"\r") - block.count(b"\r\n")) < wanted:
        block, number = next(blocks, b""), behind
    following = chain([block], blocks)
    rest = BufferedReader(Unpacked(lambda: next(following, b"")), _BLOCK_BYTES)
    numbered = numbered_lines(TextIOWrapper(rest, "latin-1", newline=""), number)
    yield from dropwhile(lambda one: one[0] < _HEAD_LINES, numbered)


def _blocks(stream: BufferedReader[Any]) -> Iterator[bytes]:
    """Yield blocks of a file; of a line end of two bytes that is cut in two, the second is left out."""
    is_cut = False
    while block := stream.read(_BLOCK_BYTES):
        yield block[1:] if is_cut and block.startswith(b"\n") else block
        is_cut = block.endswith(b"\r")


def _of_lines(lines: Iterator[tuple[int, str]], layout: Layout, inputs: Sequence[str], results: Iterator[Mark]) -> Iterator[SourceRow]:
    """Read delimited text, or JSON Lines."""
    found = _joined(_of_records(lines, results))
    if layout.is_json_lines:
        yield from (_of_json(line, text) for line, text in found if line)
        return
    csv.field_size_limit(LINE_CHARS)
    has_names = layout.has_header and not layout.is_multi_entity
    separator, names = layout.separator, [] if layout.is_multi_entity else list(inputs)
    for line, text in found:
        if line:
            yield SourceRow(line, names, _cells(text, separator, layout.quote), text)
            continue
        head = text.removeprefix("\ufeff")
        if said := SEPARATOR_LINE.match(head.partition("\n")[0]):
            separator, head = said[1], head.partition("\n")[2]
        if has_names:
            names = [_unmarked(cell.strip(), inputs) for cell in _cells(head.lstrip("\r\n"), separator, layout.quote) or ()]


def _of_records(lines: Iterator[tuple[int, str]], results: Iterator[Mark]) -> Iterator[tuple[int, str]]:
    """Yield what stands before the first record, as line 0, and the pieces of the wanted records, each with its record's line."""
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


def _of_json(line: int, text: str) -> SourceRow:
    text = text.strip()
    try:
        values = json.loads(text, parse_constant=_no_constant) if len(text) <= _MOST_CHARS else None
    except (ValueError, RecursionError):
        values = None
    return SourceRow(line, [*values], [*values.values()], text) if isinstance(values, dict) else SourceRow(line, [], None, text)


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is no JSON value")


def _cells(text: str, separator: str, quote: str) -> list[str] | None:
    """Return the cells of a text's first row; None where it cannot be read."""
    quotes: dict[str, Any] = {"quotechar": quote} if quote else {"quoting": csv.QUOTE_NONE, "quotechar": None}
    try:
        return next(csv.reader(StringIO(text, newline=""), delimiter=separator, strict=True, **quotes), None)
    except csv.Error:
        return None


def _of_sheet(stream: BinaryIO, layout: Layout, inputs: Sequence[str], results: Iterator[Mark], limits: Limits) -> Iterator[SourceRow]:
    book = open_book(stream, limits)
    with closing(book.texts):
        names = [] if layout.is_multi_entity else None if layout.has_header else list(inputs)
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
                width = max(len(names), len(cells))
                yield SourceRow(row.number, [*names, *[""] * (width - len(names))], [*cells, *[""] * (width - len(cells))], "")


def _unmarked(name: str, inputs: Sequence[str]) -> str:
    """Return a column's name without the star by which templates mark those that are needed."""
    return name if name in inputs else name.lstrip("* ")
