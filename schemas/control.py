"""The shape of a control file: which keys it may have, and what kind of value each takes.

What its names mean (tables, columns, converters) is not judged here but where it is compiled, against the target.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from marshmallow import ValidationError, validates_schema

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
READ_WORDS = ("csv", "tsv", "jsonl", "json", "xlsx", "collection")
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
    Of one that `examine` found faults in, the data is what can be judged further: without what is at fault, with fill-ins where
    something must be.
    """

    data: Mapping[str, Any]
    lines: Lines
    problems: tuple[Problem, ...] = ()
    faulty: frozenset[tuple[str | int, ...]] = frozenset()  # where the shape is wrong: see _unit

    def line_of(self, path: Path) -> int:
        """Return the 1-based line of what stands at the path, or of the nearest thing around it."""
        return self.lines.of(path)

    @property
    def masks(self) -> bool:
        """Tell whether something in it is `masked: true`."""
        return _masks(self.data)

    def problem(self, path: Path, message: str, allowed: Sequence[str] = ()) -> Problem:
        """Return a problem with what stands at the path."""
        return Problem(message, path_text(path), self.line_of(path), tuple(allowed))


def _masks(part: Any) -> bool:
    if isinstance(part, Mapping):
        return any((key == "masked" and value) or _masks(value) for key, value in part.items())
    return isinstance(part, list | tuple) and any(map(_masks, part))


def parse(data: bytes, max_bytes: int = MAX_BYTES) -> Document:
    """Read a control file and check its shape. Raises ControlFileInvalid with all its faults."""
    document = examine(data, max_bytes)
    if document.problems:
        raise ControlFileInvalid(document.problems)
    return document


def examine(data: bytes, max_bytes: int = MAX_BYTES) -> Document:
    """Do the same, but return the faults with the rest, which can be judged further; ControlFileInvalid where that is of no use."""
    if len(data) > max_bytes:
        raise ControlFileInvalid([Problem(f"a control file has at most {max_bytes} bytes, this one has {len(data)}")])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ControlFileInvalid([Problem(f"not UTF-8: byte 0x{data[error.start]:02X} at offset {error.start}", line=line)]) from error
    value, lines, problems = load(text)
    try:
        return Document(ControlFileShape().load(value), lines, tuple(problems))
    except ValidationError as error:
        wrong = list(_wrong(error.messages, ()))
    problems += [Problem(str(m), path_text(path), lines.of(path), getattr(m, "allowed", ())) for path, m in wrong]
    faulty = frozenset(_unit(path) for path, _ in wrong)
    if not faulty.isdisjoint({(), ("entities",)}) or not value.get("entities") or len(problems) > ControlFileInvalid.MOST:
        raise ControlFileInvalid(problems)
    return Document(ControlFileShape().load(_rest(value, faulty)), lines, tuple(problems), faulty)


def _wrong(messages: Any, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Flatten marshmallow's nested messages into pairs of path and message."""
    if isinstance(messages, dict):
        for step, below in messages.items():
            yield from _wrong(below, path if step == "_schema" else (*path, step))
    else:
        yield from ((path, message) for message in (messages if isinstance(messages, list) else [messages]))


def _unit(path: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Return the path of the smallest part of which nothing is known where something at this path is wrong.

    That is a mapping or a key of a file or entity; the whole file or entity where the key is none of theirs, as it may be any of them.
    """
    if path[:1] not in (("files",), ("entities",)):
        return path[:1]
    if path[2:3] == ("mappings",):
        return path[:4]
    shape = FileShape if path[0] == "files" else EntityShape
    return path[:3] if len(path) > 2 and path[2] in shape._declared_fields else path[:2]


_FILL_INS: dict[str, Any] = {"entity": "x", "input": ["x"], "mappings": [{"x": None}]}  # of an entity, for what it must have


def _rest(value: Mapping[str, Any], faulty: Set[tuple[str | int, ...]]) -> dict[str, Any]:
    """Return a document without what is at fault; nothing changes its place."""
    rest = _kept(value, (), faulty)
    if rest.get("files"):
        rest["files"] = {
            name: options and _kept(options, ("files", name), faulty)
            for name, options in rest["files"].items()
            if ("files", name) not in faulty
        } or None
    rest["entities"] = [_entity_rest(item, ("entities", index), faulty) for index, item in enumerate(rest["entities"])]
    return rest


def _kept(options: Mapping[str, Any], path: tuple[str | int, ...], faulty: Set[tuple[str | int, ...]]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if (*path, key) not in faulty}


def _entity_rest(item: Any, path: tuple[str | int, ...], faulty: Set[tuple[str | int, ...]]) -> dict[str, Any]:
    rest = _FILL_INS | (_kept(item, path, faulty) if path not in faulty else {})
    [fill_in] = _FILL_INS["mappings"]
    mappings = enumerate(rest["mappings"])
    return rest | {"mappings": [fill_in if (*path, "mappings", index) in faulty else mapping for index, mapping in mappings]}


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
    entities = ListOf(Shaped(EntityShape, is_needed=True))

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def need_entities(self, data: Any, original: Any, **kwargs: Any) -> None:
        """Refuse a document without entities, unless all its files are collections, whose records name the target's own tables."""
        if not isinstance(original, dict) or original.get("entities") is not None:
            return
        files = data.get("files") or {}
        if not files or any((file or {}).get("read") != "collection" for file in files.values()):
            raise ValidationError({"entities": [said("needs a value" if "entities" in original else "is missing")]})

    def load(self, data: Any, **kwargs: Any) -> Any:
        """Check the document; one without entities has none."""
        return {"entities": [], **super().load(data, **kwargs)}
