"""Look-ups: CodeReferenceLookup and ReferenceLookup, from their options to the columns that are compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from engine.control.scope import Place, Target, named, pick, reference_name
from engine.control.values import Values
from engine.plan import KeyPart, Lookup, Missing, Source, Step
from engine.tables import Column, ForeignKey, Kind, Table

CODE = "CodeReferenceLookup"
BY_PROPERTIES = "ReferenceLookup"
OPTIONS = {CODE: ("type", "input", "column", "missing"), BY_PROPERTIES: ("type", "properties", "missing")}

MAX_STEPS = 8  # through references, in one property
_NOT_COMPARABLE = frozenset({Kind.JSON, Kind.ARRAY})
_WITHOUT_EQUALITY = frozenset({"xml", "point", "line", "lseg", "box", "path", "polygon", "circle"})


@dataclass(frozen=True, slots=True)
class Asked:
    """What a look-up mapping asks for."""

    place: Place  # of the mapping's options
    converter: Place
    values: Values
    source_of: Callable[[Place, str], Source | None]  # makes the source of one input, named at a place

    @property
    def kind(self) -> str:
        """CODE or BY_PROPERTIES."""
        return self.converter.value["type"]

    def missing(self) -> Missing:
        """Return what it means that nothing is found."""
        return Missing(self.converter.value.get("missing", Missing.ERROR))


def foreign_key(target: Target, asked: Asked, table: Table, name: str) -> tuple[ForeignKey, Table] | None:
    """Return the foreign key that a look-up mapping fills, and the table it refers to.

    `name` is any of its columns, or what it refers to. Says so where there is none, or where it is not clear which.
    """
    found = _by_column(target, table, name) or target.references(table, name)
    if len(found) > 1 and asked.kind == BY_PROPERTIES:
        prefixes = [_split(label)[0] for label in asked.converter.value.get("properties") or ()]
        found = [(fk, other) for fk, other in found if any(target.is_called(other, prefix) for prefix in prefixes)] or found
    if len(found) > 1:
        found = [(fk, other) for fk, other in found if len(fk.columns) == 1] or found
    if len(found) == 1:
        return found[0]
    if found:
        asked.place.fault(f"'{name}' may mean several foreign keys", name, (fk.name for fk, _ in found))
    elif named(name, table.columns):
        asked.place.fault(
            f"the column '{name}' of {table.name} refers to no other table, so nothing can be looked up", name, _referring(table)
        )
    else:
        asked.place.fault(f"{table.name} has no foreign key '{name}'", name, _referring(table))
    return None


def _by_column(target: Target, table: Table, name: str) -> list[tuple[ForeignKey, Table]]:
    columns = named(name, table.columns)
    found: dict[object, tuple[ForeignKey, Table]] = {}
    for fk in table.foreign_keys:
        other = target.get(fk.schema, fk.table)
        if other is not None and any(column in fk.columns for column in columns):
            found.setdefault((fk.columns, other.key), (fk, other))
    return list(found.values())


def _referring(table: Table) -> list[str]:
    return [column for fk in table.foreign_keys for column in fk.columns]


def referenced_columns(fk: ForeignKey, table: Table) -> tuple[Column, ...]:
    """Return the columns of `table` that the foreign key refers to, in its order."""
    return tuple(table.columns[name] for name in fk.referenced_columns or table.primary_key)


def lookup(target: Target, asked: Asked, entity: str, table: Table, results: tuple[Column, ...]) -> Lookup | None:
    """Compile a look-up into `table`; None where something is wrong, which then has been said."""
    parts = _code_parts(asked, entity, table) if asked.kind == CODE else _property_parts(target, asked, table)
    if not parts or None in parts:
        return None
    return Lookup(entity, table, tuple(part for part in parts if part is not None), results, asked.missing())


# By code -----------------------------------------------------------------------------------------------------------------
def _code_parts(asked: Asked, entity: str, table: Table) -> list[KeyPart | None]:
    place = asked.converter
    column = _code_column(place, table)
    source = asked.source_of(place, "input")
    return [None] if column is None or source is None else [_part(asked, place, column, source, (), f"{entity}->{column.name}")]


def _code_column(place: Place, table: Table) -> Column | None:
    """Return the column that holds the code: the one named, else `code`, else the single unique text column."""
    wanted = place.value.get("column")
    if wanted is not None:
        name = pick(place.at("column"), wanted, table.columns, f"column of {table.name}")
        return None if name is None else table.columns[name]
    found = named("code", table.columns) or unique_texts(table)
    if len(found) == 1:
        return table.columns[found[0]]
    what = "several unique text columns" if found else "neither a column `code` nor a unique text column"
    place.fault(f"{table.name} has {what}: say by `column` where the code stands", "code", found or table.columns)
    return None


def unique_texts(table: Table) -> list[str]:
    """Return the text columns that alone tell a table's rows apart."""
    alone = {u.columns[0] for u in table.uniques if len(u.columns) == 1 and not u.is_partial and not u.has_expressions}
    if len(table.primary_key) == 1:
        alone.add(table.primary_key[0])
    return sorted(name for name in alone if table.columns[name].kind is Kind.TEXT)


