"""The rows of an XLSX sheet, given as those of delimited text are: so a sheet may be a plain file, or be in the multi-entity form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO

from engine.converters.column import Chain
from engine.faults import Fault
from engine.plan import EntityPlan, Mapping
from engine.readers.rows import Check, accept
from engine.readers.task import Task
from engine.readers.xlsx.book import open_book
from engine.readers.xlsx.sheet import Row, rows
from engine.readers.xlsx.values import Dated
from engine.tables import Kind

_MIDNIGHT = " 00:00:00"
_INSTANTS = {Kind.TIMESTAMP, Kind.TIMESTAMP_TZ}


@contextmanager
def sheet_rows(task: Task, stream: BinaryIO) -> Iterator[SheetRows]:
    """Open a workbook and give the rows of the sheet that the control file means. FileRefused where it cannot be read."""
    book = open_book(stream, task.limits)
    try:
        sheet = book.sheet(task.file.sheet)
        others = [other.name for other in book.sheets if other.is_visible and other != sheet]
        if others and task.file.sheet is None and task.record == 0:
            task.warnings.append(f"only the sheet {sheet.name} is read, not: {', '.join(others)[:200]}")
        yield SheetRows(rows(book, sheet, task.limits))
    finally:
        book.texts.close()


class SheetRows:
    """Stands for both Rows and Lines: rows without anything in them are passed over, but counted."""

    def __init__(self, found: Iterator[Row]) -> None:
        self.lines = self
        self.number = 1  # of the row behind the last one taken
        self.chars_dropped = 0  # characters of the rows taken
        self.check: Check = accept  # no row spans lines, so it is never asked
        self.width: int | None = None  # of a row, once the header has said so
        self.used: dict[int, str] = {}  # the inputs, by column; what is wrong in other columns harms nobody. {}: all count
        self._found = found
        self._first = 1

    def skip_to(self, number: int, _offset: int | None = None) -> None:
        """Pass over all rows before this one. See Lines.skip_to: of a row nobody knows at which byte it begins."""
        self._first = number

    def place(self) -> dict[str, int]:
        """See Lines.place."""
        return {}

    def take(self, count: int, chars: int) -> tuple[list[list[str]], Sequence[int], dict[int, Fault]]:
        """Take up to `count` rows of about `chars` characters: rows, their numbers, and by row why it cannot be read. See Rows.take."""
        taken: list[list[str]] = []
        numbers: list[int] = []
        unread: dict[int, Fault] = {}
        enough = self.chars_dropped + chars
        for row in self._found:
            number, cells, wrong = row
            if number < self._first or not (wrong or any(map(str.strip, cells))):
                continue
            if wrong and (fault := self._fault(row)):
                unread[len(taken)] = fault
            if self.width is not None:
                cells = self._fitted(cells, self.width)
            while self.width is None and cells and not cells[-1].strip():
                cells.pop()
            taken.append(cells)
            numbers.append(number)
            self.number = number + 1
            self.chars_dropped += sum(map(len, cells)) + len(cells)
            if len(taken) == count or self.chars_dropped >= enough:
                break
        return taken, numbers, unread

    def _fault(self, row: Row) -> Fault | None:
        """Return the first thing that is wrong with a row, as far as it matters."""
        if row.cells and row.cells[0][:1] in ("!", "#") and self.width is None:
            return None
        columns = sorted(column for column in row.wrong if column < 0 or not self.used or column in self.used)
        return row.wrong[columns[0]]._replace(column=self.used.get(columns[0], "")) if columns else None

    @staticmethod
    def _fitted(cells: list[str], width: int) -> list[str]:
        """Return the cells as wide as the header, if only empty ones have to be dropped or added."""
        if len(cells) < width:
            return cells + [""] * (width - len(cells))
        return cells if len(cells) == width or any(cells[width:]) else cells[:width]


def fit_dates(entity: EntityPlan, inputs: Sequence[str], columns: list[Sequence[str | None]]) -> list[Sequence[str | None]]:
    """Write the date cells of each column as what it fills wants them: with a time of day where that keeps one, without where not.

    A spreadsheet's day and its midnight are the same number. Texts that look like dates stay as they stand.
    """
    return [_fitted_dates(column, _kinds(entity, name)) for name, column in zip(inputs, columns, strict=True)]


def _kinds(entity: EntityPlan, name: str) -> set[Kind | None]:
    """Return the kinds of the columns that an input fills or is compared with; None where a converter of another type comes first."""
    return {kind for mapping in _lookups_too(entity) if name in mapping.inputs() for kind in _kinds_of(mapping)}


def _lookups_too(entity: EntityPlan) -> Iterator[Mapping]:
    yield from entity.mappings
    if entity.identity is not None:
        yield Mapping((), entity.identity.parts[0].source, lookup=entity.identity)


def _kinds_of(mapping: Mapping) -> Iterator[Kind | None]:
    pairs = [(part.column, part.convert) for part in mapping.lookup.parts] if mapping.lookup else [(mapping.columns[0], mapping.convert)]
    for column, convert in pairs:
        yield None if isinstance(convert, Chain) else column.kind


def _fitted_dates(column: Sequence[str | None], kinds: set[Kind | None]) -> Sequence[str | None]:
    if set(map(type, column)) <= {str}:
        return column
    has_clock = bool(kinds) and kinds <= _INSTANTS
    has_none = kinds == {Kind.DATE}
    return [_fitted_date(value, has_clock, has_none) if isinstance(value, Dated) else value for value in column]


def _fitted_date(value: str, has_clock: bool, has_none: bool) -> str:
    if has_none:
        return value.removesuffix(_MIDNIGHT)
    return f"{value}{_MIDNIGHT}" if has_clock and " " not in value else str(value)
