"""Whole columns at once: the fast way for all values, one by one only if that fails."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine import faults
from engine.faults import Fault, Kind
from engine.plan import Converter, Faults, Text

CACHED_VALUES = 20_000  # that a cache holds at most; it is emptied when full, so that memory stays flat
CACHED_LENGTH = 64  # characters of the longest text that is worth remembering
APART = 40  # values; a part of this size is converted value by value
FAILS = (ValueError, KeyError, TypeError, AttributeError, ArithmeticError)  # what a fast way raises where a value is not plain, or is None

Fast = Callable[[Sequence[str]], Sequence[Any]]  # see Whole
One = Callable[[str], Any]


class Invalid(ValueError):
    """One value is wrong; `details` fill the kind's message."""

    def __init__(self, kind: Kind, **details: object) -> None:
        self.kind, self.details = kind, details
        super().__init__(kind.code)


class Odd(ValueError):
    """All values are converted but those of some rows, which are to be taken one by one."""

    def __init__(self, rows: Sequence[int], out: Sequence[Any]) -> None:
        """`out`: the converted column, with anything at the odd rows."""
        self.rows, self.out = rows, out
        super().__init__("odd values")


@dataclass(frozen=True, slots=True)
class Whole:
    """A converter of whole columns. Call it with a column; see engine.plan.Converter."""

    name: str  # of the column, for messages
    fast: Fast  # returns the converted column, or, if any value is not plain, raises Odd or, where it cannot tell which, one of FAILS
    one: One  # converts one value, or raises Invalid
    is_masked: bool = False
    is_strict: bool = False  # the fast way takes no text that is empty, nor one with blanks around it unless it means the same

    def is_plain(self, value: str) -> bool:
        """Say whether the fast way takes a value."""
        return not self.plain([value])[1]

    def plain(self, column: Text) -> tuple[Text, Sequence[int]]:
        """Convert a column by the fast way alone; return also the rows that it does not take, which may have any value."""
        try:
            return self.fast(column), ()  # type: ignore[arg-type]
        except Odd as odd:
            return odd.out, odd.rows
        except FAILS:
            return column, range(len(column))

    def __call__(self, column: Text) -> tuple[Text, Faults]:
        """Convert a column; a row with a fault, and a row that is None, has None."""
        try:
            return self.fast(column), {}  # type: ignore[arg-type]  # None raises TypeError
        except Odd as odd:
            return self._only(odd, column)
        except FAILS:
            present = [value for value in column if value is not None]
        if len(present) == len(column):
            return self._apart(column)
        out, wrong_present = self._apart(present) if present else ([], {})
        if out is present:
            return column, {}
        following = iter(out).__next__
        converted = [None if value is None else following() for value in column]
        if not wrong_present:
            return converted, {}
        rows = [row for row, value in enumerate(column) if value is not None]
        return converted, {rows[index]: fault for index, fault in wrong_present.items()}

    def _apart(self, column: Text) -> tuple[Text, Faults]:
        """Convert a column in ever smaller parts, so that a few values that are not plain cost only their neighbours the slow way."""
        try:
            return self.fast(column), {}  # type: ignore[arg-type]
        except Odd as odd:
            return self._only(odd, column)
        except FAILS:
            if len(column) <= APART:
                return self._one_by_one(column)
        half = len(column) // 2
        first, wrong = self._apart(column[:half])
        second, more = self._apart(column[half:])
        return [*first, *second], {**wrong, **{half + row: fault for row, fault in more.items()}}

    def _only(self, odd: Odd, column: Text) -> tuple[Text, Faults]:
        """Take the odd rows one by one, the others as they are."""
        out = list(odd.out)
        singly, wrong = self._one_by_one([column[row] for row in odd.rows])
        for row, value in zip(odd.rows, singly, strict=True):
            out[row] = value
        return out, {odd.rows[index]: fault for index, fault in wrong.items()}

    def _one_by_one(self, column: Text) -> tuple[Text, Faults]:
        out: list[Any] = []
        wrong: dict[int, Fault] = {}
        for row, value in enumerate(column):
            if value is None:
                out.append(None)
                continue
            try:
                out.append(self.one(value))
            except Invalid as invalid:
                shown = "***" if self.is_masked else value
                details = {name: "***" if self.is_masked and name == "reason" else detail for name, detail in invalid.details.items()}
                wrong[row] = faults.fault(invalid.kind, self.name, shown, **details)
                out.append(None)
        return out, wrong


