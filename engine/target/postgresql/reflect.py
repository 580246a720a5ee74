"""Reflect the tables of a PostgreSQL target, straight from the system catalogues: one round trip, however many tables."""

from __future__ import annotations

import hashlib
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.rows import namedtuple_row

from engine.tables import Table
from engine.target.postgresql import facts
from engine.target.postgresql.build import Facts, build

MAX_TABLES_AT_ONCE = 12  # a table is reflected along with those around it, since a plan mostly needs them next

Name = tuple[str | None, str]


@dataclass(slots=True)
class _Directory:
    """What there is: the tables' names and oids, and what points at what."""

    oids: dict[Name, int] = field(default_factory=dict)
    names: dict[int, Name] = field(default_factory=dict)
    writable: list[Name] = field(default_factory=list)
    references: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    referenced_by: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    children: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))

    def around(self, oid: int, known: set[int]) -> list[int]:
        """Return this table and the nearest of those that foreign keys connect with it, the known ones left out."""
        found = [oid]
        for near in found:
            for other in [*self.references[near], *self.referenced_by[near]]:
                if other in self.names and other not in found and len(found) < MAX_TABLES_AT_ONCE:
                    found.append(other)
        return [o for o in found if o == oid or o not in known]

    def family(self, oid: int) -> list[int]:
        """Return this table and all its partitions and heirs."""
        found = [oid]
        for parent in found:
            found += [child for child in self.children[parent] if child not in found]
        return found


class PostgresTables:
    """The tables of a PostgreSQL database, as our role sees them (see engine.tables.Tables).

    `connect` gives an open connection with autocommit on; it is asked again when the connection was lost. Safe to share between threads.
    """

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]]) -> None:
        self._connect = connect
        self._known: dict[Name, Table] = {}
        self._directory: _Directory | None = None
        self._lock = threading.RLock()

    def names(self) -> Sequence[Name]:
        """Return (schema, name) of every table and writable view, ours left out; those of the search path first."""
        with self._lock:
            return self._read_directory().writable

    def get(self, schema: str | None, name: str) -> Table:
        """Reflect one table; KeyError where there is none. Without a schema the search path is followed."""
        with self._lock:
            directory = self._read_directory()
            if schema is None:
                schema = next((s for s, n in directory.oids if n == name), None)
            key = (schema, name)
            if key not in self._known:
                if key not in directory.oids:
                    raise KeyError(name if schema is None else f"{schema}.{name}")
                known = {directory.oids[k] for k in self._known if k in directory.oids}
                self._reflect(directory, directory.around(directory.oids[key], known))
            return self._known[key]

    def changed(self, tables: Iterable[Table]) -> list[Table]:
        """Return those of these tables that are no longer as they were reflected; one round trip for all."""
        with self._lock:
            directory = self._read_directory()
            wanted = {t.key: directory.family(directory.oids[t.key]) for t in tables if t.key in directory.oids}
            (marks,) = self._ask([facts.FINGERPRINTS], oids=[oid for family in wanted.values() for oid in family])
            found = _Marks(marks)
            return [t for t in tables if t.key not in wanted or found.of(wanted[t.key]) != t.fingerprint]

    def refresh(self) -> None:
        """Forget what has changed since it was reflected, and which tables there are."""
        with self._lock:
            stale = self.changed(list(self._known.values())) if self._known else ()
            self._directory = None
            for table in stale:
                del self._known[table.key]

    def _read_directory(self) -> _Directory:
        if self._directory is None:
            names, references, children = self._ask([facts.NAMES, facts.REFERENCES, facts.CHILDREN])
            directory = _Directory()
            for schema, name, oid, is_writable in names:
                directory.oids[schema, name] = oid
                directory.names[oid] = (schema, name)
                if is_writable:
                    directory.writable.append((schema, name))
            for holder, referenced in references:
                directory.references[holder].append(referenced)
                directory.referenced_by[referenced].append(holder)
            for parent, child in children:
                directory.children[parent].append(child)
            self._directory = directory
        return self._directory

    def _reflect(self, directory: _Directory, oids: Sequence[int]) -> None:
        families = {oid: directory.family(oid) for oid in oids}
        nulls = "i.indnullsnotdistinct" if self._connect().info.server_version >= 150000 else "false"
        relations, triggers, columns, sequences, types, indexes, foreign_keys, marks = self._ask(
            [
                facts.RELATIONS, facts.TRIGGERS, facts.COLUMNS, facts.SEQUENCES, facts.TYPES, facts.INDEXES.format(nulls=nulls),
                facts.FOREIGN_KEYS, facts.FINGERPRINTS,
            ],
            oids=[oid for family in families.values() for oid in family],
        )  # fmt: skip
        known = Facts(
            {oid: (is_view, rewrites) for oid, is_view, rewrites in relations},
            {oid for (oid,) in triggers},
            columns,
            sequences,
            {t.oid: t for t in types},
            indexes,
            foreign_keys,
        )
        found = _Marks(marks)
        for oid in known.relations.keys() & set(oids):
            name = directory.names[oid]
            users = tuple(sorted({directory.names[o] for o in directory.referenced_by[oid] if o in directory.names}, key=str))
            self._known[name] = build(name, oid, families[oid], known, users, found.of(families[oid]))

    def _ask(self, statements: list[str], **parameters: object) -> list[list[Any]]:
        try:
            return self._ask_once(self._connect(), statements, parameters)
        except psycopg.OperationalError:
            connection = self._connect()  # another one, if it was the connection that failed
            return self._ask_once(connection, statements, parameters)

    @staticmethod
    def _ask_once(connection: psycopg.Connection[Any], statements: list[str], parameters: dict[str, object]) -> list[list[Any]]:
        with connection.pipeline():
            cursors = [connection.cursor(row_factory=namedtuple_row).execute(sql, parameters or None) for sql in statements]
            return [cursor.fetchall() for cursor in cursors]


class _Marks:
    """The fingerprints' parts, by table."""

    def __init__(self, rows: Iterable[tuple[int, str, str]]) -> None:
        self._parts: dict[int, list[str]] = defaultdict(list)
        for oid, kind, text in rows:
            self._parts[oid].append(kind + text)

    def of(self, family: Iterable[int]) -> str:
        """Return the fingerprint of the first of this family: short text that differs if anything has changed."""
        return hashlib.sha256(repr([(oid, sorted(self._parts[oid])) for oid in family]).encode()).hexdigest()[:32]