# By properties -------------------------------------------------------------------------------------------------------------
def _property_parts(target: Target, asked: Asked, table: Table) -> list[KeyPart | None]:
    if not asked.converter.value.get("properties"):
        asked.converter.fault("a ReferenceLookup needs `properties`: a map of `Entity->Column` to the inputs with their values")
        return [None]
    return [_property_part(target, asked, place, table, label) for label, place in asked.converter.at("properties").entries()]


def _property_part(target: Target, asked: Asked, place: Place, table: Table, label: str) -> KeyPart | None:
    entity, column_text = _split(label)
    source = asked.source_of(asked.converter.at("properties"), label)
    if not entity or not column_text:
        place.fault("a property is written `Entity->Column`, or `Entity->Reference_Column`", label, _labels(target, table))
        return None
    if not target.is_called(table, entity):
        place.fault(f"the row is looked up in {table.name}, not in '{entity}'", entity, target.names_of(table))
        return None
    found = paths(target, table, column_text)
    if len(found) != 1 or source is None:
        if len(found) > 1:
            names = ("_".join([*(reference_name(step.foreign_key.columns[0]) for step in steps), column.name]) for steps, column in found)
            place.fault(f"'{label}' may mean several columns; name the reference by its column", column_text, names)
        elif not found:
            place.fault(f"there is no column '{column_text}' of {table.name}, nor of what it refers to", label, _labels(target, table))
        return None
    [(steps, column)] = found
    return _part(asked, place, column, source, steps, label)


def _split(label: str) -> tuple[str, str]:
    entity, arrow, column = label.partition("->")
    return (entity.strip(), column.strip()) if arrow else ("", label)


def _labels(target: Target, table: Table) -> list[str]:
    """Return the properties of a table that can be written, through one reference at most."""
    entity = target.names_of(table)[0]
    labels = [f"{entity}->{name}" for name in table.columns]
    for fk in table.foreign_keys:
        other = target.get(fk.schema, fk.table)
        labels += [
            f"{entity}->{reference_name(fk.columns[0])}_{name}"
            for name in (other.columns if other is not None and len(fk.columns) == 1 else ())
        ]
    return labels


def paths(target: Target, table: Table, text: str, steps_left: int = MAX_STEPS) -> list[tuple[tuple[Step, ...], Column]]:
    """Return the columns that `Column` or `Reference_Column` may mean, with the steps from the table to each; a direct column wins."""
    direct = named(text, table.columns)
    if direct:
        return [((), table.columns[name]) for name in direct]
    found = []
    for index, character in enumerate(text):
        if character == "_" and steps_left:
            for fk, other in target.references(table, text[:index]):
                found += [((Step(fk, other), *steps), column) for steps, column in paths(target, other, text[index + 1 :], steps_left - 1)]
    return found


def _part(asked: Asked, place: Place, column: Column, source: Source, steps: tuple[Step, ...], label: str) -> KeyPart | None:
    if column.kind in _NOT_COMPARABLE or column.sql_type.lower() in _WITHOUT_EQUALITY:
        place.fault(f"nothing can be looked up by {column.name}: its type {column.sql_type} cannot be compared")
        return None
    convert = asked.values.converter(place, None, {}, column, source.input or column.name)
    if convert is None:
        return None
    asked.values.check(asked.place, source, convert)
    return KeyPart(column, source, convert, steps, label)
