"""One connection to a SQLite target, as the engine uses it (engine.ops.Session).

The write lock is taken at the beginning of a transaction, so that nothing that was looked up in it can change but by our own writing.
"""

from __future__ import annotations

import difflib
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

import orjson

from engine import ledger, locks, outbox
from engine.faults import DEFERRED_VIOLATED, Fault, fault
from engine.ledger import LedgerEntry
from engine.ops import Found, Ops, Outcomes
from engine.plan import Lookup, Text
from engine.tables import Kind, quote
from engine.target.sqlite import refusals, sql
from engine.target.sqlite.deferred import DeferredKeys
from engine.target.sqlite.write import write

WAY_SHARE = 0.05  # of the time that a chunk took: so much longer may its run take for others' sake,
WAY_SECONDS = 2.5 * locks.POLL_SECONDS  # and no longer than they need to see the lock free
_SMALL_TABLE = 2_000  # rows; up to here the nearest key is sought among all of them


class SqliteSession:
    """See engine.ops.Session. `connection`: as engine.target.sqlite.connect opens it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.deferred = DeferredKeys(connection)
        self._is_strict = True
        self._run, self._began_at, self._freed_at = "", 0.0, 0.0  # of the last transaction; time.monotonic()
        self._literals: dict[str, Any] = {}
        self._all_keys: dict[int, tuple[Lookup, list[str] | None]] = {}  # the keys of small tables, in this transaction

    def is_idle(self) -> bool:
        """See Session.is_idle."""
        return not self.connection.in_transaction

    def renew(self) -> None:
        """See Session.renew."""
        self.deferred = DeferredKeys(self.connection)

    # Transactions ---------------------------------------------------------------------------------------------------
    def begin(self, run: str, fence: int, is_strict_constraints: bool = True) -> None:
        """Take the write lock and check the fence."""
        self._all_keys.clear()
        with self._or_unavailable():
            self._give_way(run)
            locks.begin_writing(self.connection)
            self._began_at = time.monotonic()
            ledger.check_fence(self.connection, run, fence, "sqlite")
        self._run, self._is_strict = run, is_strict_constraints

    def begin_reading(self, statement_seconds: float) -> None:
        """See Session.begin_reading. Temporary tables may be filled, which are no part of the database."""
        self._all_keys.clear()
        with self._or_unavailable():
            self.connection.execute("BEGIN")

    def _give_way(self, run: str) -> None:
        """Between two chunks of a run leave the write lock free for long enough that whoever waits for it gets it."""
        if run == self._run:
            free_until = self._freed_at + min(WAY_SECONDS, WAY_SHARE * (self._freed_at - self._began_at))
            time.sleep(max(0.0, free_until - time.monotonic()))

    def add_ledger(self, entry: LedgerEntry) -> None:
        """Write the chunk's ledger row."""
        with self._or_unavailable():
            ledger.add(self.connection, entry, "sqlite")

    def add_events(self, run: str, chunk: int, pages: Iterator[outbox.Page]) -> None:
        """Write the chunk's events."""
        with self._or_unavailable():
            outbox.add(self.connection, run, chunk, pages, "sqlite")

    def settle(self) -> Fault | None:
        """Try the deferred foreign keys of the tables that were written."""
        with self._or_unavailable():
            broken = self.deferred.broken()
        if broken is None:
            return None
        table, key = broken
        reason = f"{', '.join(key.columns)} of {table} refers to a row that does not exist in {key.table}"
        return fault(DEFERRED_VIOLATED, constraint=key.name, reason=reason)

    def commit(self) -> None:
        """Commit; synchronous=FULL makes it durable."""
        with self._or_unavailable():
            self.connection.execute("COMMIT")
        self._freed_at = time.monotonic()
        self.deferred.forget()

    def rollback(self) -> None:
        """Undo the transaction, if there is one."""
        self.deferred.forget()
        if self.connection.in_transaction:
            with self._or_unavailable():
                self.connection.execute("ROLLBACK")

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    @contextmanager
    def _or_unavailable(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise refusals.unavailable(error) from error

    # Finding --------------------------------------------------------------------------------------------------------
    def unchanged(self, ops: Ops) -> dict[int, tuple[str | bytes | None, ...]]:
        """See Session.unchanged. Each row is compared as its turn comes."""
        return {}

    def find(self, lookup: Lookup, keys: list[Text]) -> Found:
        """See Session.find. Values come as SQLite keeps them, so that nothing is lost on the way back."""
        rows: dict[int, tuple[Any, ...]] = {}
        several: set[int] = set()
        with self._or_unavailable():
            for ordinal, *values in self._ask_for(lookup, keys):
                if ordinal in rows:
                    several.add(ordinal)
                rows[ordinal] = tuple(values)
        return Found(rows, several)

    def _ask_for(self, lookup: Lookup, keys: list[Text]) -> sqlite3.Cursor:
        if sql.has_bytes(lookup):
            names = ", ".join(f"v{n}" for n in range(len(keys)))
            self._fill(sql.KEYS, names, keys)
            return self.connection.execute(sql.find(lookup))
        wanted = keys[0] if len(keys) == 1 else list(zip(*keys, strict=True))
        return self.connection.execute(sql.find(lookup), (orjson.dumps(wanted).decode(),))

    def same(self, lookup: Lookup, keys: list[Text]) -> list[int]:
        """See Session.same: a temporary table converts and compares as the columns themselves do."""
        columns = sql.typed([part.column for part in lookup.parts])
        name = f"temp.lading_same_{sha256(columns.encode()).hexdigest()[:16]}"
        with self._or_unavailable():
            self._fill(name, columns, keys)
            names = ", ".join(f"v{n}" for n in range(len(keys)))
            rows = self.connection.execute(f"SELECT o, min(o) OVER (PARTITION BY {names}) FROM {name}").fetchall()
        first = dict(rows)
        return [first[n] for n in range(len(keys[0]))]

    def _fill(self, name: str, columns: str, keys: list[Text]) -> None:
        self.connection.execute(f"CREATE TABLE IF NOT EXISTS {name} (o INTEGER PRIMARY KEY, {columns})")
        self.connection.execute(f"DELETE FROM {name}")
        marks = ", ".join("?" * (len(keys) + 1))
        self.connection.executemany(f"INSERT INTO {name} VALUES ({marks})", zip(range(len(keys[0])), *keys, strict=True))

    def nearest(self, lookup: Lookup, value: str) -> str | None:
        """See Session.nearest."""
        if len(lookup.parts) > 1 or lookup.parts[0].path or lookup.parts[0].column.kind is not Kind.TEXT:
            return None
        with self._or_unavailable():
            close = difflib.get_close_matches(value, self._candidates(lookup, value), n=2)
        return next((text for text in close if text != value), None)

    def _candidates(self, lookup: Lookup, value: str) -> list[str]:
        """Return the keys among which the nearest is sought: all of a small table, else the neighbours in the index's order."""
        table, column = lookup.table.quoted, quote(lookup.parts[0].column.name)
        if id(lookup) not in self._all_keys:
            rows = self.connection.execute(f"SELECT {column} FROM {table} LIMIT {_SMALL_TABLE + 1}").fetchall()
            small = [str(r[0]) for r in rows if r[0] is not None] if len(rows) <= _SMALL_TABLE else None
            self._all_keys[id(lookup)] = (lookup, small)  # the look-up itself too, lest its id be given to another one
        small = self._all_keys[id(lookup)][1]
        if small is not None:
            return small
        if not sql.is_indexed(lookup):
            return []
        near = (
            f"SELECT * FROM (SELECT {column} FROM {table} WHERE {column} >= ?1 ORDER BY {column} LIMIT 5) UNION ALL "
            f"SELECT * FROM (SELECT {column} FROM {table} WHERE {column} < ?1 ORDER BY {column} DESC LIMIT 5)"
        )
        return [str(r[0]) for r in self.connection.execute(near, (value,)) if r[0] is not None]

    # Writing --------------------------------------------------------------------------------------------------------
    def write(self, ops: Ops) -> Outcomes:
        """See Session.write."""
        self._all_keys.clear()  # those of this table are about to change
        with self._or_unavailable():
            return write(self, ops, is_each_checked=self._is_strict and not ops.waits_for_commit)

    def literal(self, default: str) -> Any:
        """Return the value of a default that is a literal."""
        if default not in self._literals:
            (self._literals[default],) = self.connection.execute(f"SELECT {default}").fetchone()
        return self._literals[default]
