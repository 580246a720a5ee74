"""The refused records of a file as they stood in it, with its header, ready to be mended and sent again.

The results say which records were refused and where each begins; here the file is read beside them, line by line, and nothing of it is
parsed again: what goes out is byte for byte what came in.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import BufferedReader, RawIOBase, TextIOWrapper
from typing import Any, BinaryIO, NamedTuple

from engine.faults import SKIPPED_HEADER
from engine.readers import FORMATS
from engine.readers.bytestream import Read, bare_name, decompressed, open_blocks
from engine.readers.limits import Limits

_BLOCK_BYTES = 256 * 1024
_PIECE_CHARACTERS = 64 * 1024
_BOMS = ((b"\xff\xfe\x00\x00", "utf-32-le"), (b"\x00\x00\xfe\xff", "utf-32-be"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_STRUCTURE = re.compile(rb'["\[\]{},]')
_IN_STRING = re.compile(rb'["\\]')
SEPARATOR_LINE = re.compile(r'"?sep=(.)"?[\r\n]*$', re.IGNORECASE)


class Mark(NamedTuple):
    """What the results say of one line of the file."""

    line: int  # 1-based: the first physical line of the record; in a JSON array the number of the element
    is_kept: bool  # a refused record, or a `#` line of the multi-entity form


@dataclass(frozen=True, slots=True)
class Layout:
    """What must be known of a file to cut it into lines as its reader did."""

    encoding: str = "utf-8"
    separator: str = ","
    quote: str = '"'  # "": none
    is_multi_entity: bool = False
    is_array: bool = False  # JSON: marks count elements, not lines
    is_sheet: bool = False  # XLSX: see engine/failed_sheet.py
    has_header: bool = True
    sheet: str | None = None
    is_json_lines: bool = False


def layout_of(files: Mapping[str, Any], name: str, form: str | None, separator: str | None) -> tuple[Layout, str]:
    """Return how a file of a batch is cut into lines, and what it is read as: as it was sent, else as the control file says.

    `files` is what a control file says of its files; `form` and `separator` are what was said of the file when it was sent.
    """
    said = files.get(name, files.get("DEFAULT")) or {}
    read = form or said.get("read") or FORMATS.get(bare_name(name).rpartition(".")[2], "csv")
    layout = Layout(
        encoding="utf-8" if form in ("json", "jsonl") else said.get("encoding") or "utf-8",
        separator=separator or (None if form == "tsv" else said.get("separator")) or ("\t" if read == "tsv" else ","),
        quote=said.get("quote", '"') or "",
        is_multi_entity=not (said.get("entity") and said.get("action")),
        is_array=read in ("json", "collection"),
        is_sheet=read == "xlsx",
        has_header=said.get("header", True),
        sheet=said.get("sheet"),
        is_json_lines=read == "jsonl",
    )
    return layout, read


def marks(rows: Iterable[list[str]], file_name: str) -> Iterator[Mark]:
    """Return the marks of one file from rows of the results (the seven columns)."""
    for row in rows:
        if row[6] == file_name:
            yield Mark(int(row[3]), row[2] == "Error" or row[0] == SKIPPED_HEADER.code)


def refused(stream: BinaryIO, name: str, layout: Layout, results: Iterator[Mark], limits: Limits) -> Iterator[bytes]:
    """Yield the file's header and its refused records, as bytes of the file (of a JSON array: an array of the refused elements, in UTF-8).

    `stream` is the file as it is stored; where its name says that it is compressed, what goes out is not. Memory does not grow with it.
    Raises FileRefused where the file cannot be decompressed, or expands beyond the limits.
    """
    if layout.is_array:
        read, _ = open_blocks(stream, name, layout.encoding, limits)
        elements = BufferedReader(Unpacked(read), _BLOCK_BYTES)
        yield from _gathered(_elements(elements, (mark.line for mark in results if mark.is_kept)))
        return
    text, encoding = opened(BufferedReader(Unpacked(decompressed(stream, name, limits)), _BLOCK_BYTES), layout.encoding)
    numbered = numbered_lines(text)
    lines = _groups_and_refused(numbered, results, layout) if layout.is_multi_entity else _refused(numbered, results)
    yield from _gathered(line.encode(encoding, "replace") for line in lines)


class Unpacked(RawIOBase):
    """What reads a file's blocks, as a stream."""

    def __init__(self, read: Read) -> None:
        self._read, self._rest = read, b""

    def readable(self) -> bool:
        """Say that it can be read: a buffer over it asks."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Give what is left of a block, or the next one."""
        view = memoryview(buffer)
        block = self._rest or self._read()
        size = min(len(block), len(view))
        view[:size], self._rest = block[:size], block[size:]
        return size