@dataclass(frozen=True, slots=True)
class Chain:
    """One converter after another: first to the type that the control file names, then to the column's."""

    first: Converter
    second: Converter

    def __call__(self, column: Text) -> tuple[Text, Faults]:
        """Convert a column by both."""
        column, wrong = self.first(column)
        column, more = self.second(column)
        return column, {**wrong, **more} if more else wrong


@dataclass(slots=True)
class Cached:
    """Remembers what `one` made of short texts, within bounds; faults are not remembered."""

    one: One
    known: dict[str, Any] = field(default_factory=dict)

    def fast(self, column: Sequence[str]) -> list[Any]:
        """Convert a column through the memory; Odd where `one` refuses a value, or where one is too long to be remembered."""
        try:
            return list(map(self.known.__getitem__, column))
        except KeyError:
            odd = self._learn(column)
        if odd:
            raise Odd(_rows_of(odd, column), list(map(self.known.get, column)))
        return list(map(self.known.__getitem__, column))

    def passed(self, column: Sequence[str]) -> Sequence[str]:
        """Return the column itself where `one` leaves every value that it takes as it is."""
        odd = self._learn(column)
        if odd:
            raise Odd(_rows_of(odd, column), column)
        return column

    def _learn(self, column: Sequence[str]) -> set[str]:
        """Remember what is new; return the values that cannot be remembered."""
        known = self.known
        fresh = set(column).difference(known)
        if len(known) + len(fresh) > CACHED_VALUES:
            known.clear()
            fresh = set(column)
        odd: set[str] = set()
        for value in fresh:
            try:
                known[value] = self._checked(value)
            except ValueError:
                odd.add(value)
        return odd

    def _checked(self, value: str) -> Any:
        if len(value) > CACHED_LENGTH:
            raise ValueError(value)
        return self.one(value)


def _rows_of(values: set[str], column: Sequence[str]) -> list[int]:
    return [row for row, value in enumerate(column) if value in values]


def column_pattern(value: str) -> re.Pattern[str]:
    """Compile the pattern of one plain value, in ASCII, into that of a joined column; see is_all."""
    return re.compile(rf"(?:(?:{value})\n)*+", re.ASCII)


def unlike(pattern: re.Pattern[str], column: Sequence[str]) -> list[int] | None:
    """Return the rows that do not match: one scan of the joined column (5 ns a character), without a call for each value.

    None where they are more than one in eight: another way is better then.
    """
    joined = "\n".join(column) + "\n"
    if joined.count("\n") != len(column):
        return [row for row, value in enumerate(column) if "\n" in value or not pattern.fullmatch(f"{value}\n")]
    rows: list[int] = []
    row = at = 0
    # The pattern takes as many whole lines as match, be it none.
    most = len(column) // 8 + 1
    while (match := pattern.match(joined, at)) and (end := match.end()) < len(joined):
        if len(rows) == most:
            return None
        row += joined.count("\n", at, end)
        rows.append(row)
        row, at = row + 1, joined.index("\n", end) + 1
    return rows


def check_all(pattern: re.Pattern[str], column: Sequence[str]) -> None:
    """Raise Odd for the rows that do not match, or ValueError where they are many; the others pass through as they are."""
    odd = unlike(pattern, column)
    if odd is None:
        raise ValueError
    if odd:
        raise Odd(odd, column)


def is_all(pattern: re.Pattern[str], column: Sequence[str]) -> bool:
    """Tell whether every value matches."""
    joined = "\n".join(column) + "\n"
    return joined.count("\n") == len(column) and pattern.fullmatch(joined) is not None
