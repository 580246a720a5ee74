"""Entities: their tables, their mappings together, and how their rows are told apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from engine.control import mappings
from engine.control.mappings import Owner
from engine.control.scope import Path, Place, Target, pick
from engine.control.values import Values
from engine.plan import EntityPlan, KeyPart, Lookup, Mapping, Missing, Step
from engine.tables import Table, fold


@dataclass(frozen=True, slots=True)
class Entity:
    """One entity of the document, with its table."""

    place: Place
    table: Table | None
    is_whole: bool = True  # but for single mappings; else nothing more is said of it
    plans: dict[str, EntityPlan | None] = field(default_factory=dict)  # by the decimal mark of the files that use it

    @property
    def name(self) -> str:
        """The entity's name, not unique where there are aliases."""
        return str(self.place.value["entity"])

    def plan(self, target: Target, decimal: str) -> EntityPlan | None:
        """Compile the entity for files with this decimal mark; None where something is wrong, which then has been said."""
        if self.table is not None and self.is_whole and decimal not in self.plans:
            self.plans[decimal] = _compile(
                Owner(target, self.name, self.table, Values(self.place.value["input"], decimal, target.dialect)), self.place
            )
        return self.plans.get(decimal)


def find_entities(target: Target, place: Place) -> dict[str, Entity]:
    """Resolve the tables of all entities, and return them by folded name and folded alias.

    Entities of one name need aliases, all but one; their name then means the one without an alias.
    """
    target.are_all_named = not any(map(_is_nameless, place.document.faulty))
    found = [_find(target, item) for item in place.each() if not item.at("entity").is_faulty]
    names: dict[str, Entity] = {}
    for entity in found:
        own = "alias" if "alias" in entity.place.value else "entity"
        name = str(entity.place.value[own])
        known = names.setdefault(fold(name), entity)
        if known is not entity:
            entity.place.at(own).fault(
                f"the entity '{name}' is there already, at line {known.place.line}: give one of them an `alias` of its own"
            )
    shared = [fold(entity.name) for entity in found]
    for entity in found:
        if shared.count(fold(entity.name)) == 1:
            names.setdefault(fold(entity.name), entity)
        called = [str(entity.place.value[key]) for key in ("entity", "alias") if key in entity.place.value]
        if entity.table is None:
            target.unplaced += map(fold, called)
        else:
            target.entities.setdefault(entity.table.key, []).extend(called)
    return names


def _is_nameless(faulty: Path) -> bool:
    """Say whether what is at fault may be the name of an entity, or of its table."""
    return faulty[:1] == ("entities",) and faulty[2:3] not in (("input",), ("mappings",))


def _find(target: Target, place: Place) -> Entity:
    key = "table" if "table" in place.value else "entity"
    wrong = [path for path in place.document.faulty if path[:2] == place.path]
    if any(map(_is_nameless, wrong)):
        return Entity(place, None)
    return Entity(place, target.table(place.at(key), str(place.value[key])), all(len(path) > len(place.path) + 1 for path in wrong))


def _compile(owner: Owner, place: Place) -> EntityPlan | None:
    before = len(place.problems)
    _check_inputs(place.at("input"))
    owner = replace(owner, masked_inputs=_masked_inputs(place.at("mappings")))
    made: list[tuple[Mapping, Place]] = []
    identities: list[tuple[Lookup | None, Place]] = []
    is_whole = True
    for item in place.at("mappings").each():
        [(name, options)] = item.entries()
        if item.is_faulty or mappings.is_uncertain(owner.target, name, options):
            is_whole = False  # of which all that depends on it, such as what its rows are found by, is not known either
            continue
        if mappings.is_identity(name, options):
            identities.append((mappings.identity(owner, options), options))
        elif mapping := mappings.mapping(owner, name, options):
            made.append((mapping, options))
    for _, again in identities[1:]:
        again.fault("a record has one identity, and this is the second `id`")
    _check_columns(made)
    if len(place.problems) > before or not is_whole:
        return None
    filled = tuple(mapping for mapping, _ in made)
    identity = identities[0][0] if identities else _identity_by_key(owner.table, filled, owner.name)
    return _plan(owner, place, filled, identity)


def _masked_inputs(place: Place) -> frozenset[str]:
    entries = [entry for item in place.each() for entry in item.entries()]
    return frozenset().union(*(mappings.inputs_named(name, options) for name, options in entries if options.value.get("masked")))


