"""The rows of one sheet, with the text of their cells and what is wrong with them, as a stream."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import NamedTuple

from engine import faults
from engine.faults import Fault
from engine.readers.limits import FileRefused, Limits
from engine.readers.xlsx.book import Book, Gathered, SheetEntry, unescaped
from engine.readers.xlsx.package import local
from engine.readers.xlsx.values import Shown, date_text, dated, number_text

_MERGED = re.compile(rb"<(?:[\w.-]+:)?mergeCell\s[^<>]*?\bref\s*=\s*[\"']([A-Z]{1,3})([0-9]{1,7}):([A-Z]{1,3})([0-9]{1,7})[\"']")
_MERGED_BYTES = 256  # the longest markup of one merged region, so that none is cut in two
_MOST_MERGED = 100_000
_MOST_COLUMNS = 16_384  # of a sheet
_DIGITS = "0123456789"


class Row(NamedTuple):
    """One row: its number in the sheet from 1, the text of its cells from column A on, and by column (0-based) what is wrong."""

    number: int
    cells: list[str]
    wrong: dict[int, Fault]


class Merged(NamedTuple):
    """A merged region, as 1-based rows and 0-based columns, ends included."""

    top: int
    left: int
    bottom: int
    right: int


def rows(book: Book, sheet: SheetEntry, limits: Limits) -> Iterator[Row]:
    """Yield the rows that hold anything, in their order."""
    covered = _Covered(merged_regions(book, sheet))
    reading = _Reading(book, limits)
    for _ in book.package.parse(sheet.part, reading.start, reading.end, reading.gathered.add):
        for row in reading.rows:
            covered.mark(row)
            yield row
        reading.rows.clear()
        if reading.is_over:
            return


def merged_regions(book: Book, sheet: SheetEntry) -> list[Merged]:
    """Return the sheet's merged regions. They stand behind its rows, so that they are sought before: by one look over the bytes."""
    found: list[Merged] = []
    rest = b""
    for block in book.package.blocks(sheet.part):
        block = rest + block
        at = 0
        if b"mergeCell" in block:
            for match in _MERGED.finditer(block):
                left, top, right, bottom = match.groups()
                found.append(Merged(int(top), column_number(left.decode()), int(bottom), column_number(right.decode())))
                at = match.end()
                if len(found) > _MOST_MERGED:
                    raise FileRefused("xlsx", f"The sheet has more than {_MOST_MERGED} merged regions")
        rest = block[max(at, len(block) - _MERGED_BYTES) :]
    return sorted(found)


class _Covered:
    """Marks the cells that merged regions cover: they are empty in the file, and nobody can say what they are to mean."""

    def __init__(self, regions: list[Merged]) -> None:
        self._coming = regions[::-1]
        self._here: list[Merged] = []

    def mark(self, row: Row) -> None:
        """Add the faults of covered cells to a row that holds anything else."""
        while self._coming and self._coming[-1].top <= row.number:
            self._here.append(self._coming.pop())
        if not self._here:
            return
        self._here = [region for region in self._here if region.bottom >= row.number]
        if sum(region.right - region.left + 1 for region in self._here) > _MOST_COLUMNS:
            raise FileRefused("xlsx", "The sheet has merged regions that overlap", row.number)
        if row.wrong or any(row.cells):
            for top, left, bottom, right in self._here:
                where = f"{column_name(left)}{top}:{column_name(right)}{bottom}"
                for column in range(left + (row.number == top), right + 1):
                    cell = f"{column_name(column)}{row.number}"
                    row.wrong.setdefault(column, faults.fault(faults.MERGED_CELL, cell=cell, region=where))