def opened(stream: BufferedReader[Any], encoding: str) -> tuple[TextIOWrapper, str]:
    """Return the file as text whose lines end where the reader's lines end, and the encoding that gives its bytes back.

    Where line ends and quotes are the bytes that they are in ASCII, the text is read as Latin-1: that has a character for every byte, so
    that wrong bytes come out as they went in.
    """
    start = stream.peek(4)
    wide = next((name for bom, name in _BOMS if start.startswith(bom)), None)
    # The named encodings that begin with a byte order mark would put one before every line that is encoded.
    named = {"utf-16": "utf-16-le", "utf-32": "utf-32-le", "utf-8-sig": "utf-8"}.get(codecs.lookup(encoding).name, encoding)
    chosen = wide or ("latin-1" if '\r\n"'.encode(named) == b'\r\n"' else named)
    return TextIOWrapper(stream, chosen, errors="replace", newline=""), chosen


def numbered_lines(text: TextIOWrapper, number: int = 1) -> Iterator[tuple[int, str]]:
    """Yield the lines with their numbers, a very long one in several pieces: nobody knows how long a line of a broken file is.

    `number` is that of the first one.
    """
    is_cut_in_line_end = False
    while piece := text.readline(_PIECE_CHARACTERS):
        if is_cut_in_line_end and piece != "\n":
            number += 1
        yield number, piece
        is_cut_in_line_end = len(piece) == _PIECE_CHARACTERS and piece.endswith("\r")
        number += piece.endswith(("\n", "\r")) and not is_cut_in_line_end


def _refused(lines: Iterable[tuple[int, str]], results: Iterator[Mark]) -> Iterator[str]:
    """Keep the lines before the first record, and of each refused record all up to where the next one begins."""
    is_kept, mark = True, next(results, None)
    for number, line in lines:
        while mark is not None and mark.line <= number:
            is_kept, mark = mark.is_kept, next(results, None)
        if is_kept:
            yield line


def _groups_and_refused(lines: Iterable[tuple[int, str]], results: Iterator[Mark], layout: Layout) -> Iterator[str]:
    """Do the same for the multi-entity form, whose `!` lines have no result and are kept wherever they stand.

    A `!` within quotes is only a line of a value; whether quotes are open is followed from the first line of each record.
    """
    is_kept, kept_line, mark, quotes = True, 0, next(results, None), _Quotes(layout.separator, layout.quote)
    for number, line in lines:
        if number == 1 and (said := SEPARATOR_LINE.match(line)):
            quotes = _Quotes(said[1], layout.quote)
        while mark is not None and mark.line <= number:
            is_kept, mark = mark.is_kept, next(results, None)
            quotes.are_open = False
        if number != kept_line and not quotes.are_open and line.lstrip(layout.quote or None).startswith("!"):
            kept_line = number
        if is_kept or number == kept_line:
            yield line
        quotes.follow(line)


class _Quotes:
    """Tells whether a line ends within quotes: one opens only where a field begins, and two in a row stand for themselves."""

    def __init__(self, separator: str, quote: str) -> None:
        self.are_open = False
        one = re.escape(quote)
        self._opening = re.compile(f"(?:^|{re.escape(separator)}){one}") if quote else None
        self._closing = re.compile(f"[^{one}]*(?:{one}{one}[^{one}]*)*{one}(?!{one})" if quote else "")

    def follow(self, line: str) -> None:
        """Take the next line."""
        at: int | None = 0
        while at is not None and self._opening is not None:
            found = (self._closing.match if self.are_open else self._opening.search)(line, at)
            at = found.end() if found else None
            self.are_open ^= found is not None


def _elements(stream: BufferedReader[Any], wanted: Iterator[int]) -> Iterator[bytes]:
    """Yield a JSON array of the wanted elements (1-based, ascending) of the array in the stream."""
    last, separator = 0, b"[\n"
    for number, piece in cut(stream, wanted):
        if number == last:
            yield piece
        elif piece := piece.lstrip():
            yield separator + piece
            last, separator = number, b",\n"
    yield b"\n]\n" if last else b"[]\n"


def cut(stream: BufferedReader[Any], wanted: Iterator[int]) -> Iterator[tuple[int, bytes]]:
    """Cut the wanted elements out of an array, in pieces with the element's number. Only brackets, commas and strings matter."""
    target = next(wanted, None)
    number = depth = at = 0  # the element that is read (0: before the array), how many brackets are open, where to look next
    is_string = False
    while target is not None and (block := stream.read(_BLOCK_BYTES)):
        start = 0
        while found := (_IN_STRING if is_string else _STRUCTURE).search(block, at):
            byte, at = found[0], found.end()
            if is_string:
                is_string, at = byte != b'"', at + (byte == b"\\")  # what follows a backslash never ends a string
                continue
            if byte == b'"':
                is_string = True
                continue
            depth += (byte in b"[{") - (byte in b"]}")
            if number and (depth == 0 or (depth == 1 and byte == b",")):
                if number == target:
                    yield number, block[start : at - 1].rstrip()
                    target = next(wanted, None)
                start, number = at, number + 1
            elif not number:
                start, number = at, 1
            if target is None or depth == 0 or (number == 1 and depth == 1 and byte == b"{"):
                return
        if number == target:
            yield number, block[start:]
        at = max(at - len(block), 0)


def _gathered(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Join small pieces to blocks that are worth sending."""
    held: list[bytes] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= _BLOCK_BYTES:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)
