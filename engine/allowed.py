"""What an import may write: its key may be limited to some tables, and to some actions.

What a control file says is checked before it is put into the queue. Records that name their own table or action, below a `!Name` line or
in a collection, tell it only as they are read: each that goes beyond is refused, whatever way it came.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from engine import faults
from engine.chunk import Chunk
from engine.control.scope import table_text
from engine.faults import Fault
from engine.plan import Action
from engine.tables import Tables, matches
from errors import nearest

TableKey = tuple[str | None, str]


@dataclass(frozen=True, slots=True)
class Allowed:
    """The tables and the actions that are allowed; None: all."""

    tables: frozenset[TableKey] | None = None
    actions: frozenset[str] | None = None

    @property
    def is_all(self) -> bool:
        """Tell whether there is no limit."""
        return self.tables is None and self.actions is None

    def may_write(self, table: TableKey) -> bool:
        """Tell whether anything may be written to a table."""
        return self.tables is None or table in self.tables

    def may(self, table: TableKey, action: Action) -> bool:
        """Tell whether an action on a table is allowed."""
        return self.may_write(table) and (self.actions is None or action.value in self.actions)

    def only(self, tables: Iterable[TableKey]) -> list[TableKey]:
        """Return those of the tables that may be written."""
        return [table for table in tables if self.may_write(table)]

    def fault(self, table: TableKey, action: Action | None = None) -> Fault:
        """Return the fault of a record that goes beyond."""
        return faults.fault(
            faults.KEY_LIMITED, action=action.value.lower() if action else "write", table=table_text(table), allowed=self.said()
        )

    def said(self) -> str:
        """Return in words what is allowed.

        >>> Allowed(frozenset({(None, "airlines")}), frozenset({"Merge", "Insert"})).said()
        'the tables airlines; the actions Insert, Merge'
        """
        tables = "" if self.tables is None else f"the tables {', '.join(sorted(map(table_text, self.tables)))}"
        actions = "" if self.actions is None else f"the actions {', '.join(sorted(self.actions))}"
        return "; ".join(filter(None, (tables, actions)))

    def refuse_beyond(self, chunk: Chunk) -> None:
        """Give each record of a chunk that goes beyond its fault, so that nothing of it is converted or written."""
        if self.is_all:
            return
        kept = []
        for block in chunk.blocks:
            if self.may(block.entity.table.key, block.action):
                kept.append(block)
                continue
            fault = self.fault(block.entity.table.key, block.action)
            for position in block.positions:
                chunk.faults.setdefault(position, []).append(fault)
        chunk.blocks = kept


def meant(tables: Tables, name: str) -> TableKey:
    """Return the one table that a name means. ValueError where there is none, or more than one, with the names that there are."""
    found = matches(tables, name)
    if len(found) == 1:
        return found[0]
    said = "may mean several tables" if found else "is no table of the target"
    known = ", ".join(nearest(name, map(table_text, found or tables.names())))
    raise ValueError(f"'{name[:80]}' {said} (allowed: {known})")
