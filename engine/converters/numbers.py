"""Whole numbers, decimals, floats and truth values. Decimals never pass through a float."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from decimal import Decimal
from itertools import chain

from engine import faults
from engine.converters.column import Cached, Fast, Invalid, Odd, One, check_all, column_pattern, is_all, unlike
from engine.tables import Column

_INTEGER = re.compile(r"[+-]?[0-9]{1,40}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,5})?")
_REAL_LIMIT, _REAL_LEAST = 3.4028235677973366e38, 7.006492321624085e-46  # beyond these a 4-byte float is infinite or 0
_DIGITS_OF_A_DOUBLE = 15  # that survive text → double → text
_LARGEST_EXPONENT = 16_383  # of PostgreSQL's numeric without precision
# As SQLite sees it, whose white space is that of ASCII.
_NUMERIC_TEXT = re.compile(r"[ \t\n\v\f\r]*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[ \t\n\v\f\r]*")
NUMERIC_AFFINITIES = ("INTEGER", "NUMERIC", "REAL")  # of SQLite's columns: those that turn a text that looks like a number into one
TRUE_WORDS = ("true", "t", "yes", "y", "1")
FALSE_WORDS = ("false", "f", "no", "n", "0")


def reads_back(value: Decimal, kept: str) -> bool:
    """Tell whether a SQLite column of this affinity gives a number back unchanged."""
    if kept not in NUMERIC_AFFINITIES:
        return True
    if kept != "REAL" and value == value.to_integral_value() and -(2**63) <= value < 2**63:
        return True
    number = float(value)
    return math.isfinite(number) and Decimal(repr(number)) == value


def check_keeps_text(value: str, column: Column) -> None:
    """Raise Invalid where a SQLite column turns a text into a number that is written otherwise (`007` would come back as 7)."""
    if column.affinity not in NUMERIC_AFFINITIES or not _NUMERIC_TEXT.fullmatch(value):
        return
    # Longer ones are no 64-bit numbers, and int() refuses very long ones.
    is_whole = value.lstrip("+-").isdigit() and len(value) <= 20 and abs(int(value)) < 2**63 and column.affinity != "REAL"
    is_rewritten = column.affinity != "REAL" and float(value).is_integer()  # 7.0 becomes 7
    # The sign of a negative zero is lost on the way: adding 0.0 drops it here too.
    if value != (str(int(value)) if is_whole else "" if is_rewritten else repr(float(value) + 0.0)):
        raise Invalid(faults.INEXACT, expected=f"text that {column.sql_type} does not keep as another number")


# Marks: thousands and decimal -------------------------------------------------------------------------------------------
def unmark(decimal: str, thousands: str) -> One | None:
    """Return what turns a number with these marks into one with a point and no thousands marks; None: nothing to do."""
    if decimal == "." and not thousands:
        return None
    grouped = re.compile(rf"[+-]?[0-9]{{1,3}}(?:{re.escape(thousands)}[0-9]{{3}})+(?![0-9])") if thousands else None

    def plain(value: str) -> str:
        if decimal != "." and "." in value and thousands != ".":
            raise ValueError(value)
        if grouped and thousands in value:
            match = grouped.match(value)
            if not match or thousands in value[match.end() :]:
                raise ValueError(value)
            value = value.replace(thousands, "")
        return value.replace(decimal, ".")

    return plain


def _marked(fast: Fast, one: One, plain: One | None, kind: faults.Kind, expected: str) -> tuple[Fast, One]:
    if plain is None:
        return fast, one

    def one_marked(value: str) -> object:
        try:
            bare = plain(value)
        except ValueError:
            raise Invalid(kind, expected=expected) from None
        return one(bare)

    return lambda column: fast(list(map(plain, column))), one_marked


# Whole numbers ----------------------------------------------------------------------------------------------------------
def integer(column: Column, *, decimal: str = ".", thousands: str = "") -> tuple[Fast, One]:
    """Whole numbers of the column's width as canonical decimal text: `7` for `007` and `+7`."""
    bits = column.bits or 64
    least, most = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    safe = len(str(most)) - 1  # so many digits are always in range
    canonical = column_pattern(rf"0|-?[1-9][0-9]{{0,{safe - 1}}}")
    lenient = column_pattern(r"[+-]?[0-9]{1,40}")
    expected = f"a whole number from {least} to {most}"

    def fast(values: Sequence[str]) -> Sequence[str]:
        odd = unlike(canonical, values)
        if odd:
            raise Odd(odd, values)
        if odd is not None:
            return values
        if not is_all(lenient, values):
            raise ValueError
        numbers = list(map(int, values))
        if min(numbers) < least or max(numbers) > most:
            raise ValueError
        return list(map(str, numbers))

    def one(value: str) -> str:
        if not _INTEGER.fullmatch(value):
            raise Invalid(faults.INVALID_INTEGER, expected=expected)
        number = int(value)
        if not least <= number <= most:
            raise Invalid(faults.OUT_OF_RANGE, expected=expected)
        return str(number)

    return _marked(fast, one, unmark(decimal, thousands), faults.INVALID_INTEGER, expected)


