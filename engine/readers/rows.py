"""Rows of delimited text with the physical line where each begins. A row that cannot be read costs only its own first line.

The standard csv reader does the work. Lines are numbered by its own count: where it advanced by one for each row, no row spans lines; else
the line breaks in the fields are counted, and where that is not certain the rows are read one by one. After a row that cannot be read,
reading goes on at the line after the one where it began.
"""

from __future__ import annotations

import csv
from bisect import bisect_right
from collections.abc import Callable, Container, Sequence
from itertools import accumulate, islice
from typing import Any

from engine import faults
from engine.faults import Fault
from engine.readers.limits import Limits
from engine.readers.lines import Lines

_UNFINISHED = "unexpected end of data"

Check = Callable[[list[list[str]], Container[int], list[str]], Fault | None]


class Rows:
    """The rows of a file. A blank line is a row without fields."""

    def __init__(self, lines: Lines, separator: str, quote: str, limits: Limits) -> None:
        self.lines = lines
        # Asked of a row that spans lines, with the rows before it and the numbers of those among them that could not be read. A fault means
        # that its quotes cannot be trusted, so that only its first line is lost.
        self.check: Check = accept
        self._limits = limits
        self._options: dict[str, Any] = {"delimiter": separator, "strict": True}
        self._options |= {"quotechar": quote} if quote else {"quoting": csv.QUOTE_NONE, "quotechar": None}

    def take(self, count: int, chars: int) -> tuple[list[list[str]], Sequence[int], dict[int, Fault]]:
        """Take up to `count` rows from about `chars` characters: rows, first line of each, and by row why it could not be read.

        Fewer rows do not mean the end: no rows do.
        """
        csv.field_size_limit(self._limits.field_chars)
        lines = self.lines.peek(count, chars)
        if not lines:
            return [], [], {}
        rows: list[list[str]] = []
        reader = csv.reader(lines, **self._options)
        is_whole = True
        try:
            rows.extend(reader)
        except csv.Error as error:
            # What came before an error stays in `rows`. A row that goes on beyond these lines is begun again with more of them.
            is_whole = str(error) == _UNFINISHED and len(rows) > 0
        starts = self._starts(rows, lines, reader.line_num) if is_whole else None
        if starts is None:
            return self._take_exactly(lines)
        end = starts.pop()
        wrong = self._marked(starts, end) if self.lines.marks else {}
        self.lines.drop(end - self.lines.number)
        return rows, starts, wrong

    def _starts(self, rows: list[list[str]], lines: list[str], line_num: int) -> list[int] | None:
        """Return the line at which each row begins, and the one behind the last; None where only the exact way can tell."""
        first = self.lines.number
        if line_num == len(rows):
            return list(range(first, first + len(rows) + 1))
        spans = _spans(rows, lines[:line_num], self._options["quotechar"] or '"')
        if spans is None:
            spans = _line_breaks(rows)
        if spans is None:
            return None
        lengths = [1] * len(rows)
        for row, breaks in spans.items():
            lengths[row] += breaks
        starts = list(accumulate(lengths, initial=first))
        unread = self._marked(starts[:-1], starts[-1]) if spans and self.lines.marks else {}
        return None if any(self.check(rows[:row], unread, rows[row]) for row in spans) else starts

    def _take_exactly(self, lines: list[str]) -> tuple[list[list[str]], list[int], dict[int, Fault]]:
        rows: list[list[str]] = []
        starts: list[int] = []
        wrong: dict[int, Fault] = {}
        unread: set[int] = set()
        first, done = self.lines.number, 0  # done: how many of the lines belong to rows
        while done < len(lines):
            reader = csv.reader(islice(lines, done, None), **self._options)
            begun, fault = done, None
            try:
                for row in reader:
                    end = begun + reader.line_num
                    if end > done + 1 and (fault := self.check(rows, unread, row)):
                        break
                    if self.lines.marks and not self.lines.marks.keys().isdisjoint(range(first + done, first + end)):
                        unread.add(len(rows))
                    rows.append(row)
                    starts.append(first + done)
                    done = end
            except csv.Error as error:
                if str(error) != _UNFINISHED or self._is_last(len(lines)):
                    fault = self._fault(error, begun + reader.line_num - done)
                elif rows:
                    break  # the next call begins with this row
                else:
                    fault, done = self._take_long(lines, rows)
                    starts += [first] * len(rows)
                    if not fault:
                        break
            if fault:
                wrong[len(rows)] = fault
                unread.add(len(rows))
                rows.append(self._mark_of(lines[done]))
                starts.append(first + done)
                done += 1
        if self.lines.marks:
            wrong |= self._marked(starts, first + done)
        self.lines.drop(done)
        return rows, starts, wrong

    def _mark_of(self, line: str) -> list[str]:
        """Return what a line that cannot be read seems to say, if that counts for the rows below: the fields of a `!` or `#` line."""
        quote = self._options["quotechar"] or ""
        text = line.strip().lstrip(quote)
        return [field.strip(quote) for field in text.split(self._options["delimiter"])] if text[:1] in ("!", "#") else []

    def _is_last(self, count: int) -> bool:
        """Tell whether the file ends behind the next `count` lines."""
        return len(self.lines.peek(count + 1, 1 << 40)) <= count

    def _take_long(self, lines: list[str], rows: list[list[str]]) -> tuple[Fault | None, int]:
        """Take the one row that goes on beyond `lines`, looking further and further ahead; return its fault and how many lines it has."""
        while True:
            longer = self.lines.peek(2 * len(lines), self._limits.line_bytes)
            reader = csv.reader(longer, **self._options)
            try:
                row = next(reader)
            except csv.Error as error:
                if str(error) != _UNFINISHED or len(longer) == len(lines) or self._is_last(len(longer)):
                    return self._fault(error, reader.line_num), 0
                lines = longer
                continue
            if fault := self.check(rows, (), row):
                return fault, 0
            rows.append(row)
            return None, reader.line_num

    def _marked(self, starts: Sequence[int], end: int) -> dict[int, Fault]:
        """Return by row the faults of its lines."""
        faulty: dict[int, Fault] = {}
        for line in sorted(self.lines.marks):
            if starts and starts[0] <= line < end:
                faulty.setdefault(bisect_right(starts, line) - 1, self.lines.marks[line])
        return faulty

    def _fault(self, error: csv.Error, spanned: int) -> Fault:
        text = str(error)
        if text == _UNFINISHED or spanned > 1:
            return faults.fault(faults.UNCLOSED_QUOTE, length=spanned, unit="line" if spanned == 1 else "lines")
        if text.startswith("field larger"):
            return faults.fault(faults.FIELD_TOO_LONG, limit=self._limits.field_chars)
        if "expected after" in text:
            return faults.fault(faults.STRAY_QUOTE)
        return faults.fault(faults.INVALID_LINE, reason=text)