def _plan(owner: Owner, place: Place, filled: tuple[Mapping, ...], identity: Lookup | None) -> EntityPlan:
    sources = [part.source for part in identity.parts] if identity else []
    identity_inputs = frozenset(name for s in sources for name in (s.input, s.fallback_input) if name is not None)
    needed = {m.source.input for m in filled if m.is_required and m.lookup is None and m.source.fallback_input is None}
    is_masked = not owner.masked_inputs.isdisjoint(map(fold, identity_inputs))
    return EntityPlan(
        name=owner.name,
        table=owner.table,
        inputs=tuple(place.value["input"]),
        mappings=(*filled, *_implied(identity, filled, is_masked)) if identity else filled,
        identity=identity,
        identity_inputs=identity_inputs,
        required_inputs=frozenset(name for name in needed if name is not None),
        is_identity_masked=is_masked,
    )


def _check_inputs(place: Place) -> None:
    seen: dict[str, Place] = {}
    for item in place.each():
        first = seen.setdefault(item.value, item)
        if first is not item:
            item.fault(f"the input '{item.value}' is there already, at line {first.line}")


def _check_columns(made: Sequence[tuple[Mapping, Place]]) -> None:
    seen: dict[str, Place] = {}
    for mapping, place in made:
        for column in mapping.columns:
            first = seen.setdefault(column.name, place)
            if first is not place:
                place.fault(f"the column {column.name} is filled already, by the mapping at line {first.line}")


# Identity ----------------------------------------------------------------------------------------------------------------
def _implied(identity: Lookup, filled: Sequence[Mapping], is_masked: bool) -> list[Mapping]:
    """Return mappings of the key columns that have none, so that a new row can be found again by its identity."""
    known = {column.name for mapping in filled for column in mapping.columns}
    direct = {part.column.name: part for part in identity.parts if not part.path and not part.column.is_generated}
    return [Mapping((part.column,), part.source, part.convert, is_masked=is_masked) for name, part in direct.items() if name not in known]


def _identity_by_key(table: Table, filled: Sequence[Mapping], entity: str) -> Lookup | None:
    """Return the look-up by the primary key, else by the table's single other unique key, if all its columns are mapped."""
    by_column = {column.name: mapping for mapping in filled for column in mapping.columns}
    others = {u.columns for u in table.uniques if not u.is_primary and not u.is_partial and not u.has_expressions}
    for key in (table.primary_key, *(others if len(others) == 1 else ())):
        parts = _key_parts(table, key, by_column, entity)
        if parts:
            return Lookup(entity, table, tuple(parts), tuple(table.columns[name] for name in table.locator))
    return None


def _key_parts(table: Table, key: Sequence[str], by_column: dict[str, Mapping], entity: str) -> list[KeyPart]:
    """Return the parts of a key, or nothing where one of its columns is not mapped to something of the data."""
    parts: list[KeyPart] = []
    used: list[Mapping] = []
    for name in key:
        mapping = by_column.get(name)
        if mapping is None or mapping.source.bookkeeping is not None or not {column.name for column in mapping.columns} <= set(key):
            return []
        if mapping.lookup is not None and mapping.lookup.missing is Missing.CLEAR:
            return []  # Cleared, it would be null, and null never equals null: the record would be created anew every time.
        if not any(mapping is other for other in used):
            used.append(mapping)
            parts += _parts_of(table, mapping, f"{entity}->{name}")
    return parts


def _parts_of(table: Table, mapping: Mapping, label: str) -> list[KeyPart]:
    """Return what tells a mapped column's value: its text, or, of a reference, what the row it refers to is found by."""
    if mapping.lookup is None:
        return [KeyPart(mapping.columns[0], mapping.source, mapping.convert, label=label)] if mapping.convert else []
    names = tuple(column.name for column in mapping.columns)
    fk = next(fk for fk in table.foreign_keys if fk.columns == names and (fk.schema, fk.table) == mapping.lookup.table.key)
    step = Step(fk, mapping.lookup.table)
    return [replace(part, path=(step, *part.path)) for part in mapping.lookup.parts]


def pick_entity(target: Target, place: Place, names: dict[str, Entity]) -> Entity | None:
    """Return the entity that a file's rows are."""
    name = str(place.value)
    if fold(name) in names:
        return names[fold(name)]
    if target.are_all_named:
        pick(place, name, {str(e.place.value.get("alias", e.name)) for e in names.values()}, "entity")
    return None
