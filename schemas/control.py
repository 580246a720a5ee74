"""The shape of a control file: which keys it may have, and what kind of value each takes.

What its names mean (tables, columns, converters) is not judged here but where it is compiled, against the target.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from marshmallow import ValidationError

from errors import ControlFileInvalid, Problem
from schemas.strict_fields import (
    MAX_NAME,
    Count,
    ListOf,
    MapOf,
    Name,
    Number,
    Shape,
    Shaped,
    Strict,
    Text,
    Truth,
    all_or_raise,
    check_name,
    fault_of,
    said,
    shown,
)
from schemas.strict_yaml import Lines, load

MAX_BYTES = 1024 * 1024

ACTIONS = ("Insert", "Update", "Delete", "Merge")
EMPTY_WORDS = ("keep", "clear", "error", "default", "empty-string")
MISSING_WORDS = ("error", "clear", "skip")
READ_WORDS = ("csv", "tsv", "jsonl", "json", "xlsx")
FILTERS = ("trim", "upper", "lower", "collapse", "digits", "null-if-zero")

_CONTROL_FILE_NAME = re.compile(r"[^\s/,!#](?:[^/,\x00-\x1f\x7f]{0,98}[^\s/,])?")
_PLAIN_STEP = re.compile(r"[\w-]+")
_DIGEST = re.compile(r"[0-9a-f]{64}")

# Paths -------------------------------------------------------------------------------------------------------------------
Path = Sequence[str | int]


def path_text(path: Path) -> str:
    """Write a path as messages show it.

    >>> path_text(["entities", 0, "mappings", 2, "converter", "type"])
    'entities[0].mappings[2].converter.type'
    >>> path_text(["files", "flights.csv", "header"])
    'files["flights.csv"].header'
    """
    return "".join(map(_step_text, path)).removeprefix(".")


def _step_text(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    return f".{step}" if _PLAIN_STEP.fullmatch(step) else f'["{step[:80]}"]'


@dataclass(frozen=True, slots=True)
class Document:
    """A control file whose shape is right: plain data under the very keys of the control file, absent where it is silent.

    Text is str (also where it stood unquoted, as `012`), truth values bool, `order` float, `maxLength` and `sheet`'s number int.
    """

    data: Mapping[str, Any]
    lines: Lines

    def line_of(self, path: Path) -> int:
        """Return the 1-based line of what stands at the path, or of the nearest thing around it."""
        return self.lines.of(path)

    def problem(self, path: Path, message: str, allowed: Sequence[str] = ()) -> Problem:
        """Return a problem with what stands at the path."""
        return Problem(message, path_text(path), self.line_of(path), tuple(allowed))


def parse(data: bytes, max_bytes: int = MAX_BYTES) -> Document:
    """Read a control file and check its shape. Raises ControlFileInvalid with all its faults."""
    if len(data) > max_bytes:
        raise ControlFileInvalid([Problem(f"a control file has at most {max_bytes} bytes, this one has {len(data)}")])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ControlFileInvalid([Problem(f"not UTF-8: byte 0x{data[error.start]:02X} at offset {error.start}", line=line)]) from error
    value, lines, problems = load(text)
    try:
        shaped = ControlFileShape().load(value)
    except ValidationError as error:
        shape_problems = _problems(error.messages, [], lines)
        raise ControlFileInvalid([*problems, *shape_problems]) from None
    if problems:
        raise ControlFileInvalid(problems)
    return Document(shaped, lines)


def _problems(messages: Any, path: list[str | int], lines: Lines) -> list[Problem]:
    """Flatten marshmallow's nested messages into problems with path and line."""
    if isinstance(messages, dict):
        return [p for step, below in messages.items() for p in _problems(below, path if step == "_schema" else [*path, step], lines)]
    texts = messages if isinstance(messages, list) else [messages]
    return [Problem(str(m), path_text(path), lines.of(path), getattr(m, "allowed", ())) for m in texts]