class _Reading:
    """What the parser calls. Rows gather in `rows` until they are taken."""

    def __init__(self, book: Book, limits: Limits) -> None:
        self.rows: list[Row] = []
        self.is_over = False  # behind the last row
        self.gathered = Gathered(limits.field_chars)
        self._book, self._limits = book, limits
        self._columns: dict[str, int] = {}  # by letters
        self._row = Row(0, [], {})
        self._chars = 0  # of the row
        self._column, self._kind, self._style, self._has_formula = 0, "n", "", False
        self._pronounced = 0
        self._starts: dict[str, Callable[[dict[str, str]], None]] = {
            "row": self._start_row, "c": self._start_cell, "v": self._open, "t": self._open_text, "f": self._formula, "rPh": self._aside,
        }  # fmt: skip
        self._texts: dict[str, Callable[[str], str | Fault]] = {
            "n": self._number, "s": self._shared, "str": unescaped, "inlineStr": str, "b": self._truth, "e": self._error, "d": self._date,
        }  # fmt: skip

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Take the start of an element."""
        if start := self._starts.get(local(name)):
            start(attributes)

    def end(self, name: str) -> None:
        """Take the end of an element."""
        name = local(name)
        self.gathered.is_open = False
        if name == "c":
            self._end_cell()
        elif name == "row":
            if self._row.cells or self._row.wrong:
                self.rows.append(self._row)
        elif name == "rPh":
            self._pronounced -= 1
        elif name == "sheetData":
            self.is_over = True

    def _start_row(self, attributes: dict[str, str]) -> None:
        last = self._row.number
        number = attributes.get("r", "")
        self._row = Row(int(number) if number.isdecimal() and len(number) < 10 else last + 1, [], {})
        if self._row.number <= last:
            raise FileRefused("xlsx", f"The sheet's rows are not in order: {self._row.number} follows {last}", self._row.number)
        self._column, self._chars = -1, 0

    def _start_cell(self, attributes: dict[str, str]) -> None:
        reference = attributes.get("r")
        if reference is None:
            self._column += 1
        else:
            letters = reference.rstrip(_DIGITS)
            column = self._columns.get(letters)
            if column is None:
                column = self._columns[letters] = column_number(letters)
            if column <= self._column:
                self._row.wrong[-1] = faults.fault(faults.INVALID_LINE, reason=f"its cells are not in order at {reference[:20]}")
            self._column = column
        self._kind = attributes.get("t", "n")
        self._style = attributes.get("s", "")
        self._has_formula = False
        self.gathered.clear()

    def _open(self, _: dict[str, str]) -> None:
        self.gathered.is_open = True

    def _open_text(self, _: dict[str, str]) -> None:
        self.gathered.is_open = self._kind == "inlineStr" and not self._pronounced

    def _formula(self, _: dict[str, str]) -> None:
        self._has_formula = True

    def _aside(self, _: dict[str, str]) -> None:
        self._pronounced += 1

    def _end_cell(self) -> None:
        text = self.gathered.text()
        if text == "" and self._kind != "s":
            if self._has_formula and self._kind != "str":
                self._put(faults.fault(faults.NO_CACHED_VALUE, cell=self._cell()))
            return
        if text is None:
            self._put(faults.fault(faults.FIELD_TOO_LONG, limit=self._limits.field_chars))
            return
        try:
            value = self._texts[self._kind](text)
        except (ValueError, KeyError, IndexError):
            value = faults.fault(faults.INVALID_CELL, "", text, cell=self._cell(), kind_said=self._kind[:20])
        if value:
            self._put(value)

    def _put(self, value: str | Fault) -> None:
        """Keep a cell's text or its fault; it is not empty."""
        column, row = self._column, self._row
        if column >= self._limits.columns:
            row.wrong[-1] = faults.fault(faults.TOO_MANY_COLUMNS, found=column + 1, limit=self._limits.columns)
        elif isinstance(value, Fault):
            row.wrong[column] = value
        elif -1 not in row.wrong:
            cells = row.cells
            if column > len(cells):
                cells.extend([""] * (column - len(cells)))
            cells.append(value)
            self._chars += len(value)
            if self._chars > self._limits.line_bytes:
                row.wrong[-1] = faults.fault(faults.LINE_TOO_LONG, limit=self._limits.line_bytes)
                cells.clear()

    def _cell(self) -> str:
        return f"{column_name(self._column)}{self._row.number}"

    # A cell's value, by its kind ------------------------------------------------------------------------------------
    def _number(self, text: str) -> str:
        shown = Shown.NUMBER
        if self._style:
            styles, style = self._book.styles, int(self._style)
            shown = styles[style] if style < len(styles) else Shown.NUMBER
        return number_text(text) if shown is Shown.NUMBER else date_text(text, shown, self._book.is_1904)

    def _shared(self, text: str) -> str | Fault:
        found = self._book.texts[int(text)]
        return faults.fault(faults.FIELD_TOO_LONG, limit=self._limits.field_chars) if found is None else found

    def _truth(self, text: str) -> str:
        return {"1": "true", "0": "false", "true": "true", "false": "false"}[text]

    def _error(self, text: str) -> Fault:
        return faults.fault(faults.ERROR_CELL, "", text, cell=self._cell())

    def _date(self, text: str) -> str:
        return dated(datetime.fromisoformat(text), Shown.DATE)


def column_number(letters: str) -> int:
    """Return a column's number from 0; one without proper letters counts as beyond all others.

    >>> column_number("A"), column_number("Z"), column_number("AA"), column_number("")
    (0, 25, 26, 1073741824)
    """
    number = 0
    for letter in letters:
        if not "A" <= letter <= "Z" or len(letters) > 4:
            return 1 << 30
        number = number * 26 + ord(letter) - 64
    return number - 1 if letters else 1 << 30


def column_name(column: int) -> str:
    """Return the letters of a column.

    >>> column_name(0), column_name(25), column_name(26), column_name(701), column_name(702)
    ('A', 'Z', 'AA', 'ZZ', 'AAA')
    """
    letters = ""
    column += 1
    while column > 0:
        column, rest = divmod(column - 1, 26)
        letters = chr(65 + rest) + letters
    return letters
