"""Converters: from a column of text as it stands in the file to a column of text as the target reads it.

`CONVERTERS` is the catalogue of the types that a control file may name, `build` makes a converter for one column.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from engine.converters import numbers, options, structures, texts, times
from engine.converters.column import Chain, Fast, One, Whole
from engine.converters.options import OptionInvalid
from engine.plan import Converter
from engine.tables import Column, Kind

__all__ = ["CONVERTERS", "NATURAL", "ConverterType", "OptionInvalid", "build"]


@dataclass(frozen=True, slots=True)
class ConverterType:
    """A type that a control file may name: its options, each with its checker, and the kinds of column that it fits."""

    name: str
    kind: Kind  # what it gives
    fits: frozenset[Kind]
    options: Mapping[str, options.Checker]
    summary: str


def _type(name: str, kind: Kind, also: tuple[Kind, ...], summary: str, **checkers: options.Checker) -> tuple[str, ConverterType]:
    return name, ConverterType(name, kind, frozenset({kind, *also, Kind.TEXT, Kind.OTHER}), checkers, summary)


CONVERTERS: dict[str, ConverterType] = dict([
    _type("Integer", Kind.INTEGER, (Kind.DECIMAL, Kind.FLOAT), "a whole number", thousands=options.thousands),
    _type(
        "Number", Kind.DECIMAL, (Kind.FLOAT, Kind.INTEGER), "an exact decimal number",
        decimal=options.decimal, thousands=options.thousands,
    ),
    _type("Boolean", Kind.BOOLEAN, (Kind.INTEGER, Kind.DECIMAL), "true or false", true=options.words, false=options.words),
    _type("Date", Kind.DATE, (Kind.TIMESTAMP,), "a day", format=options.date_format),
    _type(
        "DateTime", Kind.TIMESTAMP, (Kind.TIMESTAMP_TZ,), "a day and time",
        format=options.datetime_format, timezone=options.timezone,
    ),
    _type("Time", Kind.TIME, (Kind.TIME_TZ,), "a time of day", format=options.time_format, timezone=options.fixed_timezone),
    _type("Duration", Kind.INTERVAL, (), "a length of time"),
    _type(
        "Text", Kind.TEXT, tuple(kind for kind in Kind if kind is not Kind.BINARY), "text as it stands",
        maxLength=options.length, pattern=options.pattern,
    ),
    _type("Uuid", Kind.UUID, (), "a UUID"),
    _type("Json", Kind.JSON, (), "a JSON value"),
    _type("Binary", Kind.BINARY, (), "bytes", format=options.binary_format),
])  # fmt: skip

NATURAL: dict[Kind, str] = {
    Kind.INTEGER: "Integer", Kind.DECIMAL: "Number", Kind.FLOAT: "Number", Kind.TEXT: "Text", Kind.BOOLEAN: "Boolean", Kind.DATE: "Date",
    Kind.TIME: "Time", Kind.TIME_TZ: "Time", Kind.TIMESTAMP: "DateTime", Kind.TIMESTAMP_TZ: "DateTime", Kind.INTERVAL: "Duration",
    Kind.UUID: "Uuid", Kind.JSON: "Json", Kind.BINARY: "Binary", Kind.ENUM: "Text", Kind.ARRAY: "Text", Kind.OTHER: "Text",
}  # fmt: skip
"""The type whose options count where a control file names none, by the column's kind."""

_MAKERS: dict[Kind, Callable[..., tuple[Fast, One]]] = {
    Kind.INTEGER: numbers.integer, Kind.DECIMAL: numbers.number, Kind.FLOAT: numbers.floating, Kind.BOOLEAN: numbers.boolean,
    Kind.TEXT: texts.text, Kind.OTHER: texts.text, Kind.UUID: texts.uuid, Kind.ENUM: texts.enum, Kind.BINARY: texts.binary,
    Kind.DATE: times.day, Kind.TIMESTAMP: times.instant, Kind.TIMESTAMP_TZ: times.instant, Kind.TIME: times.clock,
    Kind.TIME_TZ: times.clock, Kind.INTERVAL: times.duration, Kind.JSON: structures.json_text,
}  # fmt: skip
_TELLS_DIALECTS_APART = {Kind.BOOLEAN, Kind.BINARY, Kind.TIMESTAMP, Kind.TIMESTAMP_TZ, Kind.TIME, Kind.TIME_TZ}
_NUMBERS = {Kind.INTEGER, Kind.DECIMAL, Kind.FLOAT}
_STRICT = _NUMBERS | {Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMP_TZ, Kind.UUID}  # by their own forms; see Whole.is_strict


