"""Whether the identity that a record is found by is the one that it writes: only then do its key's texts tell it from other records."""

from __future__ import annotations

from collections.abc import Sequence

from engine.convert import Converted, LookupKeys
from engine.plan import Action, EntityPlan, KeyPart, Missing, Text


def keys_of(ready: Converted) -> LookupKeys | None:
    """Return what the records of a block are found by; None where they have no identity."""
    return next((wanted for wanted in ready.lookups if wanted.mapping is None), None)


def columns_as_sought(ready: Converted) -> frozenset[str]:
    """Return the key columns that are written with the very texts that the records are found by."""
    identity = keys_of(ready)
    if identity is None:
        return frozenset()
    given = _given(ready)
    return frozenset(
        part.column.name
        for part, key in zip(identity.lookup.parts, identity.keys, strict=True)
        if not part.path and (column := given.get(part.column.name)) and _is_same(column, key, ready)
    )


def _given(ready: Converted) -> dict[str, Text]:
    """Return the texts that columns get, as far as they are known before the database is asked.

    A reference gets what its look-up finds. Where that is a column by which the look-up seeks, and a text is that column's identity, it is
    the very text sought, unless the record is refused or skipped.
    """
    given = {cells.column.name: cells.values for cells in ready.cells if cells.empties <= ready.faults.keys()}
    for wanted in ready.lookups:
        lookup, mapping = wanted.lookup, wanted.mapping
        if mapping is None or lookup.missing is Missing.CLEAR or not wanted.empties <= ready.faults.keys():
            continue
        sought = {p.column.name: key for p, key in zip(lookup.parts, wanted.keys, strict=True) if not p.path and p.column.is_text_identity}
        for column, result in zip(mapping.columns, lookup.results, strict=True):
            if result.name in sought:
                given[column.name] = sought[result.name]
    return given


def is_steady(entity: EntityPlan, action: Action, ready: Converted) -> bool:
    """Say whether no record of a block can come to have another identity than the one that it was found by.

    It can where its key columns get other values than the key's (a row is renamed, a trigger or the database fills them): what an earlier
    record did then decides which row a later one finds, whatever their keys' texts.
    """
    identity = keys_of(ready)
    if identity is None or not identity.keys:
        return True
    if entity.table.has_triggers or entity.table.has_rewrites:
        return False
    if action is Action.DELETE:
        return True
    as_sought = columns_as_sought(ready)
    written = {cells.column.name for cells in ready.cells}
    return all(
        _refers_as_sought(part, key, ready) if part.path else part.column.name in as_sought or _is_untouched(part, action, written)
        for part, key in zip(identity.lookup.parts, identity.keys, strict=True)
    )


def _is_untouched(part: KeyPart, action: Action, written: set[str]) -> bool:
    return action is Action.UPDATE and part.column.name not in written and not part.column.is_generated


def _refers_as_sought(part: KeyPart, key: Text, ready: Converted) -> bool:
    """Say whether the reference by which a key part is reached is filled by a look-up of that very part."""
    step, *rest = part.path
    for wanted in ready.lookups:
        if wanted.mapping is None or tuple(c.name for c in wanted.mapping.columns) != step.foreign_key.columns:
            continue
        return wanted.lookup.table.key == step.table.key and any(
            theirs.column.name == part.column.name and list(theirs.path) == rest and _is_same(key, their_key, ready)
            for theirs, their_key in zip(wanted.lookup.parts, wanted.keys, strict=True)
        )
    return False


def _is_same(one: Sequence, other: Sequence, ready: Converted) -> bool:
    """Compare two columns, but for the records that are at fault already: those are never written."""
    if one is other or list(one) == list(other):
        return True
    return bool(ready.faults) and all(a == b or row in ready.faults for row, (a, b) in enumerate(zip(one, other, strict=True)))
