"""Where a mapping's value comes from, and what turns it into a value of its column."""

from __future__ import annotations

from collections.abc import Collection, Mapping as Map
from dataclasses import dataclass, field
from typing import Any

from engine.control.scope import Place, pick
from engine.converters import OptionInvalid, build
from engine.plan import Converter, Source
from engine.tables import Column


@dataclass(frozen=True, slots=True)
class Values:
    """Makes the sources and converters of one entity's mapping."""

    inputs: Collection[str]
    decimal: str
    dialect: str
    is_masked: bool = False
    # Columns that are converted alike, as a key and as a value, have one converter, so that it is done once.
    natural: dict[tuple[Column, str, bool], Converter] = field(default_factory=dict, compare=False)

    def source(self, options: Place, at: Place, key: str, otherwise: str) -> Source | None:
        """Return the source that the mapping's options describe, its input named by `key` at a place, else by `input`, else `otherwise`.

        None where an input is not there, which then has been said.
        """
        value: Map[str, Any] = options.value
        if "constant" in value:
            return Source(constant=value["constant"])
        named_at = [(at.at(key), at.value.get(key)), (options.at("input"), value.get("input")), (options, otherwise)]
        given = next(self.input(place, name) for place, name in named_at if name is not None)
        fallback = self.input(options.at("fallbackInput"), value["fallbackInput"]) if "fallbackInput" in value else None
        if given is None or (fallback is None and "fallbackInput" in value):
            return None
        return Source(
            input=given,
            fallback_input=fallback,
            filters=tuple(value.get("filters", ())),
            map=value.get("map"),
            has_map_default="mapDefault" in value,
            map_default=value.get("mapDefault"),
            default=value.get("default"),
        )

    def input(self, place: Place, name: str) -> str | None:
        """Return the input that is meant."""
        return pick(place, name, self.inputs, "input")

    def converter(self, place: Place, kind: str | None, options: Map[str, Any], column: Column, name: str) -> Converter | None:
        """Build a column's converter, saying all that is wrong with its options; None if anything is."""
        way = (column, name, self.is_masked)
        if kind is None and not options and way in self.natural:
            return self.natural[way]
        built = self._built(place, kind, options, column, name)
        if kind is None and not options and built is not None:
            self.natural[way] = built
        return built

    def _built(self, place: Place, kind: str | None, options: Map[str, Any], column: Column, name: str) -> Converter | None:
        options, is_wrong = dict(options), False
        while True:
            try:
                built = build(kind, options, column, name=name, decimal=self.decimal, dialect=self.dialect, is_masked=self.is_masked)
            except OptionInvalid as invalid:
                is_wrong = True
                where = place.at(invalid.option) if invalid.option in place.value else place
                where.fault(str(invalid), str(place.value.get(invalid.option, "")) or invalid.option, invalid.allowed)
                if options.pop(invalid.option, None) is None:
                    return None
            else:
                return None if is_wrong else built

    def check(self, options: Place, source: Source, convert: Converter) -> None:
        """Say which of the values that stand in the control file itself do not suit the column."""
        values = {"constant": source.constant, "default": source.default, "mapDefault": source.map_default}
        for key, value in values.items():
            if value is not None:
                self._check(options.at(key) if key in options.value else options, [value], convert)
        if source.map:
            self._check(options.at("map"), [value for value in source.map.values() if value is not None], convert)

    def _check(self, place: Place, values: list[str], convert: Converter) -> None:
        _, faults = convert(values)
        for fault in faults.values():
            place.fault(fault.message)
