"""From a declared type of SQLite, which says little and binds less, to a column of ours."""

from __future__ import annotations

import re
from typing import Any

from engine.tables import Column, Kind

# The first pattern that fits the declared name, in upper case and without its numbers, tells the kind.
_NAMES = [
    (re.compile(pattern), kind)
    for pattern, kind in (
        (r"BOOL(EAN)?", Kind.BOOLEAN),
        (r"(DATETIME|TIMESTAMP)( ?TZ| WITH TIME ZONE)|TIMESTAMPTZ", Kind.TIMESTAMP_TZ),
        (r"(DATETIME|TIMESTAMP)2?( WITHOUT TIME ZONE)?|SMALLDATETIME", Kind.TIMESTAMP),
        (r"TIMETZ|TIME WITH TIME ZONE", Kind.TIME_TZ),
        (r"TIME( WITHOUT TIME ZONE)?", Kind.TIME),
        (r"DATE", Kind.DATE),
        (r"INTERVAL", Kind.INTERVAL),
        (r"UUID|GUID|UNIQUEIDENTIFIER", Kind.UUID),
        (r"JSONB?", Kind.JSON),
        (r"(LONG|MEDIUM|TINY)?BLOB|BYTEA|(VAR)?BINARY|IMAGE", Kind.BINARY),
        (r"DEC(IMAL)?|NUMERIC|NUMBER|(SMALL)?MONEY", Kind.DECIMAL),
        (r"REAL|FLOAT\d?|DOUBLE( PRECISION)?", Kind.FLOAT),
        (r"(UNSIGNED )?(BIG |TINY|SMALL|MEDIUM|BIG)?INT(EGER)?\d?( UNSIGNED)?|(BIG|SMALL)?SERIAL|LONG", Kind.INTEGER),
        (r"(N|NATIVE |VARYING )?(VAR)?CHAR(ACTER)?2?( VARYING)?|(LONG|MEDIUM|TINY|N|CI)?TEXT|N?CLOB|N?VARCHAR2?", Kind.TEXT),
    )
]
_NUMBERS = re.compile(r"\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\)")

# Kinds whose canonical text SQLite keeps as text, whatever the affinity: no such text looks like a number.
_KEPT_AS_TEXT = {Kind.DATE, Kind.TIME, Kind.TIME_TZ, Kind.TIMESTAMP, Kind.TIMESTAMP_TZ, Kind.UUID}


def column_of(name: str, declared: str, collation: str, is_strict: bool, **rest: Any) -> Column:
    """Make a column; `collation` is its own, "" where that is BINARY, `rest` are facts that its type does not tell."""
    bare = " ".join(_NUMBERS.sub(" ", declared).upper().split())
    affinity = _affinity(bare, is_strict)
    kind = next((kind for pattern, kind in _NAMES if pattern.fullmatch(bare)), Kind.OTHER)
    found = _NUMBERS.search(declared)
    numbers = [int(n) if n else None for n in found.groups()] if found else [None, None]
    is_bytewise = not collation and (kind is not Kind.TEXT or affinity == "TEXT")
    return Column(
        name,
        kind,
        sql_type=declared,
        cast_type=bare or "BLOB",
        max_length=numbers[0] if kind is Kind.TEXT else None,
        precision=numbers[0] if kind is Kind.DECIMAL else None,
        scale=(numbers[1] or 0) if kind is Kind.DECIMAL and numbers[0] is not None else None,
        bits=64 if kind is Kind.INTEGER else None,
        is_text_identity=is_bytewise and kind in _KEPT_AS_TEXT | {Kind.INTEGER, Kind.BOOLEAN, Kind.TEXT, Kind.BINARY},
        is_exact=is_bytewise and (kind is not Kind.OTHER or affinity != "BLOB"),
        collation=collation or None,
        affinity=affinity,
        **rest,
    )


def _affinity(bare: str, is_strict: bool) -> str:
    """Return a declared type's affinity by SQLite's own rules.

    >>> [_affinity(t, False) for t in ("VARCHAR", "BOOLEAN", "POINT", "", "DOUBLE")]
    ['TEXT', 'NUMERIC', 'INTEGER', 'BLOB', 'REAL']
    """
    if is_strict and bare == "ANY":
        return "BLOB"
    for words, affinity in (
        (("INT",), "INTEGER"),
        (("CHAR", "CLOB", "TEXT"), "TEXT"),
        (("BLOB",), "BLOB"),
        (("REAL", "FLOA", "DOUB"), "REAL"),
    ):
        if any(word in bare for word in words):
            return affinity
    return "NUMERIC" if bare else "BLOB"
