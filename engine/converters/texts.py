"""Text, UUIDs, enumerations and bytes."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Any

import re2

from engine import faults
from engine.converters.column import Fast, Invalid, Odd, One, check_all, column_pattern
from engine.converters.numbers import NUMERIC_AFFINITIES, check_keeps_text
from engine.tables import Column

_UUID = re.compile(r"\{?([0-9a-f]{8})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{12})\}?")
_CANONICAL_UUIDS = column_pattern("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def text(column: Column, *, max_length: int | None = None, pattern: str | None = None) -> tuple[Fast, One]:
    """Text as it stands: storable, not too long (in characters), and matching the pattern as a whole, if there is one.

    Blanks at its end are left out where they do not count.
    """
    lengths = [length for length in (column.max_length, max_length) if length is not None]
    longest = min(lengths) if lengths else None
    matches = re2.compile(pattern).fullmatch if pattern else None
    is_numeric = column.affinity in NUMERIC_AFFINITIES

    def one(value: str) -> str:
        check_storable(value)
        if longest is not None and len(value) > longest:
            raise Invalid(faults.TOO_LONG, length=len(value), expected=longest)
        if matches and not matches(value):
            raise Invalid(faults.PATTERN_MISMATCH, expected=pattern)
        check_keeps_text(value, column)
        return value.rstrip(" ") if column.is_padded else value

    def fast(values: Sequence[str]) -> Sequence[str]:
        joined = "".join(values)
        if "\0" in joined or (not joined.isascii() and not joined.encode()):
            raise ValueError
        if is_numeric or (matches and not all(map(matches, values))):
            return list(map(one, values))
        bare = [value.rstrip(" ") for value in values] if column.is_padded and " " in joined else values
        if longest is not None and max(map(len, values)) > longest:
            raise Odd([row for row, value in enumerate(values) if len(value) > longest], bare)
        return bare

    return fast, one


def check_storable(value: str) -> None:
    """Raise Invalid where a text holds what no database keeps as text."""
    if "\0" in value:
        raise Invalid(faults.INVALID_TEXT, reason=f"NUL at character {value.index(chr(0)) + 1}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise Invalid(faults.INVALID_TEXT, reason=f"a lone surrogate at character {error.start + 1}") from None


def uuid(column: Column) -> tuple[Fast, One]:
    """UUIDs in their canonical form: lower case, hyphens, no braces."""

    def one(value: str) -> str:
        match = _UUID.fullmatch(value.lower())
        if not match or (value[0] == "{") != (value[-1] == "}"):
            raise Invalid(faults.INVALID_UUID, expected="32 hexadecimal digits, as 123e4567-e89b-12d3-a456-426614174000")
        return "-".join(match.groups())

    def fast(values: Sequence[str]) -> Sequence[str]:
        check_all(_CANONICAL_UUIDS, values)
        return values

    return fast, one


def enum(column: Column) -> tuple[Fast, One]:
    """The labels of an enumerated type, exactly as they are spelt there."""
    labels = frozenset(column.labels)
    allowed = ", ".join(column.labels)

    def one(value: str) -> str:
        if value not in labels:
            raise Invalid(faults.NOT_IN_ENUM, expected=allowed)
        return value

    def fast(values: Sequence[str]) -> Sequence[str]:
        if labels.issuperset(values):
            return values
        raise ValueError

    return fast, one


def binary(column: Column, *, format: str = "hex", dialect: str = "postgresql") -> tuple[Fast, One]:
    r"""Bytes from hexadecimal digits (`\x` before them is allowed) or base64: bytes for SQLite, `\x...` for PostgreSQL."""
    expected = "hexadecimal digits, two for each byte" if format == "hex" else "base64"

    def decode(value: str) -> bytes:
        try:
            if format == "base64":
                return base64.b64decode("".join(value.split()), validate=True)
            digits = value[2:] if value[:2] in ("\\x", "0x") else value
            return binascii.unhexlify(digits)
        except (ValueError, binascii.Error):
            raise Invalid(faults.INVALID_BINARY, expected=expected) from None

    def one(value: str) -> Any:
        data = decode(value)
        if column.max_length is not None and dialect == "sqlite" and len(data) > column.max_length:
            raise Invalid(faults.TOO_LONG, length=len(data), expected=column.max_length)
        return data if dialect == "sqlite" else "\\x" + data.hex()

    return lambda values: list(map(one, values)), one
