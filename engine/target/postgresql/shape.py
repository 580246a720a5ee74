"""What can be said of ops from their table, action and columns alone: worked out once, used for every chunk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.ops import Ops, Written
from engine.plan import Action
from engine.tables import Table


@dataclass(frozen=True, slots=True)
class Shape:
    """Whether ops may be written as a set, and what to watch if so."""

    table: Table
    can_be_a_set: bool
    own_references: tuple[tuple[str, str], ...]  # (column, referred column) of written foreign keys into the same table
    written: tuple[Written, ...]  # for their rules; not their values
    touchy_columns: frozenset[str]

    @classmethod
    def of(cls, ops: Ops) -> Shape:
        """Work out the shape of ops; those of equal entity, action and columns share it."""
        table = ops.entity.table
        names = {w.column.name for w in ops.written}
        own = [key for key in table.foreign_keys if (key.schema, key.table) == table.key]
        # A trigger, rule or policy may change, drop or count rows as they come: only one by one tells what becomes of each.
        is_plain = not table.has_triggers and not table.has_rewrites
        is_order_free = not (ops.action is Action.DELETE and own) and not (
            table.has_exclusion and ops.action in (Action.UPDATE, Action.MERGE)
        )
        references = tuple(
            (ours, theirs) for key in own for ours, theirs in zip(key.columns, key.referenced_columns, strict=True) if ours in names
        )
        rules = tuple(Written(w.column, (), frozenset(), w.on_insert, w.on_update, w.is_masked, w.is_key) for w in ops.written)
        return cls(table, is_plain and is_order_free, references, rules, _touchy(table, names))

    def columns_to_update(self, pattern: Sequence[bool]) -> list[str]:
        """Return the columns that an update writes: not the key, which the row found has already, nor what is kept."""
        return [
            w.column.name
            for w, is_empty in zip(self.written, pattern, strict=True)
            if not w.is_key and not (is_empty and w.on_update == "keep")
        ]

    def touchy(self, columns: Sequence[str]) -> list[str]:
        """Return those of the columns by which an update could collide with, or make room for, another row."""
        return [name for name in columns if name in self.touchy_columns]

    def default_of(self, column: str) -> str | None:
        """Return the expression that gives a key column its value, or None where our role may not use it."""
        reflected = self.table.columns[column]
        return reflected.default if reflected.is_default_usable else None


def _touchy(table: Table, names: set[str]) -> frozenset[str]:
    if any(u.is_partial or u.has_expressions for u in table.uniques):
        # Whether a row counts for such an index may depend on any column.
        return frozenset(names)
    return frozenset(name for u in table.uniques for name in u.columns)
