"""JSON and arrays: text with an inner structure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from engine import faults
from engine.converters.column import Fast, Invalid, One
from engine.converters.numbers import check_keeps_text
from engine.converters.texts import check_storable
from engine.plan import Converter
from engine.tables import Column

_DEEPEST = 200  # levels of JSON or of an array; the databases' own limits are far beyond


class DuplicateKey(ValueError):
    """An object names one key twice."""


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise DuplicateKey(next(name for name in names if names.count(name) > 1))
    return found


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is no JSON number")


# Numbers stay text: a whole number of 10,000 digits is valid JSON, but int() refuses it.
_decoder = json.JSONDecoder(object_pairs_hook=_unique_pairs, parse_constant=_no_constant, parse_int=str, parse_float=str)


def json_text(column: Column) -> tuple[Fast, One]:
    """JSON text, kept byte for byte, of one value without duplicate keys."""

    def one(value: str) -> str:
        check_storable(value)
        check_keeps_text(value, column)
        try:
            _decoder.decode(value)
        except DuplicateKey as error:
            raise Invalid(faults.INVALID_JSON, reason=f"the key '{error}' stands twice in one object") from None
        except (ValueError, RecursionError) as error:
            reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise Invalid(faults.INVALID_JSON, reason=reason) from None
        return value

    def fast(values: Sequence[str]) -> Sequence[str]:
        for value in map(one, values):
            del value
        return values

    return fast, one


# Arrays -----------------------------------------------------------------------------------------------------------------
def array(column: Column, convert_element: Converter) -> tuple[Fast, One]:
    """PostgreSQL array literals, made from such literals or from JSON arrays; every element is converted as the column's type asks."""

    def one(value: str) -> str:
        try:
            items = _from_json(value) if value.lstrip()[:1] == "[" else parse_literal(value)
        except Invalid:
            raise
        except (ValueError, RecursionError) as error:
            raise _not_a_list(str(error)) from None
        flat: list[str | None] = []
        _flatten(items, flat)
        converted, wrong = convert_element(flat)
        if wrong:
            raise _not_a_list(next(iter(wrong.values())).message)
        return _render(items, iter(converted))

    return lambda values: list(map(one, values)), one


def _not_a_list(reason: str) -> Invalid:
    return Invalid(faults.INVALID_ARRAY, expected='{a,b} or ["a","b"]', reason=reason)


def _from_json(value: str) -> list[Any]:
    items = _decoder.decode(value)

    def as_text(item: Any) -> Any:
        if isinstance(item, list):
            return [as_text(inner) for inner in item]
        if isinstance(item, dict):
            raise ValueError("an element is an object")
        if isinstance(item, bool):
            return "true" if item else "false"
        return item

    return [as_text(item) for item in items]


def _flatten(items: list[Any], flat: list[str | None]) -> None:
    for item in items:
        if isinstance(item, list):
            _flatten(item, flat)
        else:
            flat.append(item)


def _render(items: list[Any], values: Any) -> str:
    parts = []
    for item in items:
        if isinstance(item, list):
            parts.append(_render(item, values))
            continue
        value = next(values)
        parts.append("NULL" if value is None else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"')
    return "{" + ",".join(parts) + "}"


def parse_literal(text: str) -> list[Any]:
    r"""Parse a PostgreSQL array literal into nested lists of texts, None for NULL; ValueError says what is wrong.

    >>> parse_literal('{a,"b, \\"c\\"",NULL,{1,2}}')
    ['a', 'b, "c"', None, ['1', '2']]
    """
    text = text.strip()
    items, end = _parse_braces(text, 0, 0)
    if end != len(text):
        raise ValueError(f"something follows the closing brace at character {end + 1}")
    return items


def _parse_braces(text: str, at: int, depth: int) -> tuple[list[Any], int]:
    if text[at : at + 1] != "{":
        raise ValueError("it does not begin with a brace")
    if depth > _DEEPEST:
        raise ValueError("it is nested too deeply")
    items: list[Any] = []
    at = _skip_spaces(text, at + 1)
    if text[at : at + 1] == "}":
        return items, at + 1
    while True:
        item, at = _parse_braces(text, at, depth + 1) if text[at : at + 1] == "{" else _parse_item(text, at)
        items.append(item)
        at = _skip_spaces(text, at)
        mark = text[at : at + 1]
        if mark not in (",", "}") or not mark:
            raise ValueError(f"a comma or closing brace is missing at character {at + 1}")
        at = _skip_spaces(text, at + 1) if mark == "," else at + 1
        if mark == "}":
            return items, at


def _skip_spaces(text: str, at: int) -> int:
    while text[at : at + 1] in (" ", "\t", "\n", "\r") and at < len(text):
        at += 1
    return at


def _parse_item(text: str, at: int) -> tuple[str | None, int]:
    is_quoted = text[at : at + 1] == '"'
    at += is_quoted
    letters: list[str] = []
    while True:
        letter = text[at : at + 1]
        if not letter:
            raise ValueError("it ends before its closing brace")
        if letter == "\\":
            letters.append(text[at + 1 : at + 2])
            at += 2
            continue
        if is_quoted and letter == '"':
            return "".join(letters), at + 1
        if not is_quoted and letter in ',{}"':
            break
        letters.append(letter)
        at += 1
    item = "".join(letters).strip()
    if not item:
        raise ValueError(f"an element is missing at character {at + 1}")
    return (None if item.upper() == "NULL" else item), at
