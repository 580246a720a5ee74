"""Searching the results: lines that a filter lets through, found by the bytes that each of them must hold, in flat memory.

Results have one line a record, of which only those that hold the sought bytes are looked at any closer: hundreds of megabytes a second.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass

from engine.results import LINE_CHARS, OUTCOMES, changes_in, outcome_of


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which results are wanted; what is None does not matter."""

    severity: str | None = None
    code: str | None = None
    column: str | None = None  # that the result tells a value of, or a change
    text: str | None = None  # anywhere in the line, in ASCII letters of either case
    outcome: str | None = None  # of engine.results.OUTCOMES

    def lets_through(self, row: list[str]) -> bool:
        """Tell whether a row of the results (the seven columns) is wanted."""
        if len(row) != 7 or row[0].startswith("#"):
            return False
        if (self.severity and row[2] != self.severity) or (self.code and row[0] != self.code):
            return False
        if self.outcome and outcome_of(row[0], row[2]) != self.outcome:
            return False
        if self.column and self.column not in _columns(row[4]):
            return False
        return not self.text or self.text.lower() in "\n".join(row).lower()

    def needle(self) -> tuple[bytes, bool]:
        """Return bytes that each wanted line holds, and whether letters of either case are meant; none where all lines may be wanted."""
        if self.code:
            return f"{self.code},".encode(), False
        # What JSON or CSV would write in another way cannot be sought as it is.
        if self.text and self.text.isascii() and self.text.isprintable() and not set(self.text) & set('"\\'):
            return self.text.lower().encode(), True
        if self.column and self.column.isprintable() and not set(self.column) & set('"\\'):
            return f'""{self.column}"": '.encode(), False
        codes = OUTCOMES[self.outcome] if self.outcome else ()
        if len(codes) == 1:
            return f"{codes[0]},".encode(), False
        severity = "Error" if self.outcome == "errors" else self.severity
        return (f",{severity},".encode() if severity else b""), False

    def starts(self) -> tuple[bytes, ...]:
        """Return with what each wanted line begins, if any of several things: there is more to be told at a glance than by the needle."""
        return tuple(f"{code},".encode() for code in OUTCOMES[self.outcome]) if self.outcome else ()


def _columns(properties: str) -> Container[str]:
    changed, _, told = changes_in(properties)
    return changed or told


@dataclass(frozen=True, slots=True)
class Found:
    """A page of what was sought."""

    rows: list[list[str]]
    position: int  # the byte behind the last line that was looked at
    is_end: bool  # nothing follows


def search(pieces: Iterable[bytes], start: int, wanted: Wanted, most: int, seconds: float) -> Found:
    """Return the first `most` wanted rows of results whose `pieces`, each ending with a line, begin at the byte `start`.

    After `seconds` it returns what it has found so far, though it be nothing: the next search goes on at its position.
    """
    until, rows, position = time.monotonic() + seconds, [], start
    for piece in pieces:
        for end, row in _in_piece(piece, wanted):
            rows.append(row)
            if len(rows) == most:
                return Found(rows, position + end, False)
        position += len(piece)
        if time.monotonic() > until:
            return Found(rows, position, False)
    return Found(rows, position, True)


def matching(pieces: Iterable[bytes], wanted: Wanted) -> Iterator[list[str]]:
    """Yield all wanted rows of results."""
    return (row for piece in pieces for _, row in _in_piece(piece, wanted))


def _in_piece(piece: bytes, wanted: Wanted) -> Iterator[tuple[int, list[str]]]:
    """Yield the wanted rows of a piece, each with the byte where its line ends."""
    csv.field_size_limit(LINE_CHARS)
    starts = wanted.starts()
    for begin, end in _candidates(piece, *wanted.needle()):
        if starts and not piece.startswith(starts, begin):
            continue
        row = next(csv.reader([piece[begin:end].decode(errors="replace")]), [])
        if wanted.lets_through(row):
            yield end, row


def _candidates(piece: bytes, needle: bytes, is_any_case: bool) -> Iterator[tuple[int, int]]:
    """Yield where lines that hold the needle begin and end."""
    sought_in = piece.lower() if is_any_case else piece
    begin = 0
    while begin < len(piece) and (at := sought_in.find(needle, begin)) >= 0:
        begin = piece.rfind(b"\n", begin, at) + 1 or begin
        end = piece.find(b"\n", at) + 1 or len(piece)
        yield begin, end
        begin = end
