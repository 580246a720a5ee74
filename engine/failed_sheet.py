"""The refused rows of a sheet, as a workbook of their own with its header, ready to be mended and sent again.

Values stand there as text, in the form in which they were read: so that none changes on its way through another spreadsheet program.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import BinaryIO

from engine import faults
from engine.failed import Layout, Mark
from engine.readers.limits import Limits
from engine.readers.xlsx.book import open_book
from engine.readers.xlsx.sheet import Row, rows
from engine.workbook import ErrorCell, workbook

_ERRORS = {faults.ERROR_CELL, faults.NO_CACHED_VALUE, faults.INVALID_CELL}


def refused_rows(stream: BinaryIO, layout: Layout, results: Iterator[Mark], limits: Limits) -> Iterator[bytes]:
    """Yield a workbook of the sheet's header, its refused rows, and its `!` and `#` rows. FileRefused where it cannot be read."""
    book = open_book(stream, limits)
    with closing(book.texts):
        found = rows(book, book.sheet(layout.sheet), limits)
        yield from workbook(_cells(row) for row in _kept(found, layout, results))


def _kept(found: Iterator[Row], layout: Layout, results: Iterator[Mark]) -> Iterator[Row]:
    mark = next(results, None)
    is_header = not layout.is_multi_entity and layout.has_header
    for row in found:
        is_named = layout.is_multi_entity and bool(row.cells) and row.cells[0].startswith("!")
        while mark is not None and mark.line < row.number:
            mark = next(results, None)
        if is_header or is_named or (mark is not None and mark.line == row.number and mark.is_kept):
            yield row
        is_header = is_header and not any(map(str.strip, row.cells))


def _cells(row: Row) -> list[str]:
    """Return a row's cells; one that holds an error, or a formula without a value, holds an error again."""
    cells = [str(cell) for cell in row.cells]
    for column, fault in row.wrong.items():
        if column >= 0 and fault.kind in _ERRORS:
            cells += [""] * (column + 1 - len(cells))
            cells[column] = ErrorCell(fault.value if fault.value.startswith("#") else "#VALUE!")
    return cells
