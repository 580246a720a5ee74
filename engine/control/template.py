"""What a file must look like, from its control file: the columns, which of them are needed, and what may stand in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.control.lookups import CODE
from engine.plan import EntityPlan, FilePlan, Mapping, Plan
from engine.tables import Column, Kind, Table

MOST_CHOICES = 200  # of a column; longer lists help nobody

ValuesOf = Callable[[Table, Column, int], Sequence[str]]
"""Gives the values of a table's column, where there are no more than so many; else []."""

__all__ = ["CODE", "MOST_CHOICES", "TemplateColumn", "ValuesOf", "columns_of", "entities_of"]


@dataclass(frozen=True, slots=True)
class TemplateColumn:
    """One column of a template."""

    name: str
    is_required: bool
    kind: Kind | None  # of the column that it fills; None where that is not one column's
    choices: tuple[str, ...] = ()


def columns_of(entity: EntityPlan, values_of: ValuesOf) -> list[TemplateColumn]:
    """Return the columns of an entity's files."""
    return [_column(entity, name, values_of) for name in entity.inputs]


def entities_of(plan: Plan, file: FilePlan) -> list[EntityPlan]:
    """Return the entities whose rows a file may hold, each once."""
    if file.entity is not None:
        return [file.entity]
    return list({entity.name: entity for entity in plan.entities.values()}.values())


def _column(entity: EntityPlan, name: str, values_of: ValuesOf) -> TemplateColumn:
    mappings = [mapping for mapping in entity.mappings if name in mapping.inputs()]
    is_required = name in entity.required_inputs or name in entity.identity_inputs or any(_is_needed(mapping, name) for mapping in mappings)
    kinds = {None if mapping.lookup else mapping.columns[0].kind for mapping in mappings}
    kind = kinds.pop() if len(kinds) == 1 else None
    return TemplateColumn(name, is_required, kind, _choices(mappings, values_of) if len(mappings) == 1 else ())


def _is_needed(mapping: Mapping, name: str) -> bool:
    """Tell whether an empty cell would be refused when a row is made."""
    if mapping.is_required:
        return True
    is_replaced = mapping.source.fallback_input is not None or mapping.source.default is not None
    is_optional = any(column.is_nullable or column.default is not None or column.identity for column in mapping.columns)
    return not is_replaced and not is_optional


def _choices(mappings: Sequence[Mapping], values_of: ValuesOf) -> tuple[str, ...]:
    [mapping] = mappings
    if mapping.source.map is not None:
        found: Sequence[str] = [word for word in mapping.source.map if word]
    elif mapping.lookup is not None:
        parts = mapping.lookup.parts
        is_simple = len(parts) == 1 and not parts[0].path and not mapping.is_masked
        found = values_of(mapping.lookup.table, parts[0].column, MOST_CHOICES) if is_simple else ()
    else:
        column = mapping.columns[0]
        found = column.labels or (("true", "false") if column.kind is Kind.BOOLEAN else ())
    return tuple(found) if len(found) <= MOST_CHOICES else ()
