"""What the engine knows of the target's tables: plain facts, reflected once, never changed.

Both targets fill these classes from their own system catalogues (see engine/target/*/reflect.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class Kind(StrEnum):
    """A column's type, as far as converters must tell types apart. A domain has the kind of its base type."""

    INTEGER = "integer"
    DECIMAL = "decimal"
    FLOAT = "float"
    TEXT = "text"
    BOOLEAN = "boolean"
    DATE = "date"
    TIME = "time"
    TIME_TZ = "time with time zone"
    TIMESTAMP = "timestamp"
    TIMESTAMP_TZ = "timestamp with time zone"
    INTERVAL = "interval"
    UUID = "uuid"
    JSON = "json"
    BINARY = "binary"
    ENUM = "enum"
    ARRAY = "array"
    OTHER = "other"  # passed through as text: the database casts it, or refuses it


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table of the target."""

    name: str
    kind: Kind
    sql_type: str  # as declared, with its modifiers: `numeric(12,2)`, `varchar(30)`, `"my enum"`
    cast_type: str  # what text is cast to before it is assigned: no length, so that a value too long is refused, never cut
    is_nullable: bool = True
    default: str | None = None  # an SQL expression, or None; for an identity column the call that draws its next value
    identity: str | None = None  # PostgreSQL: "always" or "by default"
    is_generated: bool = False  # computed by the database; never written
    max_length: int | None = None  # characters
    precision: int | None = None  # DECIMAL: digits in all
    scale: int | None = None  # DECIMAL: digits after the point
    bits: int | None = None  # INTEGER: 16, 32 or 64
    labels: tuple[str, ...] = ()  # ENUM
    element: Column | None = None  # ARRAY
    is_text_identity: bool = False  # two values are equal if and only if their canonical texts are, which the target prints too
    is_exact: bool = False  # the type's `=` tells apart every two values that print differently
    is_padded: bool = False  # PostgreSQL: blanks at the end of a text do not count, and are not printed
    collation: str | None = None  # where it is not the type's own: PostgreSQL as SQL, quoted; SQLite its name
    is_default_usable: bool = True  # False: the default draws from a sequence that our role may not use
    affinity: str | None = None  # SQLite: TEXT, NUMERIC, INTEGER, REAL or BLOB


@dataclass(frozen=True, slots=True)
class Unique:
    """A primary key, unique constraint or unique index."""

    name: str
    columns: tuple[str, ...]  # () where it has expressions
    is_primary: bool = False
    is_partial: bool = False
    has_expressions: bool = False
    is_deferred: bool = False  # INITIALLY DEFERRED
    nulls_are_equal: bool = False


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A reference from `columns` of the table that holds it to `referenced_columns` of another (or the same) table."""

    name: str
    columns: tuple[str, ...]
    schema: str | None  # of the referenced table
    table: str
    referenced_columns: tuple[str, ...]
    is_deferred: bool = False  # INITIALLY DEFERRED


@dataclass(frozen=True, slots=True)
class Table:
    """One table (or writable view) of the target."""

    schema: str | None  # None on SQLite
    name: str
    columns: dict[str, Column]
    primary_key: tuple[str, ...] = ()
    uniques: tuple[Unique, ...] = ()  # the primary key included
    foreign_keys: tuple[ForeignKey, ...] = ()
    referenced_by: tuple[tuple[str | None, str], ...] = ()  # (schema, name) of the tables whose foreign keys point here
    has_exclusion: bool = False  # an exclusion constraint
    has_triggers: bool = False  # enabled triggers of the user's, of any kind
    has_rewrites: bool = False  # rules, row security that applies to our role, or a view: what is written need not be what arrives
    is_view: bool = False  # its rows have no address
    has_children: bool = False  # PostgreSQL: partitions or inheriting tables hold some of its rows, so that a ctid alone names no row
    is_autoincrement: bool = False  # SQLite: ids are never used again
    rowid_alias: str | None = None  # SQLite: the INTEGER PRIMARY KEY, which is the row id by another name
    rowid_name: str | None = None  # SQLite: the name by which the row id can be reached (`rowid`), None in a WITHOUT ROWID table
    fingerprint: str = field(default="", compare=False)

    @property
    def key(self) -> tuple[str | None, str]:
        """Return what tells this table from the target's others."""
        return self.schema, self.name

    @property
    def quoted(self) -> str:
        """Return the table's name as SQL, quoted."""
        return quote(self.name) if self.schema is None else f"{quote(self.schema)}.{quote(self.name)}"

    @property
    def locator(self) -> tuple[str, ...]:
        """Return the columns that name one row for our own UPDATE and DELETE: the primary key, else () for the row's address."""
        return self.primary_key


def quote(name: str) -> str:
    """Quote an identifier for SQL.

    >>> print(quote('a"b'))
    "a""b"
    """
    return '"' + name.replace('"', '""').replace("\0", "") + '"'


def fold(name: str) -> str:
    """Return a name as names are compared: whatever its case and underscores.

    >>> fold("ResourceTrade") == fold("resource_trade")
    True
    """
    return name.replace("_", "").casefold()


class Tables(Protocol):
    """A target's tables: what engine/target/*/reflect.py gives. Reflected when first asked for, then remembered."""

    def names(self) -> Sequence[tuple[str | None, str]]:
        """Return (schema, name) of every table and writable view, ours left out; those of the search path first."""

    def get(self, schema: str | None, name: str) -> Table:
        """Reflect one table; KeyError where there is none."""


def matches(tables: Tables, name: str) -> list[tuple[str | None, str]]:
    """Return the tables that a control file may mean by `name`: that very name, else those alike but for case and underscores.

    `schema.table` names a schema; without one, PostgreSQL's search path is tried before the other schemas. One match is right, several are
    ambiguous, none is unknown.
    """
    known = list(tables.names())
    schema, _, bare = name.rpartition(".")
    exact = [k for k in known if k[1] == name or (schema and k == (schema, bare))]
    if exact:
        return exact[:1]
    return [k for k in known if fold(k[1]) == fold(name) or (schema and k[0] == schema and fold(k[1]) == fold(bare))]