def _spans(rows: list[list[str]], lines: list[str], quote: str) -> dict[int, int] | None:
    """Return how many line breaks each row holds that has any, told by the lines with an odd number of quotes: they begin and end there.

    None where that is not so (a quote may stand within a field that has none around it). The line breaks of these rows being those that
    were expected, and all that there are, no other row has one.
    """
    spans: dict[int, int] = {}
    ends = iter([index for index, line in enumerate(lines) if quote in line and line.count(quote) % 2])
    breaks = 0
    for begin in ends:
        row, end = begin - breaks, next(ends, begin)
        spans[row] = end - begin
        breaks += end - begin
        text = "".join(rows[row]) if row < len(rows) else ""
        if text.count("\n") != end - begin or "\r" in text:
            return None
    return spans if breaks == len(lines) - len(rows) else None


def _line_breaks(rows: list[list[str]]) -> dict[int, int] | None:
    """Return how many line breaks the fields of each row hold that has any; None where a CR makes that uncertain."""
    if len(set(map(len, rows))) == 1:
        spans: dict[int, int] = {}
        for column in zip(*rows, strict=True):
            joined = "".join(column)
            if "\r" in joined:
                return None
            if "\n" in joined:
                for row, value in enumerate(column):
                    if "\n" in value:
                        spans[row] = spans.get(row, 0) + value.count("\n")
        return dict(sorted(spans.items()))
    texts = list(map("".join, rows))
    if any("\r" in text for text in texts):
        return None
    return {row: text.count("\n") for row, text in enumerate(texts) if "\n" in text}


def accept(rows: list[list[str]], unread: Container[int], row: list[str]) -> Fault | None:
    """Accept any row that spans lines."""
    return None


def is_blank(row: list[str]) -> bool:
    """Tell whether a row that should have several fields is a line of nothing but white space."""
    return not row or (len(row) == 1 and not row[0].strip())