def build(
    type: str | None, options: Mapping[str, Any], column: Column, *, name: str, decimal: str = ".", dialect: str, is_masked: bool = False
) -> Converter:
    """Make the converter of one column. `type` None: by the column's kind; `name` is the column as messages name it.

    Raises OptionInvalid for an unknown type, a type that does not fit the column, an unknown option or a bad value.
    """
    chosen = CONVERTERS.get(type or NATURAL[column.kind])
    if chosen is None:
        raise OptionInvalid(f"unknown converter type '{type}'", "type", tuple(CONVERTERS))
    if column.kind not in chosen.fits and type is not None:
        fitting = tuple(t.name for t in CONVERTERS.values() if column.kind in t.fits)
        raise OptionInvalid(f"{chosen.name} does not fit the column {name}, which is {column.sql_type}", "type", fitting)
    checked = {_parameter(option): value for option, value in _check(chosen, options).items()}
    make = partial(_make, name=name, dialect=dialect, is_masked=is_masked)
    given_kind = _given_kind(chosen, column)
    marks = {"decimal": decimal, **checked} if given_kind in _NUMBERS else checked
    if given_kind is column.kind or (type is None and not checked):
        return make(column, marks)
    free = Column(name=column.name, kind=given_kind, sql_type="text", cast_type="text")
    if given_kind is Kind.BOOLEAN and column.kind in _NUMBERS:
        marks = {**marks, "dialect": "sqlite"}  # a number column holds 1 and 0, whatever the database
    if given_kind is Kind.BINARY and column.kind is Kind.TEXT:
        marks = {**marks, "dialect": "postgresql"}  # a text column holds digits, whatever the database
    first = make(free, marks)
    if given_kind is Kind.BINARY and dialect == "sqlite" and column.kind is Kind.OTHER:
        return first  # bytes are all that such a column asks for
    if chosen.kind is Kind.DATE and column.kind is Kind.TIMESTAMP:
        return Chain(first, _midnight)
    return Chain(first, make(column, {}))


def _check(chosen: ConverterType, given: Mapping[str, Any]) -> dict[str, Any]:
    unknown = [option for option in given if option not in chosen.options]
    if unknown:
        raise OptionInvalid(f"{chosen.name} has no option '{unknown[0]}'", unknown[0], tuple(chosen.options))
    checked = {}
    for option, value in given.items():
        try:
            checked[option] = chosen.options[option](value)
        except OptionInvalid as invalid:
            raise OptionInvalid(invalid.message, option, invalid.allowed) from None
    options.check_together(checked)
    return checked


def _parameter(option: str) -> str:
    return "max_length" if option == "maxLength" else option


def _given_kind(chosen: ConverterType, column: Column) -> Kind:
    """Return the kind that the chosen type gives for this column: DateTime keeps a zone where the column does."""
    alike = {"DateTime": {Kind.TIMESTAMP_TZ}, "Time": {Kind.TIME_TZ}, "Number": {Kind.FLOAT}}
    if column.kind in alike.get(chosen.name, ()) or NATURAL[column.kind] == chosen.name:
        return column.kind if column.kind not in (Kind.ENUM, Kind.ARRAY) else Kind.TEXT
    return chosen.kind


def _make(column: Column, given: Mapping[str, Any], *, name: str, dialect: str, is_masked: bool) -> Converter:
    if column.kind is Kind.ARRAY:
        element = column.element or replace(column, kind=Kind.TEXT, element=None)
        inner = _make(element, {}, name=name, dialect=dialect, is_masked=is_masked)
        return Whole(name, *structures.array(column, inner), is_masked)
    if column.kind in _TELLS_DIALECTS_APART:
        given = {"dialect": dialect, **given}
    is_strict = (
        column.kind in _STRICT and not any(given.get(option) for option in ("format", "thousands")) and given.get("decimal", ".") == "."
    )
    return Whole(name, *_MAKERS[column.kind](column, **given), is_masked, is_strict)


def _midnight(column: Any) -> tuple[Any, dict[int, Any]]:
    return [None if value is None else f"{value} 00:00:00" for value in column], {}