# The document's shape ------------------------------------------------------------------------------------------
class ControlFileName(Text):
    """What a control file may be called: see control_file_name_is_good."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        if not control_file_name_is_good(text):
            raise ValidationError(said(CONTROL_FILE_NAME_RULE))
        return text


CONTROL_FILE_NAME_RULE = (
    "a control file's name has 1 to 100 characters, no comma, slash or control character, no space at its ends, "
    "does not begin with ! or #, and is no digest"
)


def control_file_name_is_good(name: str) -> bool:
    """Say whether a control file may have this name: it must fit into a URL's path and a `!Name` line, and not look like a digest."""
    return _CONTROL_FILE_NAME.fullmatch(name) is not None and _DIGEST.fullmatch(name) is None


class MappingEntry(Strict):
    """One mapping: a map of one key, the target, to nothing or its options."""

    def __init__(self) -> None:
        super().__init__(is_needed=True)
        self.shape = MappingShape()

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> dict[str, Any]:
        if isinstance(value, str):
            raise ValidationError(said(f"a mapping needs a colon: write `{value[:80]}:`"))
        if not isinstance(value, dict):
            raise ValidationError(said(f"must be a map of one column to its options, not {shown(value)}"))
        if len(value) != 1:
            raise ValidationError(said(f"a mapping names one column, not {len(value)}; begin each with `- `, and indent its options"))
        [(target, options)] = value.items()
        all_or_raise({target: fault_of(check_name, target)})
        if isinstance(options, str):
            raise ValidationError({target: [said(f"options are a map: to read another input write `{{input: {options[:80]}}}`")]})
        try:
            return {target: {} if options is None else self.shape.load(options)}
        except ValidationError as error:
            raise ValidationError({target: error.messages}) from None


class FileShape(Shape):
    """How one file is read."""

    read = Text(words=READ_WORDS)
    separator = Text()
    quote = Text()
    encoding = Text(longest=40, shortest=1)
    header = Truth()
    sheet = Text(longest=MAX_NAME, shortest=1)
    nulls = ListOf(Text(is_needed=True))
    decimal = Text(words=(".", ","))
    trim = Truth()
    entity = Name()
    action = Text(words=ACTIONS)
    order = Number()
    required = Truth()
    min_rows = Count(least=0)
    empty = Text(words=EMPTY_WORDS)


class ConverterShape(Shape):
    """How text becomes a value; which options go together is the converter's to say."""

    type = Text(longest=MAX_NAME, shortest=1)
    input = Name()
    column = Name()
    properties = MapOf(Name(is_needed=True))
    missing = Text(words=MISSING_WORDS)
    format = Text(longest=MAX_NAME, shortest=1)
    decimal = Text(words=(".", ","))
    thousands = Text(longest=1, shortest=1)
    timezone = Text(longest=MAX_NAME, shortest=1)
    maxLength = Count()
    pattern = Text(longest=10_000, shortest=1)
    value = Text()
    true = ListOf(Text(is_needed=True), or_one=True)
    false = ListOf(Text(is_needed=True), or_one=True)


class MappingShape(Shape):
    """What fills one column of the target."""

    input = Name()
    fallbackInput = Name()
    converter = Shaped(ConverterShape)
    constant = Text()
    default = Text()
    map = MapOf(Text(), are_names=False)
    mapDefault = Text()
    filters = ListOf(Text(is_needed=True, words=FILTERS))
    required = Truth()
    empty = Text(words=EMPTY_WORDS)
    masked = Truth()

    keeps_null = frozenset({"mapDefault"})


class EntityShape(Shape):
    """One kind of record."""

    entity = Name(is_needed=True)
    alias = Name()
    table = Name()
    input = ListOf(Name(is_needed=True), is_needed=True)
    mappings = ListOf(MappingEntry(), is_needed=True)


class ControlFileShape(Shape):
    """The whole document."""

    name = ControlFileName()
    description = Text(longest=10_000)
    files = MapOf(Shaped(FileShape))
    entities = ListOf(Shaped(EntityShape, is_needed=True), is_needed=True)
