"""Foreign keys that wait for the commit: checked for each record where records count one by one, else all together at the end."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from engine.tables import ForeignKey, Table, quote
from engine.target.sqlite.reflect import SqliteTables

Violation = tuple[str, Any, int]  # (table, row id, number of the foreign key)


class DeferredKeys:
    """What the deferred foreign keys from and to tables demand, on one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._tables = SqliteTables(lambda: connection)
        self._incoming: dict[str, list[tuple[Table, ForeignKey]]] = {}
        self._before: dict[str, set[Violation]] = {}

    @staticmethod
    def outgoing(table: Table) -> list[ForeignKey]:
        """Return the table's own deferred foreign keys."""
        return [key for key in table.foreign_keys if key.is_deferred]

    def incoming(self, table: Table) -> list[tuple[Table, ForeignKey]]:
        """Return the deferred foreign keys, with their tables, that refer to this table."""
        if table.name not in self._incoming:
            users = [self._tables.get(None, name) for _, name in table.referenced_by if not name.lower().startswith("lading_")]
            self._incoming[table.name] = [(u, key) for u in users for key in u.foreign_keys if key.is_deferred and key.table == table.name]
        return self._incoming[table.name]

    # Record by record -----------------------------------------------------------------------------------------------
    def missing_parent(self, table: Table, at: str, row: Sequence[object]) -> ForeignKey | None:
        """Return a deferred foreign key of this row whose parent does not exist."""
        for key in self.outgoing(table):
            pairs = list(zip(key.columns, key.referenced_columns, strict=True))
            given = " AND ".join(f"c.{quote(ours)} IS NOT NULL" for ours, _ in pairs)
            same = " AND ".join(f"p.{quote(theirs)} = c.{quote(ours)}" for ours, theirs in pairs)
            broken = (
                f"SELECT 1 FROM (SELECT * FROM {table.quoted} WHERE {at}) c "
                f"WHERE {given} AND NOT EXISTS (SELECT 1 FROM {quote(key.table)} p WHERE {same})"
            )
            if self._connection.execute(broken, row).fetchone():
                return key
        return None

    def referred(self, table: Table, at: str, row: Sequence[object]) -> list[tuple[Table, ForeignKey, tuple[Any, ...]]]:
        """Return what a row gives the deferred foreign keys to refer to, as it is now."""
        found = []
        for user, key in self.incoming(table):
            columns = ", ".join(quote(c) for c in key.referenced_columns)
            values = self._connection.execute(f"SELECT {columns} FROM {table.quoted} WHERE {at}", row).fetchone()
            if values is not None and None not in values:
                found.append((user, key, values))
        return found

    def orphaned(self, table: Table, referred: Sequence[tuple[Table, ForeignKey, tuple[Any, ...]]]) -> bool:
        """Say whether some row refers to what was there before and is no more."""
        for user, key, values in referred:
            parent = " AND ".join(f"{quote(c)} = ?" for c in key.referenced_columns)
            child = " AND ".join(f"{quote(c)} = ?" for c in key.columns)
            is_there = self._connection.execute(f"SELECT 1 FROM {table.quoted} WHERE {parent}", values).fetchone()
            if not is_there and self._connection.execute(f"SELECT 1 FROM {user.quoted} WHERE {child}", values).fetchone():
                return True
        return False

    # At the end -----------------------------------------------------------------------------------------------------
    def remember(self, table: Table) -> None:
        """Note, before the first write to a table, which deferred foreign keys are broken already, by whomever."""
        touched = [table] if self.outgoing(table) else []
        for each in touched + [user for user, _ in self.incoming(table)]:
            if each.name not in self._before:
                self._before[each.name] = self._broken(each.name)

    def broken(self) -> tuple[str, ForeignKey] | None:
        """Return a table and its deferred foreign key that the transaction has broken."""
        for name, before in self._before.items():
            table = self._tables.get(None, name)
            for _, _, number in sorted(self._broken(name) - before, key=str):
                key = table.foreign_keys[len(table.foreign_keys) - 1 - number]  # the pragma counts from the last one declared
                if key.is_deferred:
                    return name, key
        return None

    def forget(self) -> None:
        """Begin anew with the next transaction."""
        self._before.clear()

    def _broken(self, name: str) -> set[Violation]:
        rows = self._connection.execute('SELECT "table", "rowid", fkid FROM pragma_foreign_key_check(?)', (name,))
        return set(rows)
