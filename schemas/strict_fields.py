"""marshmallow fields for documents that people write: nothing is guessed or converted silently, and every fault names what is allowed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from marshmallow import EXCLUDE, Schema, ValidationError, fields, validates_schema

from errors import nearest
from schemas.strict_yaml import Plain

MAX_NAME = 255  # characters of any name: of a file, an entity, a column, an input

_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?", re.ASCII)
_TRUTH = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")


class Said(str):
    """A message that carries the values that would have been right."""

    allowed: tuple[str, ...] = ()


def said(message: str, allowed: Sequence[str] = ()) -> Said:
    message = Said(message)
    message.allowed = tuple(allowed)
    return message


def shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a map"
    if isinstance(value, list):
        return "a list"
    return f"'{value[:77]}...'" if len(value) > 80 else f"'{value}'"


class Strict(fields.Field):
    """A field with our own words; nothing at all (`key:`) is as if the key were absent, unless it `is_needed`."""

    def __init__(self, is_needed: bool = False) -> None:
        super().__init__(
            required=is_needed,
            allow_none=not is_needed,
            error_messages={"required": "is missing", "null": "needs a value"},
        )


class Text(Strict):
    """Text; an unquoted scalar is taken as it stands, so that `no`, `012` and 12:30:00 keep their characters."""

    def __init__(self, is_needed: bool = False, longest: int | None = None, shortest: int = 0, words: Sequence[str] = ()) -> None:
        super().__init__(is_needed)
        self.longest, self.shortest, self.words = longest, shortest, words

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if not isinstance(value, str):
            raise ValidationError(said(f"must be text, not {shown(value)}"))
        if self.words and value not in self.words:
            raise ValidationError(said(f"{shown(value)} is not allowed here", nearest(value, self.words)))
        if self.longest is not None and not self.shortest <= len(value) <= self.longest:
            bounds = "1 character" if self.longest == 1 else f"{self.shortest} to {self.longest} characters"
            raise ValidationError(said(f"must have {bounds}, not {len(value)}"))
        return str(value)


class Name(Text):
    """The name of something: 1 to 255 characters, none of them a control character."""

    def __init__(self, is_needed: bool = False) -> None:
        super().__init__(is_needed, MAX_NAME, 1)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        check_name(text)
        return text


def check_name(name: str) -> None:
    """Raise ValidationError where a key of the document cannot be a name."""
    if not 1 <= len(name) <= MAX_NAME:
        raise ValidationError(said(f"a name has 1 to {MAX_NAME} characters, not {len(name)}"))
    if _CONTROLS.search(name):
        raise ValidationError(said("a name has no control characters"))


class Truth(Strict):
    """`true` or `false`, unquoted; `yes`, `no`, `on` and `off` are text in YAML 1.2."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if isinstance(value, Plain) and value in _TRUTH:
            return _TRUTH[value]
        raise ValidationError(said(f"must be true or false, without quotes, not {shown(value)}", ("true", "false")))


class Number(Strict):
    """A number, unquoted."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> float:
        if isinstance(value, Plain) and len(value) <= 30 and _NUMBER.fullmatch(value) and abs(float(value)) <= 1e15:
            return float(value)
        raise ValidationError(said(f"must be a number, without quotes, not {shown(value)}"))


class Count(Strict):
    """A whole number from `least` (0 or 1) on, unquoted."""

    def __init__(self, least: int = 1) -> None:
        super().__init__()
        self.least = least

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if isinstance(value, Plain) and re.fullmatch(r"0|[1-9]\d{0,9}", value, re.ASCII) and int(value) >= self.least:
            return int(value)
        raise ValidationError(said(f"must be a whole number from {self.least} on, without quotes, not {shown(value)}"))


class ListOf(Strict):
    """A list of one item or more, each checked by the same field."""

    def __init__(self, item: fields.Field, is_needed: bool = False, or_one: bool = False) -> None:
        super().__init__(is_needed)
        self.item, self.or_one = item, or_one

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[Any]:
        if self.or_one and isinstance(value, str):
            value = [value]
        if not isinstance(value, list):
            raise ValidationError(said(f"must be a list, not {shown(value)}"))
        if not value:
            raise ValidationError(said("must not be empty"))
        return _each(self.item, enumerate(value))


class MapOf(Strict):
    """A map with names of the user's own, whose every value is checked by the same field."""

    def __init__(self, item: fields.Field, is_needed: bool = False, are_names: bool = True) -> None:
        super().__init__(is_needed)
        self.item, self.are_names = item, are_names

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValidationError(said(f"must be a map, not {shown(value)}"))
        if not value:
            raise ValidationError(said("must not be empty"))
        bad_names = {key: fault_of(check_name, key) for key in value} if self.are_names else {}
        return dict(zip(value, _each(self.item, value.items(), bad_names), strict=True))


def _each(item: fields.Field, entries: Any, known: Mapping[Any, Any] | None = None) -> list[Any]:
    """Check many values by one field; all their faults at once, by their place, with those known before."""
    out: list[Any] = []
    wrong: dict[Any, Any] = dict(known or {})
    for place, value in entries:
        if value is None and not item.allow_none:
            wrong[place] = [said("needs a value; the word null must stand in quotes" if isinstance(item, Text) else "needs a value")]
            continue
        try:
            out.append(None if value is None else item._deserialize(value, None, None))
        except ValidationError as error:
            wrong[place] = error.messages
    all_or_raise(wrong)
    return out


def fault_of(check: Any, value: Any) -> Any:
    try:
        check(value)
    except ValidationError as error:
        return error.messages
    return None


def all_or_raise(wrong: Mapping[Any, Any]) -> None:
    found = {place: messages for place, messages in wrong.items() if messages}
    if found:
        raise ValidationError(found)


class Shaped(Strict):
    """A map with the keys of a schema."""

    def __init__(self, shape: type[Schema], is_needed: bool = False) -> None:
        super().__init__(is_needed)
        self.shape = shape()

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> dict[str, Any]:
        return self.shape.load(value)


class Shape(Schema):
    """A map with fixed keys; any other key is a fault that names those."""

    error_messages = {"type": "must be a map of names to values"}  # noqa: RUF012  # marshmallow's own way

    class Meta:
        unknown = EXCLUDE  # marshmallow's own check does not say which keys are known

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def refuse_unknown_keys(self, data: Any, original: Any, **kwargs: Any) -> None:
        """Name the keys that the map may have where it has another one."""
        if isinstance(original, dict) and not original.keys() <= self.fields.keys():
            unknown = [key for key in original if key not in self.fields]
            raise ValidationError({key: [said("is no known key", nearest(key, self.fields))] for key in unknown})

    def load(self, data: Any, **kwargs: Any) -> Any:
        """Check the map and return it without the keys that have no value."""
        if not isinstance(data, dict):
            what = "nothing" if data is None else shown(data)
            raise ValidationError({"_schema": [said(f"must be a map of names to values, not {what}")]})
        return {key: value for key, value in super().load(data, **kwargs).items() if value is not None or key in self.keeps_null}

    keeps_null: frozenset[str] = frozenset()
