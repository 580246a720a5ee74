"""The plan: a control file compiled against the target's tables, ready to be carried out without another question.

engine/control.py makes it; engine/convert.py and engine/apply.py follow it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping as Map, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from engine.faults import Fault
from engine.tables import Column, ForeignKey, Table, fold

Text = Sequence[str | None]  # one column of a block; None where the cell is empty or null
Faults = dict[int, Fault]  # by row of the block
Converter = Callable[[Text], tuple[Text, Faults]]
"""A whole column in, the whole column out as canonical text (bytes for binary columns of SQLite), with what is wrong by row.

None passes through as None. A row with a fault has None. Canonical text is what the target's own cast reads back exactly, and, where
the column `is_text_identity`, the one text that every equal value has, as the target prints it (`7` for `007`).
"""

POSITIONAL = "positional"
"""A file's form: rows that name their entity and action below `!Name` lines, their values always in the order of its inputs."""


class Action(StrEnum):
    """What is to be done with a record."""

    INSERT = "Insert"
    UPDATE = "Update"
    DELETE = "Delete"
    MERGE = "Merge"


class Empty(StrEnum):
    """What an empty cell means. Without a rule it clears on update and takes the column's default on insert."""

    KEEP = "keep"  # an update leaves the value alone; an insert takes the default
    CLEAR = "clear"  # null, on insert too
    ERROR = "error"  # a fault
    DEFAULT = "default"  # the column's default, on update too
    EMPTY_STRING = "empty-string"  # the text of no characters


class Missing(StrEnum):
    """What a look-up that finds nothing means."""

    ERROR = "error"  # the record's fault
    CLEAR = "clear"  # null
    SKIP = "skip"  # the record is left out, and says so


class Bookkeeping(StrEnum):
    """Values that come from the run and not from the data."""

    NOW = "Now"  # when the run began, UTC
    BATCH_ID = "BatchId"
    LINE_NUMBER = "LineNumber"
    FILE_NAME = "FileName"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a mapping's text comes from: an input or constant, then (in this order) fallback, filters, map, default."""

    input: str | None = None
    fallback_input: str | None = None
    constant: str | None = None
    bookkeeping: Bookkeeping | None = None
    filters: tuple[str, ...] = ()  # names from engine.convert.FILTERS
    map: Map[str, str | None] | None = None
    has_map_default: bool = False
    map_default: str | None = None
    default: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One step through a reference: from a table by its foreign key to the table it points at."""

    foreign_key: ForeignKey
    table: Table


@dataclass(frozen=True, slots=True)
class KeyPart:
    """One column of a look-up's key, reached from the looked-up table through `path`, compared with `source`'s text."""

    column: Column
    source: Source
    convert: Converter
    path: tuple[Step, ...] = ()
    label: str = ""  # as the control file names it: `Flight->tailnum`


@dataclass(frozen=True, slots=True)
class Lookup:
    """Finds the one row of `table` whose key parts have the given values, and takes `results` of it."""

    entity: str  # for messages
    table: Table
    parts: tuple[KeyPart, ...]
    results: tuple[Column, ...]  # for an identity: the table's locator, () meaning the row's address
    missing: Missing = Missing.ERROR


@dataclass(frozen=True, slots=True)
class Mapping:
    """What fills one column of the target (several, where a look-up resolves a composite foreign key)."""

    columns: tuple[Column, ...]
    source: Source  # of a look-up: unused, its parts have their own
    convert: Converter | None = None  # exactly one of convert and lookup is set
    lookup: Lookup | None = None
    is_required: bool = False  # an empty cell is a fault
    empty: Empty | None = None  # None: the file's rule, else the documented one
    is_masked: bool = False  # the value never stands in results, diffs or mails

    def inputs(self) -> set[str]:
        """Return the names of the inputs it reads."""
        sources = [part.source for part in self.lookup.parts] if self.lookup else [self.source]
        return {name for s in sources for name in (s.input, s.fallback_input) if name is not None}


@dataclass(frozen=True, slots=True)
class EntityPlan:
    """A kind of record: its inputs, how its existing row is found, and what fills which column."""

    name: str
    table: Table
    inputs: tuple[str, ...]
    mappings: tuple[Mapping, ...]
    identity: Lookup | None = None  # None: rows have no identity, so only Insert is possible
    identity_inputs: frozenset[str] = frozenset()
    required_inputs: frozenset[str] = frozenset()
    is_identity_masked: bool = False


@dataclass(frozen=True, slots=True)
class FilePlan:
    """How one file is read, and, for a plain file, what its rows are."""

    name: str
    read: str | None = None  # csv, tsv, jsonl, json, xlsx; None: by the name's ending
    separator: str | None = None
    quote: str = '"'
    encoding: str = "utf-8"
    has_header: bool = True
    nulls: tuple[str, ...] = ("",)
    decimal: str = "."
    is_trimmed: bool = True
    entity: EntityPlan | None = None  # None: the multi-entity form
    action: Action | None = None
    order: float = 1
    is_required: bool = False
    empty: Empty | None = None
    sheet: str | None = None  # of a workbook, by name or number; None: the first that is not hidden
    min_rows: int = 1  # with fewer records the file is refused: an empty one is more often a broken export than no news

    def read_as(self, form: str | None, separator: str | None = None) -> FilePlan:
        """Return how a file is read that comes in another form: what the control file says of tables of text counts for those only."""
        if form == POSITIONAL:
            return replace(self, read="csv", encoding="utf-8", separator=separator, quote='"', has_header=False, entity=None, action=None)
        if form in ("json", "jsonl"):
            return replace(self, read=form, encoding="utf-8")
        return replace(self, read=form or self.read, separator=separator or (None if form == "tsv" else self.separator))


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole control file, compiled."""

    name: str | None
    entities: Map[str, EntityPlan]  # by folded name and folded alias
    files: Map[str, FilePlan]
    default: FilePlan | None = None  # for any other name; None refuses other names
    tables: tuple[tuple[str | None, str], ...] = field(default=())  # that its entities write, sorted

    def entity(self, name: str) -> EntityPlan | None:
        """Return the entity of this name or alias, whatever its case and underscores."""
        return self.entities.get(fold(name))

    def file(self, name: str) -> FilePlan | None:
        """Return how the file of this name is read; None: the control file has no place for it."""
        return self.files.get(name, self.default)
