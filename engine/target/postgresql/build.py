"""Make engine.tables' classes from what PostgreSQL's system catalogues say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine.tables import Column, ForeignKey, Kind, Table, Unique

KINDS = {
    "int2": Kind.INTEGER, "int4": Kind.INTEGER, "int8": Kind.INTEGER, "numeric": Kind.DECIMAL, "float4": Kind.FLOAT, "float8": Kind.FLOAT,
    "text": Kind.TEXT, "varchar": Kind.TEXT, "bpchar": Kind.TEXT, "name": Kind.TEXT, "char": Kind.TEXT, "bool": Kind.BOOLEAN,
    "date": Kind.DATE, "time": Kind.TIME, "timetz": Kind.TIME_TZ, "timestamp": Kind.TIMESTAMP, "timestamptz": Kind.TIMESTAMP_TZ,
    "interval": Kind.INTERVAL, "uuid": Kind.UUID, "json": Kind.JSON, "jsonb": Kind.JSON, "bytea": Kind.BINARY,
}  # fmt: skip
"""Kinds of the types of pg_catalog; citext, which is an extension's, is told by its name wherever it lives."""

BITS = {"int2": 16, "int4": 32, "int8": 64}
ONE_TEXT = {
    Kind.INTEGER, Kind.UUID, Kind.BOOLEAN, Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMP_TZ, Kind.ENUM, Kind.BINARY,
}  # fmt: skip
EXACT = ONE_TEXT | {Kind.TIME_TZ}
VARIABLE_HEADER = 4  # bytes that a type modifier of varchar, char and numeric counts in
BYTEWISE_COLLATIONS = {0, 100, 950, 951}  # none, default, C, POSIX: all of them tell apart whatever differs

Name = tuple[str | None, str]


@dataclass(frozen=True, slots=True)
class Facts:
    """What the catalogues say of some tables; the rows are named tuples of the queries in facts.py."""

    relations: dict[int, tuple[bool, bool]]  # oid → whether it is a view; whether what is written need not be what arrives
    triggered: set[int]
    columns: Sequence[Any]
    sequences: Sequence[tuple[int, int, str, bool, bool]]
    types: dict[int, Any]
    indexes: Sequence[Any]
    foreign_keys: Sequence[Any]


def build(name: Name, oid: int, family: Sequence[int], facts: Facts, referenced_by: tuple[Name, ...], fingerprint: str) -> Table:
    """Make one table; `family` is its own oid and those of its partitions and heirs."""
    sequences = {number: rest for relation, number, *rest in facts.sequences if relation == oid}
    attributes = {a.attnum: a for a in facts.columns if a.attrelid == oid}
    by_number = {number: _column(a, facts.types, sequences.get(number)) for number, a in attributes.items()}
    uniques = tuple(_unique(i, by_number, attributes) for i in facts.indexes if i.indrelid == oid and i.indisunique)
    return Table(
        *name,
        {column.name: column for column in by_number.values()},
        primary_key=next((u.columns for u in uniques if u.is_primary), ()),
        uniques=uniques,
        foreign_keys=tuple(
            ForeignKey(k.conname, tuple(by_number[n].name for n in k.conkey), k.nspname, k.relname, tuple(k.referenced), k.condeferred)
            for k in facts.foreign_keys
            if k.conrelid == oid
        ),
        referenced_by=referenced_by,
        has_exclusion=any(i.indrelid in family and (i.indisexclusion or (i.indrelid != oid and not i.has_parent)) for i in facts.indexes),
        has_triggers=not facts.triggered.isdisjoint(family),
        is_view=facts.relations[oid][0],
        has_rewrites=facts.relations[oid][1],
        has_children=len(family) > 1,
        fingerprint=fingerprint,
    )


def _unique(index: Any, by_number: dict[int, Column], attributes: dict[int, Any]) -> Unique:
    keys = list(zip(index.numbers, index.collations, strict=False))[: index.indnkeyatts]
    # A unique index under a looser collation than its column's forbids what the column's own equality tells apart: no key of its columns.
    has_expressions = any(n == 0 or not _is_same_equality(collation, attributes[n]) for n, collation in keys)
    return Unique(
        index.name,
        () if has_expressions else tuple(by_number[n].name for n, _ in keys),
        is_primary=index.indisprimary,
        is_partial=index.is_partial,
        has_expressions=has_expressions,
        is_deferred=index.is_deferred,
        nulls_are_equal=index.nulls_are_equal,
    )