# Decimals ---------------------------------------------------------------------------------------------------------------
def number(column: Column, *, decimal: str = ".", thousands: str = "") -> tuple[Fast, One]:
    """Decimals as exact text, checked against the column's precision and scale; on SQLite also that they read back equal."""
    expected = _decimal_form(column, decimal)
    kept = column.affinity or "TEXT"
    scale = column.scale or 0
    whole = column.precision - scale if column.precision is not None else 15  # digits before the point

    def one(value: str) -> str:
        if not _NUMBER.fullmatch(value):
            raise Invalid(faults.INVALID_NUMBER, expected=expected)
        exact = Decimal(value)
        if abs(exact.adjusted()) > _LARGEST_EXPONENT or len(exact.as_tuple().digits) > 2 * _LARGEST_EXPONENT:
            raise Invalid(faults.OUT_OF_RANGE, expected=expected)
        if column.precision is not None and exact:
            if exact.adjusted() >= whole:
                raise Invalid(faults.OUT_OF_RANGE, expected=expected)
            if _last_place(exact) < -scale:
                raise Invalid(faults.TOO_MANY_DECIMALS, expected=scale)
        if not reads_back(exact, kept):
            raise Invalid(faults.INEXACT, expected=f"at most {_DIGITS_OF_A_DOUBLE} significant digits")
        return _canonical(exact) if column.is_text_identity else value

    if column.is_text_identity:
        return _marked(Cached(one).fast, one, unmark(decimal, thousands), faults.INVALID_NUMBER, expected)
    plain = column_pattern(_plain_decimals(whole, scale if column.precision is not None else 15, kept))

    def fast(values: Sequence[str]) -> Sequence[str]:
        check_all(plain, values)
        return values

    return _marked(fast, one, unmark(decimal, thousands), faults.INVALID_NUMBER, expected)


def _plain_decimals(whole: int, scale: int, kept: str) -> str:
    """Return the pattern of decimals that are right beyond doubt."""
    scale, whole = max(scale, 0), max(whole, 0)
    if kept in NUMERIC_AFFINITIES and whole + scale > _DIGITS_OF_A_DOUBLE:
        whole, scale = _DIGITS_OF_A_DOUBLE - min(scale, 6), min(scale, 6)
    if not whole:
        return rf"-?0\.[0-9]{{1,{scale}}}" if scale else "0"
    return rf"-?[0-9]{{1,{whole}}}" + (rf"(?:\.[0-9]{{1,{scale}}})?" if scale else "")


def _decimal_form(column: Column, decimal: str) -> str:
    mark = "" if decimal == "." else f" with '{decimal}' as decimal mark"
    if column.precision is None:
        return f"a number{mark}"
    return f"a number{mark} of at most {column.precision} digits, {column.scale or 0} of them after the point"


def _last_place(exact: Decimal) -> int:
    """Return the power of ten of the last digit that is not a zero."""
    _, digits, exponent = exact.as_tuple()
    if not isinstance(exponent, int):
        raise Invalid(faults.INVALID_NUMBER, expected="a number")
    zeros = len(digits) - len("".join(map(str, digits)).rstrip("0"))
    return exponent + zeros


def _canonical(exact: Decimal) -> str:
    """Return the one text of every equal decimal: no exponent, no needless zeros, no `-0`."""
    text = format(exact, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    sign, digits = ("-", text[1:]) if text.startswith("-") else ("", text.lstrip("+"))
    digits = digits.lstrip("0") if not digits.startswith("0.") else digits
    return f"{sign}{digits}" if digits else "0"


# Floats -----------------------------------------------------------------------------------------------------------------
def floating(column: Column, *, decimal: str = ".", thousands: str = "") -> tuple[Fast, One]:
    """Finite binary numbers, as the text stands; the target rounds them to its own type, as is that type's nature."""
    is_single = column.sql_type.lower() in ("real", "float4") and column.bits != 64
    most = _REAL_LIMIT if is_single else math.inf
    least = _REAL_LEAST if is_single else 0.0
    expected = "a finite number" + (" of 4 bytes" if is_single else "")
    plain = column_pattern(r"-?[0-9]{1,15}(?:\.[0-9]{1,15})?")

    def one(value: str) -> str:
        if not _NUMBER.fullmatch(value):
            raise Invalid(faults.INVALID_NUMBER, expected=expected)
        size = abs(float(value))
        if size >= most or (size <= least and set(value.lower().partition("e")[0]) & set("123456789")):
            raise Invalid(faults.OUT_OF_RANGE, expected=expected)
        return repr(float(value) + 0.0) if column.is_text_identity else value

    def fast(values: Sequence[str]) -> Sequence[str]:
        if column.is_text_identity:
            return list(map(one, values))
        check_all(plain, values)
        return values

    return _marked(fast, one, unmark(decimal, thousands), faults.INVALID_NUMBER, expected)


# Truth values -----------------------------------------------------------------------------------------------------------
def boolean(
    column: Column, *, true: Sequence[str] = TRUE_WORDS, false: Sequence[str] = FALSE_WORDS, dialect: str = "postgresql"
) -> tuple[Fast, One]:
    """Truth values by words, whatever their case: `true` and `false`, on SQLite 1 and 0."""
    yes, no = ("1", "0") if dialect == "sqlite" else ("true", "false")
    meaning = {word.lower(): yes for word in true} | {word.lower(): no for word in false}
    spelt = {form: meaning[word] for word in meaning for form in (word, word.upper(), word.capitalize())}
    expected = "one of " + ", ".join(chain(true, false))

    def one(value: str) -> str:
        try:
            return meaning[value.lower()]
        except KeyError:
            raise Invalid(faults.INVALID_BOOLEAN, expected=expected) from None

    def fast(values: Sequence[str]) -> Sequence[str | None]:
        out = list(map(spelt.get, values))
        if None in out:
            if None in values:
                raise TypeError
            raise Odd([row for row, value in enumerate(out) if value is None], out)
        return out

    return fast, one
