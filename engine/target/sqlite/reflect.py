"""Reflect the tables of a SQLite target, from its pragmas and, where those are silent, from the CREATE statement itself."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from engine.tables import Column, ForeignKey, Table, Unique
from engine.target.sqlite.declared import Declaration, declaration_of
from engine.target.sqlite.types import column_of

Name = tuple[str | None, str]

_NAMES = r"""
SELECT l.name FROM pragma_table_list l
WHERE l.schema = 'main' AND l.name NOT LIKE 'sqlite\_%' ESCAPE '\' AND l.name NOT LIKE 'lading\_%' ESCAPE '\'
  AND (l.type IN ('table', 'virtual') OR l.type = 'view' AND EXISTS (
    SELECT 1 FROM main.sqlite_schema t WHERE t.type = 'trigger' AND t.tbl_name = l.name COLLATE NOCASE))
ORDER BY l.name
"""
_REFERENCED_BY = r"""
SELECT DISTINCT s.name FROM main.sqlite_schema s JOIN pragma_foreign_key_list(s.name) k
WHERE s.type = 'table' AND k."table" = ? COLLATE NOCASE ORDER BY s.name
"""


class SqliteTables:
    """The tables of a SQLite database (see engine.tables.Tables); `connect` gives an open connection. Safe to share between threads."""

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._known: dict[str, Table] = {}
        self._names: list[Name] | None = None
        self._lock = threading.RLock()

    def names(self) -> Sequence[Name]:
        """Return (None, name) of every table and writable view, ours left out."""
        with self._lock:
            if self._names is None:
                self._names = [(None, name) for (name,) in self._connect().execute(_NAMES)]
            return self._names

    def get(self, schema: str | None, name: str) -> Table:
        """Reflect one table; KeyError where there is none."""
        with self._lock:
            if name not in self._known:
                listed = (
                    self._connect()
                    .execute(
                        "SELECT type, wr, strict FROM pragma_table_list WHERE schema = 'main' AND name = ? AND type <> 'shadow'", (name,)
                    )
                    .fetchone()
                )
                if schema is not None or listed is None or name.lower().startswith(("sqlite_", "lading_")):
                    raise KeyError(name)
                self._known[name] = _Reflection(self._connect(), name).table(*listed)
            return self._known[name]

    def changed(self, tables: Iterable[Table]) -> list[Table]:
        """Return those of these tables that may no longer be as they were reflected: all of them after any change of the schema."""
        version = _schema_version(self._connect())
        return [t for t in tables if t.fingerprint != version]

    def refresh(self) -> None:
        """Forget what has changed since it was reflected, and which tables there are."""
        with self._lock:
            for table in self.changed(self._known.values()):
                del self._known[table.name]
            self._names = None


class _Reflection:
    """One table being reflected."""

    def __init__(self, connection: sqlite3.Connection, name: str) -> None:
        self._connection = connection
        self._name = name

    def table(self, kind: str, is_without_rowid: int, is_strict: int) -> Table:
        version = _schema_version(self._connection)
        sql = self._ask("SELECT sql FROM main.sqlite_schema WHERE name = ? AND type IN ('table', 'view')", self._name)
        infos = self._ask(
            'SELECT name, type, "notnull", dflt_value, pk, hidden FROM pragma_table_xinfo(?) WHERE hidden <> 1 ORDER BY cid', self._name
        )
        declaration = declaration_of(self._name, sql[0][0] if kind == "table" and sql else "")
        key = tuple(name for _, name in sorted((pk, name) for name, _, _, _, pk, _ in infos if pk))
        indexes = self._ask('SELECT name, origin, partial FROM pragma_index_list(?) WHERE "unique" ORDER BY seq DESC', self._name)
        # A rowid table whose primary key has no index of its own has the row id itself as its key.
        alias = key[0] if len(key) == 1 and not is_without_rowid and all(origin != "pk" for _, origin, _ in indexes) else None
        columns = {
            name: column_of(
                name,
                declared,
                declaration.collations.get(name, ""),
                bool(is_strict),
                **self._rest(name == alias, required, default, hidden),
            )
            for name, declared, required, default, _, hidden in infos
        }
        uniques = [Unique("", key, is_primary=True)] if alias else []
        uniques += [self._unique(index, origin == "pk", bool(partial), columns) for index, origin, partial in indexes]
        has_triggers = self._ask(
            "SELECT 1 FROM main.sqlite_schema WHERE type = 'trigger' AND tbl_name = ? COLLATE NOCASE LIMIT 1", self._name
        )
        return Table(
            None,
            self._name,
            columns,
            primary_key=key,
            uniques=tuple(sorted(uniques, key=lambda u: not u.is_primary)),
            foreign_keys=tuple(self._foreign_keys(columns, declaration)),
            referenced_by=tuple((None, name) for (name,) in self._ask(_REFERENCED_BY, self._name)),
            has_triggers=bool(has_triggers),
            has_rewrites=kind != "table",
            is_view=kind == "view",
            is_autoincrement=declaration.is_autoincrement,
            rowid_alias=alias,
            rowid_name=self._rowid_name(columns) if kind == "table" and not is_without_rowid else None,
            fingerprint=version,
        )

    def _ask(self, sql: str, *parameters: object) -> list[Any]:
        return self._connection.execute(sql, parameters).fetchall()

    @staticmethod
    def _rest(is_alias: bool, is_required: int, default: str | None, hidden: int) -> dict[str, Any]:
        """Return a column's remaining facts. Where the key is the row id, an insert of NULL draws the next one."""
        is_generated = hidden in (2, 3)
        if is_alias:
            return {"is_nullable": False, "default": "NULL", "is_generated": False}
        return {"is_nullable": not is_required, "default": None if is_generated else default, "is_generated": is_generated}

    def _unique(self, index: str, is_primary: bool, is_partial: bool, columns: dict[str, Column]) -> Unique:
        parts = self._ask("SELECT name, coll FROM pragma_index_xinfo(?) WHERE key ORDER BY seqno", index)
        # An index under another collation than its column's forbids what the column's own equality tells apart: no key of its columns.
        is_plain = all(name in columns and coll.upper() == (columns[name].collation or "BINARY").upper() for name, coll in parts)
        names = tuple(name for name, _ in parts) if is_plain else ()
        return Unique(index, names, is_primary=is_primary, is_partial=is_partial, has_expressions=not is_plain)

    def _foreign_keys(self, columns: dict[str, Column], declaration: Declaration) -> list[ForeignKey]:
        rows = self._ask('SELECT id, "table", "from", "to" FROM pragma_foreign_key_list(?) ORDER BY id DESC, seq', self._name)
        found = []
        own = {name.lower(): name for name in columns}
        for number, key in enumerate(dict.fromkeys(row[0] for row in rows)):  # the pragma counts from the last one declared
            pairs = [(parent, own.get(child.lower(), child), referenced) for k, parent, child, referenced in rows if k == key]
            parent, theirs = self._parent(pairs[0][0])
            referenced = tuple(theirs.get(r.lower(), r) for _, _, r in pairs if r is not None)
            if not referenced:
                referenced = tuple(n for _, n in sorted(self._ask("SELECT pk, name FROM pragma_table_info(?) WHERE pk", parent)))
            children = tuple(child for _, child, _ in pairs)
            is_deferred = number < len(declaration.deferred) and declaration.deferred[number]
            found.append(ForeignKey(f"{self._name}_{'_'.join(children)}_fkey", children, None, parent, referenced, is_deferred))
        return found

    def _parent(self, name: str) -> tuple[str, dict[str, str]]:
        """Return the referenced table's name and columns as they are spelt where they are declared."""
        row = self._ask("SELECT name FROM main.sqlite_schema WHERE type = 'table' AND name = ? COLLATE NOCASE", name)
        if not row:
            return name, {}
        return row[0][0], {n.lower(): n for (n,) in self._ask("SELECT name FROM pragma_table_info(?)", name)}

    @staticmethod
    def _rowid_name(columns: dict[str, Column]) -> str | None:
        taken = {name.lower() for name in columns}
        return next((name for name in ("rowid", "_rowid_", "oid") if name not in taken), None)


def _schema_version(connection: sqlite3.Connection) -> str:
    (version,) = connection.execute("PRAGMA main.schema_version").fetchone()
    return str(version)
