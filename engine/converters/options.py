"""The options of converters: what a control file may say, checked when it is compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import re2

from engine.converters import times

Checker = Callable[[Any], Any]  # returns the value as the converter wants it, or raises OptionInvalid
_SAMPLE = datetime(2003, 11, 25, 17, 38, 49)
_LONGEST_PATTERN = 1_000


class OptionInvalid(ValueError):
    """A converter's option is wrong: `message` says how, `option` which one, `allowed` what would be right."""

    def __init__(self, message: str, option: str = "", allowed: tuple[str, ...] = ()) -> None:
        self.message, self.option, self.allowed = message, option, allowed
        super().__init__(message)


def _one_of(*allowed: str, what: str) -> Checker:
    def check(value: Any) -> str:
        if value not in allowed:
            raise OptionInvalid(f"'{value}' is no {what}", allowed=allowed)
        return str(value)

    return check


decimal = _one_of(".", ",", what="decimal mark")
thousands = _one_of(",", ".", " ", "'", "_", "\u00a0", "\u202f", "\u2019", what="thousands mark")
binary_format = _one_of("hex", "base64", what="format of bytes")


def words(value: Any) -> tuple[str, ...]:
    """Check the words for true or for false: one, or a list of them."""
    listed = value if isinstance(value, list | tuple) else [value]
    texts = tuple(str(word).lower() if isinstance(word, bool) else str(word).strip() for word in listed)
    if not texts or not all(texts) or any(isinstance(word, dict | list | float) or word is None for word in listed):
        raise OptionInvalid("the words are a text or a list of texts, none of them empty")
    return texts


def length(value: Any) -> int:
    """Check a number of characters."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise OptionInvalid(f"'{value}' is no number of characters", allowed=("1 or more",))
    return value


_SILENT = re2.Options()
_SILENT.log_errors = False  # what is wrong with a pattern is for its author, not for our log


def pattern(value: Any) -> str:
    """Check a regular expression of the linear-time engine (no look-around, no back-references)."""
    if not isinstance(value, str) or len(value) > _LONGEST_PATTERN:
        raise OptionInvalid(f"a pattern is a text of at most {_LONGEST_PATTERN} characters")
    try:
        re2.compile(value, _SILENT)
    except re2.error as error:
        reason = error.args[0].decode(errors="replace") if error.args and isinstance(error.args[0], bytes) else str(error)
        raise OptionInvalid(f"the pattern is not valid (RE2 syntax): {reason}") from None
    return value


def timezone(value: Any) -> str:
    """Check a time zone: an IANA name or an offset."""
    try:
        times.zone(str(value))
    except ValueError:
        raise OptionInvalid(f"'{value}' is no time zone", allowed=("UTC", "Europe/Berlin", "+02:00")) from None
    return str(value)


def fixed_timezone(value: Any) -> str:
    """Check a time zone whose offset is the same all year, since a time of day alone does not say the season."""
    name = timezone(value)
    if times.zone(name).utcoffset(None) is None:
        raise OptionInvalid(f"the offset of '{value}' depends on the day", allowed=("UTC", "+02:00"))
    return name


def _format(*parts: str) -> Checker:
    def check(value: Any) -> str | None:
        if value == "iso":
            return None
        try:
            read = datetime.strptime(_SAMPLE.strftime(str(value)), str(value))
        except ValueError as error:
            raise OptionInvalid(f"'{value}' is no format: {error}", allowed=("iso", "%d/%m/%Y")) from None
        missing = [part for part in parts if getattr(read, part) != getattr(_SAMPLE, part)]
        if missing:
            raise OptionInvalid(f"the format '{value}' does not tell the {' and the '.join(missing)}", allowed=("iso", "%d/%m/%Y"))
        return str(value)

    return check


date_format = _format("year", "month", "day")
datetime_format = _format("year", "month", "day", "hour")
time_format = _format("hour")


def check_together(options: Mapping[str, Any]) -> None:
    """Check what no option can tell alone."""
    if "thousands" in options and options["thousands"] == options.get("decimal"):
        raise OptionInvalid("the thousands mark and the decimal mark are the same", "thousands")
    both = {w.lower() for w in options.get("true", ())} & {w.lower() for w in options.get("false", ())}
    if both:
        raise OptionInvalid(f"'{min(both)}' would be both true and false", "false")
    if ("true" in options) != ("false" in options):
        raise OptionInvalid("name the words for true and for false, or neither", "true" if "false" in options else "false")
