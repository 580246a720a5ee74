"""One mapping: from its options to what fills a column, or to how a record's row is found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from engine.control import lookups
from engine.control.scope import Place, Target, pick
from engine.control.values import Values
from engine.converters import CONVERTERS
from engine.plan import Bookkeeping, Empty, Lookup, Mapping, Source
from engine.tables import Column, Kind, Table, fold

CONSTANT = "Constant"
BOOKKEEPING = {word.value: word for word in Bookkeeping}
_TEXTS = frozenset({Kind.TEXT, Kind.OTHER})
_NUMBERS = _TEXTS | {Kind.INTEGER, Kind.DECIMAL, Kind.FLOAT}
FITS = {
    Bookkeeping.NOW: _TEXTS | {Kind.DATE, Kind.TIME, Kind.TIME_TZ, Kind.TIMESTAMP, Kind.TIMESTAMP_TZ},
    Bookkeeping.BATCH_ID: _NUMBERS,
    Bookkeeping.LINE_NUMBER: _NUMBERS,
    Bookkeeping.FILE_NAME: _TEXTS,
}
IDENTITY = "id"

_OF_DATA = ("input", "fallbackInput", "default", "map", "mapDefault", "filters")
_EMPTINESS = ("required", "empty")
_OWN_OPTIONS = {**lookups.OPTIONS, CONSTANT: ("type", "value"), **dict.fromkeys(BOOKKEEPING, ("type",))}  # the others' are in CONVERTERS


def types() -> list[str]:
    """Return the names of all converter types."""
    return sorted({lookups.CODE, lookups.BY_PROPERTIES, CONSTANT, *BOOKKEEPING, *CONVERTERS})


@dataclass(frozen=True, slots=True)
class Owner:
    """The entity to which mappings belong."""

    target: Target
    name: str
    table: Table
    values: Values
    masked_inputs: frozenset[str] = frozenset()  # folded; what one mapping masks, no other may show


def inputs_named(name: str, place: Place) -> set[str]:
    """Return the folded names of the inputs that a mapping may read, before it is compiled."""
    value, converter = place.value, place.value.get("converter") or {}
    names = [
        converter.get("input", value.get("input", name)),
        value.get("fallbackInput", name),
        *(converter.get("properties") or {}).values(),
    ]
    return set(map(fold, names))


def is_identity(name: str, place: Place) -> bool:
    """Say whether a mapping is the record's identity: it is called `id`, and looks something up."""
    return name == IDENTITY and _looks_up(place)


def is_uncertain(target: Target, name: str, place: Place) -> bool:
    """Say whether a mapping looks something up by names of which some may be those of an entity without a table: that has been said."""
    said = fold("->".join([name, *(place.at("converter", "properties").value or ())]))
    return _looks_up(place) and (not target.are_all_named or any(name in said for name in target.unplaced))


def _looks_up(place: Place) -> bool:
    return place.at("converter").at("type").value in lookups.OPTIONS


def identity(owner: Owner, place: Place) -> Lookup | None:
    """Compile an `id` mapping; None where something is wrong, which then has been said."""
    refused = [place.at(key) for key in ("constant", *_EMPTINESS) if key in place.value]
    refused += [place.at("converter", "missing")] if "missing" in place.value["converter"] else []
    for wrong in refused:
        wrong.fault(
            "has no meaning for `id`: an empty key is always a fault, and what a row that is not there means is the action's to say"
        )
    if not _options_agree(place) or refused:
        return None
    table = owner.table
    results = tuple(table.columns[name] for name in table.locator)
    return lookups.lookup(owner.target, _asked(owner, place, IDENTITY), owner.name, table, results)


def mapping(owner: Owner, name: str, place: Place) -> Mapping | None:
    """Compile the mapping of a column; None where something is wrong, which then has been said."""
    if not _options_agree(place):
        return None
    kind = place.at("converter").at("type").value
    made = _looked_up(owner, name, place) if kind in lookups.OPTIONS else _converted(owner, name, place, kind)
    if made is None or not all(_is_writable(place, owner.table, column) for column in made.columns):
        return None
    empty = place.value.get("empty")
    made = replace(
        made,
        is_required=place.value.get("required", False),
        empty=None if empty is None else Empty(empty),
        is_masked=_values(owner, place, name).is_masked,
    )
    return made if _empty_suits(place, made) else None


def _values(owner: Owner, place: Place, name: str) -> Values:
    is_masked = place.value.get("masked", False) or not owner.masked_inputs.isdisjoint(inputs_named(name, place))
    return replace(owner.values, is_masked=is_masked)


def _asked(owner: Owner, place: Place, name: str) -> lookups.Asked:
    values = _values(owner, place, name)
    return lookups.Asked(place, place.at("converter"), values, lambda at, key: values.source(place, at, key, name))


