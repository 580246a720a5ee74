"""Where a mapping's text comes from: an input or constant, then fallback, filters, map and default, whole columns at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from engine import faults
from engine.chunk import Block
from engine.converters.column import Whole
from engine.faults import Fault
from engine.plan import Bookkeeping, Converter, FilePlan, Source, Text
from engine.tables import Column, Kind

EXPLICIT_NULL = "\\N"
NO_ROWS: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Context:
    """What bookkeeping columns take from the run: when it began (aware, UTC), its batch, and the file's name."""

    now: datetime
    batch_id: int
    file_name: str


@dataclass(frozen=True, slots=True)
class Pulled:
    """One column, as text or converted. A None that is neither in `empties` nor at fault is a null that the data say themselves."""

    values: Text
    empties: frozenset[int] = NO_ROWS  # rows whose cell says no value, so that the rule for empty cells decides
    faults: dict[int, Fault] = field(default_factory=dict)
    is_full: bool = False  # known to have neither a null nor an empty cell


def _zero_as_empty(value: str) -> str:
    return "" if value.strip("+-0.,") == "" and "0" in value else value


def _digits(value: str) -> str:
    return "".join(filter(str.isdecimal, value))


def _collapse(value: str) -> str:
    return " ".join(value.split())


FILTERS: dict[str, Callable[[str], str]] = {
    "trim": str.strip,
    "upper": str.upper,
    "lower": str.lower,
    "collapse": _collapse,  # runs of white space become one space
    "digits": _digits,  # all but the digits is dropped
    "null-if-zero": _zero_as_empty,  # a zero means no value
}


class Puller:
    """Pulls the columns of one block; an input that several mappings read is prepared once."""

    def __init__(self, block: Block, file: FilePlan, line_of: Sequence[int], context: Context) -> None:
        """`line_of` gives the physical line of each position of the chunk."""
        self._block, self._file, self._line_of, self._context = block, file, line_of, context
        self._words = frozenset({"", *file.nulls}) - {EXPLICIT_NULL}
        self._nothing = self._words | {EXPLICIT_NULL}
        self._prepared: dict[str, Pulled] = {}
        self._plain_ones: dict[tuple[str, int], Pulled] = {}  # by input and converter: a key's part is often a value too

    def is_absent(self, sources: Sequence[Source]) -> bool:
        """Tell whether the file has none of the inputs of sources that read any: what they fill is left untouched then."""
        named = {name for s in sources for name in (s.input, s.fallback_input) if name is not None}
        return bool(named) and named.isdisjoint(self._block.inputs)

    def pull(self, source: Source, column: Column, convert: Converter | None, name: str, is_masked: bool = False) -> Pulled:
        """Return a source's column, converted, with what is wrong with it by row; `name` is what messages call it."""
        if source.bookkeeping is not None:
            return _converted(Pulled(self._bookkeeping(source.bookkeeping, column)), convert)
        if source.input is None:
            return _converted(Pulled([source.constant] * len(self._block)), convert)
        if (way := (source.input, id(convert))) in self._plain_ones:
            return self._plain_ones[way]
        plain = self._plain(self._block.column(source.input), source, convert)
        if plain is None:
            return _converted(self._shaped(self._input(source.input), source, name, is_masked), convert)
        self._plain_ones[way] = plain
        return plain

    def _shaped(self, pulled: Pulled, source: Source, name: str, is_masked: bool) -> Pulled:
        """Apply fallback, filters, map and default, in this order."""
        if source.fallback_input is not None and (len(pulled.empties) > 0):
            pulled = _fall_back(pulled, self._input(source.fallback_input))
        for word in source.filters:
            pulled = _filter(pulled, FILTERS[word])
        if source.map is not None:
            pulled = _map(pulled, source, name, is_masked)
        if source.default is not None and pulled.empties:
            pulled = Pulled(_filled(pulled.values, pulled.empties, source.default), NO_ROWS, pulled.faults)
        return pulled

    def _plain(self, raw: Text | None, source: Source, convert: Converter | None) -> Pulled | None:
        """Convert a column as it stands in the file, and prepare only what is not plain then; None where that cannot be done.

        It can where the converter itself tells apart what is padded, empty or null from its plain values.
        """
        if raw is None or not isinstance(convert, Whole) or source.fallback_input is not None or source.filters or source.map is not None:
            return None
        if source.default is not None or not convert.is_strict or any(convert.is_plain(word) for word in self._nothing):
            return None
        values, odd = convert.plain(raw)
        if not odd:
            return Pulled(values, is_full=True)
        if len(odd) == len(raw):
            return None
        part = _converted(self._prepare([raw[row] for row in odd]), convert)
        values = list(values)
        for row, value in zip(odd, part.values, strict=True):
            values[row] = value
        empties = frozenset([odd[n] for n in part.empties])
        return Pulled(values, empties, {odd[n]: fault for n, fault in part.faults.items()}, part.is_full)

    def _input(self, name: str) -> Pulled:
        if name not in self._prepared:
            self._prepared[name] = self._prepare(self._block.column(name))
        return self._prepared[name]

    def _prepare(self, column: Text | None) -> Pulled:
        """Trim a column and tell its empty cells and nulls; an input that the file does not have is empty throughout."""
        if column is None:
            return Pulled([None] * len(self._block), frozenset(range(len(self._block))))
        if self._file.is_trimmed:
            column = _trimmed(column)
        words, nothing = self._words, self._nothing
        # all() is the quickest way to see that a column has neither a null nor an empty cell; then only words are left to look for:
        # one or two of them sooner in the column than the column's values, each of which must be hashed for that, among them.
        if all(column) and (not any(word in column for word in nothing if word) if len(nothing) <= 3 else nothing.isdisjoint(column)):
            return Pulled(column, is_full=True)
        values = [None if value in nothing else value for value in column]
        return Pulled(values, frozenset([row for row, value in enumerate(values) if value is None and column[row] in words]))

    def _bookkeeping(self, word: Bookkeeping, column: Column) -> Text:
        block, context = self._block, self._context
        if word is Bookkeeping.LINE_NUMBER:
            return [str(self._line_of[position]) for position in block.positions]
        if word is Bookkeeping.BATCH_ID:
            return [str(context.batch_id)] * len(block)
        if word is Bookkeeping.FILE_NAME:
            return [context.file_name] * len(block)
        return [_now(context.now.astimezone(UTC), column.kind)] * len(block)


