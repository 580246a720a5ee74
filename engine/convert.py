"""Convert a block: from its inputs to the texts that its columns get and the keys that its look-ups seek, and what is wrong, by row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from engine import faults
from engine.chunk import Block
from engine.faults import Fault
from engine.plan import Action, Empty, EntityPlan, FilePlan, KeyPart, Lookup, Mapping, Missing, Text
from engine.pull import FILTERS, NO_ROWS, Context, Pulled, Puller
from engine.tables import Column

__all__ = ["FILTERS", "Cells", "Context", "Converted", "LookupKeys", "convert", "convert_keys"]

OnInsert = Literal["null", "default"]
OnUpdate = Literal["null", "keep", "default"]
_EMPTY_RULES: dict[Empty | None, tuple[OnInsert, OnUpdate]] = {
    None: ("default", "null"),
    Empty.KEEP: ("default", "keep"),
    Empty.CLEAR: ("null", "null"),
    Empty.DEFAULT: ("default", "default"),
    Empty.ERROR: ("default", "null"),
    Empty.EMPTY_STRING: ("default", "null"),
}


@dataclass(frozen=True, slots=True)
class Cells:
    """One column of the target: its values by row; for `empties` the two rules count instead. Another None is null in any case."""

    mapping: Mapping
    column: Column
    values: Text
    empties: frozenset[int]
    on_insert: OnInsert
    on_update: OnUpdate


@dataclass(frozen=True, slots=True)
class LookupKeys:
    """What a look-up seeks, one column a key part. A row with a None in any part is not looked up: its columns are null, or `empties`."""

    mapping: Mapping | None  # None: the record's identity
    lookup: Lookup
    keys: list[Text]
    empties: frozenset[int]
    on_insert: OnInsert = "default"
    on_update: OnUpdate = "null"


@dataclass(slots=True)
class Converted:
    """A block made ready. A row with faults may have any value elsewhere."""

    cells: list[Cells] = field(default_factory=list)
    lookups: list[LookupKeys] = field(default_factory=list)
    faults: dict[int, list[Fault]] = field(default_factory=dict)

    def add(self, wrong: dict[int, Fault]) -> None:
        """Add faults by row."""
        for row, fault in wrong.items():
            self.faults.setdefault(row, []).append(fault)


def convert(block: Block, file: FilePlan, line_of: Sequence[int], context: Context) -> Converted:
    """Convert one block. `line_of` gives the physical line of each position of its chunk.

    A mapping whose inputs the file does not have is left out. A Delete needs its identity only.
    """
    return _convert(block, file, line_of, context, block.entity.mappings)


def convert_keys(block: Block, file: FilePlan, line_of: Sequence[int], context: Context) -> Converted:
    """Convert of a block only what tells which rows its records touch: their identity, and what fills the columns of its key."""
    identity = block.entity.identity
    keyed = {part.column.name for part in identity.parts} if identity is not None else set()
    mappings = [m for m in block.entity.mappings if not keyed.isdisjoint(column.name for column in m.columns)]
    return _convert(block, file, line_of, context, mappings)


def _convert(block: Block, file: FilePlan, line_of: Sequence[int], context: Context, mappings: Sequence[Mapping]) -> Converted:
    puller = Puller(block, file, line_of, context)
    converted = Converted()
    _identify(block, puller, converted)
    if block.action is Action.DELETE:
        return converted
    for mapping in mappings:
        rule = mapping.empty or file.empty
        if mapping.lookup is not None:
            _look_up(block, mapping, mapping.lookup, rule, puller, converted)
        elif not puller.is_absent([mapping.source]):
            _fill(block, mapping, rule, puller, converted)
        elif mapping.is_required and block.action is Action.INSERT:
            converted.add({row: faults.fault(faults.NOT_NULL, mapping.columns[0].name) for row in range(len(block))})
    return converted


# Columns ----------------------------------------------------------------------------------------------------------------
def _fill(block: Block, mapping: Mapping, rule: Empty | None, puller: Puller, converted: Converted) -> None:
    column = mapping.columns[0]
    pulled = puller.pull(mapping.source, column, mapping.convert, mapping.source.input or column.name, mapping.is_masked)
    values, empties, wrong = pulled.values, pulled.empties, pulled.faults
    if empties and rule is Empty.EMPTY_STRING and not mapping.is_required:
        values, empties = ["" if row in empties else value for row, value in enumerate(values)], NO_ROWS
    on_insert, on_update = _EMPTY_RULES[rule]
    converted.add(wrong)
    refused = _nulls_refused(block, mapping, rule, pulled, wrong)
    converted.add({row: faults.fault(faults.NOT_NULL, column.name) for row in refused})
    converted.cells.append(Cells(mapping, column, values, empties, on_insert, on_update))


def _nulls_refused(block: Block, mapping: Mapping, rule: Empty | None, pulled: Pulled, wrong: dict[int, Fault]) -> Iterable[int]:
    """Return the rows without a value that cannot be written, as far as that is certain before the database is asked."""
    can_refuse = mapping.is_required or rule is Empty.ERROR or not _may_be_null(block.entity, mapping.columns)
    if pulled.is_full or not can_refuse or (not pulled.empties and None not in pulled.values):
        return ()
    refused: set[int] = set()
    nulls = {row for row, value in enumerate(pulled.values) if value is None and row not in pulled.empties and row not in wrong}
    if mapping.is_required or rule is Empty.ERROR:
        refused |= pulled.empties
    if mapping.is_required:
        refused |= nulls
    if rule is not Empty.EMPTY_STRING and _is_empty_refused(block, mapping.columns, rule):
        refused |= pulled.empties
    if not _may_be_null(block.entity, mapping.columns):
        refused |= nulls
    return sorted(refused)


def _is_empty_refused(block: Block, columns: Sequence[Column], rule: Empty | None) -> bool:
    """Tell whether an empty cell fails in every way that the action may take; for a Merge with one way open the database decides."""
    if _may_be_null(block.entity, columns):
        return False
    on_insert, on_update = _EMPTY_RULES[rule]
    has_default = all(column.is_nullable or column.default is not None or column.identity or column.is_generated for column in columns)
    insert_fails = on_insert == "null" or not has_default
    update_fails = on_update == "null" or (on_update == "default" and not has_default)
    match block.action:
        case Action.INSERT:
            return insert_fails
        case Action.UPDATE:
            return update_fails
        case _:
            return insert_fails and update_fails


def _may_be_null(entity: EntityPlan, columns: Sequence[Column]) -> bool:
    """Tell whether a null may be sent: the columns allow it, or something else (a trigger, SQLite's row id) may fill them."""
    table = entity.table
    if table.has_triggers or table.has_rewrites or all(column.is_nullable for column in columns):
        return True
    return table.rowid_name is not None and table.primary_key == tuple(column.name for column in columns)


# Keys -------------------------------------------------------------------------------------------------------------------
def _identify(block: Block, puller: Puller, converted: Converted) -> None:
    """Convert the identity's key; a part without a value is a fault, since null never equals null."""
    identity, entity = block.entity.identity, block.entity
    if identity is None:
        return
    if block.action is Action.INSERT and any(puller.is_absent([part.source]) for part in identity.parts):
        return  # The file says nothing of the key: the database makes it, and nothing can be found by it.
    keys, pulls, wrong = _keys(identity, puller, entity.is_identity_masked)
    for part, pulled in zip(identity.parts, pulls, strict=True):
        if not pulled.is_full:
            absent = f" (there is no column '{_label(part)}')" if puller.is_absent([part.source]) else ""
            for row, value in enumerate(pulled.values):
                if value is None and row not in pulled.faults:
                    wrong.setdefault(row, faults.fault(faults.KEY_MISSING, _label(part), entity=entity.name, absent=absent))
    converted.add(wrong)
    converted.lookups.append(LookupKeys(None, identity, keys, NO_ROWS))


def _look_up(block: Block, mapping: Mapping, lookup: Lookup, rule: Empty | None, puller: Puller, converted: Converted) -> None:
    if puller.is_absent([part.source for part in lookup.parts]):
        return
    keys, pulls, wrong = _keys(lookup, puller, mapping.is_masked)
    pulled = _joined(lookup, pulls, wrong)
    converted.add(wrong)
    refused = _nulls_refused(block, mapping, rule, pulled, wrong)
    names = ", ".join(column.name for column in mapping.columns)
    converted.add({row: faults.fault(faults.NOT_NULL, names) for row in refused})
    converted.lookups.append(LookupKeys(mapping, lookup, keys, pulled.empties, *_EMPTY_RULES[rule]))


def _keys(lookup: Lookup, puller: Puller, is_masked: bool) -> tuple[list[Text], list[Pulled], dict[int, Fault]]:
    """Convert each key part by its own converter."""
    keys: list[Text] = []
    pulls: list[Pulled] = []
    wrong: dict[int, Fault] = {}
    for part in lookup.parts:
        pulled = puller.pull(part.source, part.column, part.convert, _label(part), is_masked)
        for row, fault in pulled.faults.items():
            wrong.setdefault(row, fault)
        keys.append(pulled.values)
        pulls.append(pulled)
    return keys, pulls, wrong


def _joined(lookup: Lookup, pulls: list[Pulled], wrong: dict[int, Fault]) -> Pulled:
    """Tell which rows have no key: empty where every part is. A key with some parts is a fault, unless `missing: clear` makes it null."""
    if len(pulls) == 1 or all(pulled.is_full for pulled in pulls):
        return pulls[0]
    values: list[str | None] = []
    for row, parts in enumerate(zip(*(pulled.values for pulled in pulls), strict=True)):
        values.append(None if None in parts else parts[0])
        if None in parts and any(part is not None for part in parts) and row not in wrong and lookup.missing is not Missing.CLEAR:
            part = lookup.parts[parts.index(None)]
            wrong[row] = faults.fault(faults.REFERENCE_INCOMPLETE, _label(part), entity=lookup.entity)
    empties = frozenset.intersection(*(pulled.empties for pulled in pulls))
    return Pulled(values, empties, pulls[0].faults)


def _label(part: KeyPart) -> str:
    return part.source.input or part.label or part.column.name