def _looked_up(owner: Owner, name: str, place: Place) -> Mapping | None:
    asked = _asked(owner, place, name)
    found = lookups.foreign_key(owner.target, asked, owner.table, name)
    if found is None:
        return None
    fk, table = found
    name_of, *others = owner.target.names_of(table)
    entity = name_of if others else f"row in {name_of}"  # a table that no entity of this control file is kept in
    lookup = lookups.lookup(owner.target, asked, entity, table, lookups.referenced_columns(fk, table))
    columns = tuple(owner.table.columns[column] for column in fk.columns)
    return None if lookup is None else Mapping(columns, Source(), lookup=lookup)


def _converted(owner: Owner, name: str, place: Place, kind: str | None) -> Mapping | None:
    values, converter = _values(owner, place, name), place.at("converter")
    table = owner.table
    column_name = pick(place, name, table.columns, f"column of {table.name}")
    source = _source(values, place, converter, name, kind)
    if column_name is None or source is None:
        return None
    column = table.columns[column_name]
    if source.bookkeeping is not None and not _holds(column, source.bookkeeping):
        converter.at("type").fault(f"the column {column.name}, which is {column.sql_type}, cannot hold what {kind} gives")
        return None
    is_of_data = kind != CONSTANT and kind not in BOOKKEEPING
    options = {key: value for key, value in (converter.value or {}).items() if key not in ("type", "input")} if is_of_data else {}
    convert = values.converter(converter if converter.value else place, kind if is_of_data else None, options, column, column.name)
    if convert is None:
        return None
    values.check(place, source, convert)
    return Mapping((column,), source, convert)


def _source(values: Values, place: Place, converter: Place, name: str, kind: str | None) -> Source | None:
    if kind in BOOKKEEPING:
        return Source(bookkeeping=BOOKKEEPING[kind])
    if kind == CONSTANT:
        return Source(constant=converter.value["value"])
    at = converter if converter.value else place
    return values.source(place, at, "input", name)


def _holds(column: Column, word: Bookkeeping) -> bool:
    is_too_small = word is Bookkeeping.BATCH_ID and column.bits is not None and column.bits < 64
    return column.kind in FITS[word] and not is_too_small


# What goes together ----------------------------------------------------------------------------------------------------
def _options_agree(place: Place) -> bool:
    """Say whether the options of a mapping go together; all that does not is said."""
    before = len(place.problems)
    value, converter = place.value, place.at("converter")
    kind = converter.at("type").value
    if converter.value is not None:
        _converter_agrees(converter, kind)
        if "input" in converter.value and "input" in value:
            converter.at("input").fault("the input is named twice, here and beside the converter")
    if "constant" in value:
        _refuse(place, (*_OF_DATA, *_EMPTINESS), "a constant comes from no data")
    if kind == CONSTANT or kind in BOOKKEEPING:
        _refuse(place, ("constant", *_OF_DATA, *_EMPTINESS), f"the value of the converter {kind} comes from no data")
    if kind == lookups.BY_PROPERTIES:
        _refuse(place, ("constant", *(key for key in _OF_DATA if key != "filters")), "a ReferenceLookup takes its inputs from `properties`")
    if "default" in value:
        _refuse(place, _EMPTINESS, "with a `default` no value is empty")
    if "mapDefault" in value and "map" not in value:
        place.at("mapDefault").fault("`mapDefault` needs a `map`")
    if value.get("required") and value.get("empty", "error") != "error":
        place.at("empty").fault("a required value is never empty")
    return len(place.problems) == before


def _converter_agrees(converter: Place, kind: str | None) -> None:
    value = converter.value
    if kind is not None and kind not in types():
        converter.at("type").fault(f"there is no converter '{kind}'", kind, types())
    own = _OWN_OPTIONS.get(kind or "")
    for key in value if own else ():
        if own and key not in own:
            converter.at(key).fault(f"the converter {kind} has no option `{key}`", key, own)
    if kind == CONSTANT and "value" not in value:
        converter.fault("the converter Constant needs a `value`")


def _refuse(place: Place, keys: Iterable[str], why: str) -> None:
    for key in keys:
        if key in place.value:
            place.at(key).fault(f"`{key}` has no meaning here: {why}")


def _is_writable(place: Place, table: Table, column: Column) -> bool:
    if column.is_generated:
        writable = (name for name, other in table.columns.items() if not other.is_generated)
        place.fault(f"the column {column.name} is computed by the database and cannot be written", column.name, writable)
    return not column.is_generated


def _empty_suits(place: Place, made: Mapping) -> bool:
    before = len(place.problems)
    if made.empty is Empty.EMPTY_STRING and (made.lookup is not None or made.columns[0].kind not in (Kind.TEXT, Kind.OTHER)):
        place.at("empty").fault(f"the column {made.columns[0].name} is no text, so it cannot hold an empty one")
    if made.empty is Empty.CLEAR and not any(column.is_nullable for column in made.columns):
        place.at("empty").fault(f"the column {made.columns[0].name} cannot be cleared: it is NOT NULL")
    return len(place.problems) == before