def _now(now: datetime, kind: Kind) -> str:
    """Return the instant in the form that a column of this kind takes, in UTC."""
    match kind:
        case Kind.DATE:
            return now.date().isoformat()
        case Kind.TIME:
            return now.time().isoformat("seconds")
        case Kind.TIME_TZ:
            return now.timetz().isoformat("seconds")
        case Kind.TIMESTAMP:
            return now.replace(tzinfo=None, microsecond=0).isoformat(" ")
        case _:
            return now.replace(microsecond=0).isoformat(" ")


def _trimmed(column: Text) -> Text:
    try:
        joined = "".join(column)  # type: ignore[arg-type]
        # Most columns have no white space at all, which is seen in half the time that it takes to trim them.
        return column if joined.split(None, 1) == [joined] else list(map(str.strip, column))  # type: ignore[arg-type]
    except TypeError:  # a null
        return [value if value is None else value.strip() for value in column]


def _converted(pulled: Pulled, convert: Converter | None) -> Pulled:
    if convert is None:
        return pulled
    values, wrong = convert(pulled.values)
    return Pulled(values, pulled.empties, {**wrong, **pulled.faults}, pulled.is_full)


def _fall_back(pulled: Pulled, other: Pulled) -> Pulled:
    values = list(pulled.values)
    for row in pulled.empties:
        values[row] = other.values[row]
    return Pulled(values, pulled.empties & other.empties)


def _filter(pulled: Pulled, one: Callable[[str], str]) -> Pulled:
    """Apply a filter; a value that it leaves without a character is empty."""
    values = [None if value is None else one(value) for value in pulled.values]
    if "" not in values:
        return Pulled(values, pulled.empties, pulled.faults)
    empties = pulled.empties.union(row for row, value in enumerate(values) if value == "")
    return Pulled([value or None for value in values], empties, pulled.faults)


def _map(pulled: Pulled, source: Source, name: str, is_masked: bool) -> Pulled:
    """Translate values by the map; one that it lacks takes mapDefault, or is a fault. A key of no characters translates empty cells."""
    meaning = source.map or {}
    values: list[str | None] = []
    wrong: dict[int, Fault] = {}
    has_empty = "" in meaning
    for row, value in enumerate(pulled.values):
        if value is None:
            values.append(meaning[""] if has_empty and row in pulled.empties else None)
        elif value in meaning:
            values.append(meaning[value])
        elif source.has_map_default:
            values.append(source.map_default)
        else:
            values.append(None)
            allowed = ", ".join(word for word in meaning if word)
            wrong[row] = faults.fault(faults.NOT_IN_MAP, name, "***" if is_masked else value, expected=allowed)
    return Pulled(values, NO_ROWS if has_empty else pulled.empties, wrong)


def _filled(values: Text, rows: frozenset[int], value: str) -> list[str | None]:
    filled = list(values)
    for row in rows:
        filled[row] = value
    return filled
