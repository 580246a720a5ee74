"""Finding rows of a PostgreSQL target by keys, many at a time; the database compares."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import psycopg

from engine.ops import Found
from engine.plan import Lookup, Text
from engine.tables import Kind, quote
from engine.target.postgresql import sql
from engine.target.postgresql.copytext import literal
from engine.target.postgresql.transaction import BEGIN_READING, Transaction

# Kinds whose converters leave the last word to the database: a key of theirs may fail to be cast.
_UNSURE = {Kind.OTHER, Kind.ARRAY, Kind.INTERVAL, Kind.JSON, Kind.TIME_TZ}
_SMALL_TABLE = 2_000  # rows; up to here the nearest key is sought among all of them


class Finding(Transaction):
    """The part of a session that finds."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        """See Transaction."""
        super().__init__(connection)
        self._all_keys: dict[int, tuple[Lookup, list[str] | None]] = {}  # the keys of small tables, in this transaction

    def begin(self, run: str, fence: int, is_strict_constraints: bool = True) -> None:
        """See Session.begin."""
        self._all_keys.clear()
        super().begin(run, fence, is_strict_constraints)

    def begin_reading(self, statement_seconds: float) -> None:
        """See Session.begin_reading."""
        self._all_keys.clear()
        with self._unless_about_data():
            self._several.execute(f"{BEGIN_READING}SET LOCAL statement_timeout = {statement_seconds * 1000:.0f}")

    def find(self, lookup: Lookup, keys: list[Text]) -> Found:
        """See Session.find."""
        if not keys or not len(keys[0]):
            return Found({}, set())
        is_direct = sql.is_by_any(lookup)
        is_unsure = any(part.column.kind in _UNSURE for part in lookup.parts)
        with self._free_planner(sql.is_indexed(lookup)):
            if not is_unsure:
                with self._unless_about_data():
                    return self._find_by_any(lookup, cast(Sequence[str], keys[0])) if is_direct else self._find_by_ordinal(lookup, keys)
            try:
                with self._savepoint():
                    return self._find_by_ordinal(lookup, keys)
            except psycopg.Error:
                return self._find_one_by_one(lookup, keys)

    def _find_by_any(self, lookup: Lookup, keys: Sequence[str]) -> Found:
        self._cursor.execute(sql.find_by_any(lookup), (literal(keys),))
        found = self._cursor.fetchall()
        hits = {row[0]: row[1:] for row in found}
        if not hits:
            return Found({}, set())
        several = {key for key, times in Counter(row[0] for row in found).items() if times > 1} if len(hits) < len(found) else set()
        rows = {row: hits[key] for row, key in enumerate(keys) if key in hits}
        return Found(rows, {row for row, key in enumerate(keys) if key in several} if several else set())

    def _find_by_ordinal(self, lookup: Lookup, keys: list[Text]) -> Found:
        self._cursor.execute(sql.find_by_ordinal(lookup), [literal(part) for part in keys])
        rows: dict[int, tuple] = {}
        several = set()
        for ordinal, *results in self._cursor:
            if ordinal - 1 in rows:
                several.add(ordinal - 1)
            rows[ordinal - 1] = tuple(results)
        return Found(rows, several)

    def _find_one_by_one(self, lookup: Lookup, keys: list[Text]) -> Found:
        """Find by keys of which some cannot be cast: such a key names no row."""
        rows: dict[int, tuple] = {}
        several = set()
        for row, key in enumerate(zip(*keys, strict=True)):
            try:
                with self._savepoint():
                    found = self._find_by_ordinal(lookup, [[part] for part in key])
            except psycopg.Error:
                continue
            if found.rows:
                rows[row] = found.rows[0]
            if found.ambiguous:
                several.add(row)
        return Found(rows, several)

    def same(self, lookup: Lookup, keys: list[Text]) -> list[int]:
        """See Session.same."""
        with self._unless_about_data():
            self._cursor.execute(sql.same(lookup), [literal(part) for part in keys])
            first = dict(self._cursor.fetchall())
        return [first[n] for n in range(1, len(keys[0]) + 1)]

    def nearest(self, lookup: Lookup, value: str) -> str | None:
        """See Session.nearest."""
        if len(lookup.parts) > 1 or lookup.parts[0].path or lookup.parts[0].column.kind is not Kind.TEXT:
            return None
        close = difflib.get_close_matches(value, self._candidates(lookup, value), n=1)
        return close[0] if close else None

    def _candidates(self, lookup: Lookup, value: str) -> list[str]:
        """Return the keys among which the nearest is sought: all of a small table, else the neighbours in the index's order."""
        column, table = quote(lookup.parts[0].column.name), lookup.table.quoted
        with self._unless_about_data():
            if id(lookup) not in self._all_keys:
                rows = self._cursor.execute(f"SELECT {column}::text FROM {table} LIMIT {_SMALL_TABLE + 1}").fetchall()
                small = [r[0] for r in rows if r[0] is not None] if len(rows) <= _SMALL_TABLE else None
                self._all_keys[id(lookup)] = (lookup, small)  # the look-up itself too, lest its id be given to another one
            all_keys = self._all_keys[id(lookup)][1]
            if all_keys is not None:
                return all_keys
            if not sql.is_indexed(lookup):
                return []
            near = (
                f"(SELECT {column}::text FROM {table} WHERE {column} >= %(v)s ORDER BY {column} LIMIT 5) UNION ALL "
                f"(SELECT {column}::text FROM {table} WHERE {column} < %(v)s ORDER BY {column} DESC LIMIT 5)"
            )
            return [r[0] for r in self._cursor.execute(near, {"v": value}).fetchall()]

    @contextmanager
    def _free_planner(self, is_indexed: bool) -> Iterator[None]:
        """Let the planner choose its joins where no index serves the key: probing row by row would read the table each time."""
        if is_indexed:
            yield
            return
        self._cursor.execute("SET LOCAL enable_hashjoin = on; SET LOCAL enable_mergejoin = on")
        yield
        self._cursor.execute("SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off")