def _is_same_equality(collation: int, attribute: Any) -> bool:
    return collation == attribute.attcollation or (collation in BYTEWISE_COLLATIONS and attribute.is_deterministic)


def _column(attribute: Any, types: dict[int, Any], sequence: Sequence[Any] | None) -> Column:
    is_nullable, modifier, default = not attribute.attnotnull, attribute.atttypmod, attribute.default
    declared = base = types[attribute.atttypid]
    while base.typtype == "d":
        is_nullable = is_nullable and not base.typnotnull
        modifier = base.typtypmod if modifier == -1 else modifier
        default = default or base.default
        base = types[base.typbasetype]
    if sequence and sequence[1]:
        literal = sequence[0].replace("'", "''")
        default = f"nextval('{literal}'::regclass)"
    return _typed(
        base,
        modifier,
        types,
        attribute.is_deterministic,
        name=attribute.attname,
        sql_type=attribute.sql_type,
        is_nullable=is_nullable,
        default=None if attribute.is_generated else default,
        identity=attribute.identity,
        is_generated=attribute.is_generated,
        collation=None if attribute.attcollation == declared.typcollation else _collation(attribute),
        is_default_usable=sequence is None or sequence[2],
    )


def _collation(attribute: Any) -> str:
    name = '"' + attribute.collname.replace('"', '""') + '"'
    return name if attribute.collation_schema == "pg_catalog" else f"{attribute.collation_schema}.{name}"


def _typed(base: Any, modifier: int, types: dict[int, Any], is_deterministic: bool, **known: Any) -> Column:
    kind = _kind(base)
    element = _element(types[base.typelem], modifier, types, is_deterministic) if kind is Kind.ARRAY else None
    max_length, precision, scale = _limits(base.typname, modifier)
    is_plain_text = kind is Kind.TEXT and is_deterministic and base.typname not in ("bpchar", "citext")
    is_padded_text = base.typname == "bpchar" and is_deterministic and modifier != -1
    return Column(
        kind=kind,
        cast_type=base.cast_type,
        max_length=max_length,
        precision=precision,
        scale=scale,
        bits=BITS.get(base.typname) if kind is Kind.INTEGER else None,
        labels=tuple(base.labels or ()),
        element=element,
        is_text_identity=is_plain_text or is_padded_text or kind in ONE_TEXT,
        is_exact=is_plain_text or is_padded_text or kind in EXACT or scale is not None or (element is not None and element.is_exact),
        is_padded=is_padded_text,
        **known,
    )


def _element(base: Any, modifier: int, types: dict[int, Any], is_deterministic: bool) -> Column:
    sql_type = base.cast_type
    while base.typtype == "d":
        modifier = base.typtypmod
        base = types[base.typbasetype]
    return _typed(base, modifier, types, is_deterministic, name="", sql_type=sql_type)


def _kind(base: Any) -> Kind:
    if base.typtype == "e":
        return Kind.ENUM
    if base.is_array:
        return Kind.ARRAY
    if base.typname == "citext":
        return Kind.TEXT
    return KINDS.get(base.typname, Kind.OTHER) if base.is_system else Kind.OTHER


def _limits(name: str, modifier: int) -> tuple[int | None, int | None, int | None]:
    """Return (max_length, precision, scale) from a type modifier.

    >>> _limits("varchar", 34), _limits("numeric", 786438), _limits("numeric", 133122)
    ((30, None, None), (None, 12, 2), (None, 2, -2))
    """
    if name == "name":
        return 63, None, None
    if name == "char":
        return 1, None, None
    if modifier == -1:
        return None, None, None
    if name in ("varchar", "bpchar"):
        return modifier - VARIABLE_HEADER, None, None
    if name == "numeric":
        packed = modifier - VARIABLE_HEADER
        return None, packed >> 16 & 0xFFFF, ((packed & 0x7FF) ^ 0x400) - 0x400
    return None, None, None
