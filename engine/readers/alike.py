"""Records in JSON that are written alike, taken by one regular expression made from an example.

A program writes its records the same way each time: only the values differ. So an expression that holds all the rest as it stands reads the
next records in a fifth of the time that decoding and taking them apart needs. What it does not match is taken in the ordinary way: a value
with an escape, another order of members, an object that is whole only in the next block.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, NamedTuple

from engine.tables import fold

MAX_VALUES = 200  # of one record; larger expressions take long to make
WORTH_LEARNING = 50  # records of one layout, decoded one after another
MAX_LESSONS = 20  # in one file: making an expression takes as long as some hundred records
_TOKEN = re.compile(
    r'(?P<text>"(?:[^"\\]|\\.)*+")|(?P<number>-?[0-9][0-9.eE+-]*)|(?P<truth>true|false)|(?P<null>null)|(?P<mark>[{}\[\]:,])|[ \t\r\n]+'
)
_STRING = r'(?:"([^"\\\x00-\x1f]*+)"|null)'
_KINDS = {
    "text": _STRING,
    "null": _STRING,
    "number": r"(?:(-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?)|null)",
    "truth": "(?:(true|false)|null)",
}
_OF_A_CONVERTER = ("code", "value")
_COMMA = r"(?:[ \t\r\n]*+,[ \t\r\n]*+)?"  # before a record of an array

Row = tuple[str | None, ...]


class _Value(NamedTuple):
    """A value of the example: the names that lead to it, its kind, and where it stands."""

    path: tuple[str, ...]
    kind: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Alike:
    """How further records of a collection are written."""

    pattern: re.Pattern[str]  # with or without the comma before the record
    literals: Callable[[Sequence[str | None]], Sequence[str | None]]  # of a match's groups: those that are literals, that of the Id first
    user_id: int | None  # the group of the userObjectId; None where there is none
    group: int | None  # that of the groupOrder


class Lessons:
    """Says when it is worth while to learn how records are written: after so many of one layout that were decoded singly."""

    def __init__(self) -> None:
        self._left, self._repeats = MAX_LESSONS, 0

    def begin(self) -> None:
        """Begin another layout."""
        self._repeats = 0

    def is_due(self) -> bool:
        """Count a record that was decoded; tell whether to learn from it."""
        self._repeats += 1
        if self._repeats < WORTH_LEARNING or not self._left:
            return False
        self._left, self._repeats = self._left - 1, 0
        return True


def alike(example: str, literals: Sequence[str | None]) -> Alike | None:
    """Make the expression from a record and its literals as text; None where it would not read them from the record itself."""
    values = [value for value in _values(example) if _is_data(value.path)]
    if len(values) > MAX_VALUES:
        return None
    names = [fold(value.path[0]) for value in values]
    places = {name: names.index(name) if name in names else None for name in ("userobjectid", "grouporder")}
    order = [n for n, name in enumerate(names) if name == "id"] + [n for n, name in enumerate(names) if name == "properties"]
    made = Alike(re.compile(_COMMA + _written(example, values)), _chooser(order), places["userobjectid"], places["grouporder"])
    match = made.pattern.fullmatch(example)
    return made if match is not None and list(made.literals(match.groups())) == list(literals) else None


def flat(example: str, texts: Sequence[str | None]) -> re.Pattern[str] | None:
    """Make the expression from an object whose values, as text, are these; its groups are the values of further ones.

    None where it would not read them from the object itself, as where one is an array or an object.
    """
    values = list(_values(example))
    if len(values) > MAX_VALUES:
        return None
    pattern = re.compile(f"{_COMMA}{_written(example, values)}")
    match = pattern.fullmatch(example)
    return pattern if match is not None and list(match.groups()) == list(texts) else None


def rows_alike(
    pattern: re.Pattern[str], text: str, at: int, most: int, room: int, longest: int, is_sound: Callable[[Row], bool] = lambda row: True
) -> tuple[list[Row], int]:
    """Return the values of records that are written alike, from `at` on, and where the last one ends; what is not sound is left.

    At most so many, no more once they have `room` characters, none of more than `longest` characters.
    """
    rows: list[Row] = []
    match, begun = pattern.match, at
    while len(rows) < most and at - begun < room and (found := match(text, at)) is not None:
        row, end = found.groups(), found.end()
        if end - at > longest or (rows and text[at] == "{") or not is_sound(row):
            break
        rows.append(row)
        at = end
    return rows, at


def _written(example: str, values: Sequence[_Value]) -> str:
    parts, end = [""], 0
    for value in values:
        parts += [re.escape(example[end : value.start]), _KINDS[value.kind]]
        end = value.end
    return "".join([*parts, re.escape(example[end:])])


def _chooser(order: Sequence[int]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    if len(order) > 1:
        return itemgetter(*order)
    return lambda groups: tuple(groups[n] for n in order)


def _values(example: str) -> Iterator[_Value]:
    """Yield the values that are neither objects nor in an array, in order."""
    path: list[str] = []
    name: str | None = None
    arrays = 0
    for token in _TOKEN.finditer(example):
        kind, mark = token.lastgroup, token["mark"]
        if mark == "{":
            path.append(name or "")
            name = None
        elif mark == "}":
            path.pop()
        elif mark in ("[", "]"):
            arrays += 1 if mark == "[" else -1
        elif mark == "," and not arrays:
            name = None
        elif kind == "text" and name is None:
            name = json.loads(token["text"])
        elif kind in _KINDS and name is not None and not arrays:
            yield _Value((*path[1:], name), kind, token.start(), token.end())


def _is_data(path: tuple[str, ...]) -> bool:
    """Tell whether a value is one that differs from record to record, by the names that lead to it."""
    first, rest = fold(path[0]), path[1:]
    if first in ("userobjectid", "grouporder"):
        return not rest
    if first == "properties":
        rest = rest[1:]
    elif first != "id":
        return False
    return not rest or (len(rest) == 1 and rest[0] in _OF_A_CONVERTER) or (len(rest) == 2 and rest[0] == "properties")
