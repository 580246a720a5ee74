"""Dates, times and durations. No form, zone or century is guessed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from functools import cache, partial
from zoneinfo import ZoneInfo

from engine import faults
from engine.converters.column import Cached, Fast, Invalid, One, column_pattern, is_all
from engine.faults import Kind
from engine.tables import Column, Kind as ColumnKind

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_CLOCK = r"([0-9]{2}:[0-9]{2})(?::([0-9]{2})(?:[.]([0-9]+))?)?"
_ZONE = r"([Zz]|[+-][0-9]{2}(?::?[0-9]{2})?)?"
_TIME = re.compile(_CLOCK + _ZONE)
_DATETIME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]" + _CLOCK + " ?" + _ZONE)
_CANONICAL_DATES = column_pattern("[0-9]{4}-[0-9]{2}-[0-9]{2}")
_CANONICAL_DATETIMES = column_pattern("[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}")
_OFFSET = re.compile(r"([+-])([0-9]{2}):?([0-9]{2})")
_ISO_DURATION = re.compile(
    r"P(?=.)(?:-?\d+Y)?(?:-?\d+M)?(?:-?\d+W)?(?:-?\d+D)?(?:T(?=.)(?:-?\d+H)?(?:-?\d+M)?(?:-?\d+(?:\.\d{1,6})?S)?)?", re.ASCII
)
_UNITS = r"(?:microsecond|millisecond|second|sec|minute|min|hour|day|week|month|mon|year|decade|century|centurie|millennium|millennia)s?"
_TEXT_DURATION = re.compile(
    rf"(?:@ ?)?(?:[+-]?\d{{1,9}}(?:\.\d{{1,6}})? ?{_UNITS}(?: |(?=$)))*(?:[+-]?\d+:[0-5]\d(?::[0-5]\d(?:\.\d{{1,6}})?)?)?(?: ?ago)?",
    re.ASCII | re.IGNORECASE,
)


def zone(name: str) -> tzinfo:
    """Return a time zone by its IANA name or as an offset (`+02:00`); ValueError for anything else.

    >>> zone("+02:00").utcoffset(None)
    datetime.timedelta(seconds=7200)
    """
    if name.upper() in ("UTC", "Z"):
        return UTC
    if match := _OFFSET.fullmatch(name):
        sign, hours, minutes = match.groups()
        offset = timedelta(hours=int(hours), minutes=int(minutes))
        return timezone(-offset if sign == "-" else offset)
    try:
        return ZoneInfo(name)
    except (OSError, KeyError, ValueError):
        raise ValueError(name) from None


def kept_decimals(column: Column) -> int:
    """Return how many digits of a second the column keeps: `timestamp(3)` keeps 3, without a word 6."""
    return _kept_decimals(column.sql_type)


@cache
def _kept_decimals(sql_type: str) -> int:
    match = re.search(r"\(\s*([0-6])\s*\)", sql_type)
    return int(match[1]) if match else 6


def _decimals(fraction: str | None, column: Column) -> str:
    """Return a second's digits as `.dddddd`, refusing more than the column keeps."""
    if not fraction:
        return ""
    digits = fraction.rstrip("0")
    if len(digits) > kept_decimals(column):
        raise Invalid(faults.TOO_MANY_DECIMALS, expected=kept_decimals(column))
    return f".{digits:0<6}" if digits else ""


def _by_format(parse: Callable[[str], datetime], kind: Kind, form: str, value: str) -> datetime:
    try:
        return parse(value)
    except ValueError:
        raise Invalid(kind, expected=f"the form {form}") from None


# Dates ------------------------------------------------------------------------------------------------------------------
def day(column: Column, *, format: str | None = None) -> tuple[Fast, One]:
    """Dates as `YYYY-MM-DD`, read in that form or in the given one."""
    if format:
        parse = _strptime(format)

        def one(value: str) -> str:
            return _by_format(parse, faults.INVALID_DATE, format, value).date().isoformat()

        return Cached(one).fast, one

    return Cached(_iso_day).passed, _iso_day


def _iso_day(value: str) -> str:
    try:
        if not _DATE.fullmatch(value):
            raise ValueError(value)
        date.fromisoformat(value)
    except ValueError:
        raise Invalid(faults.INVALID_DATE, expected="a day that exists, as YYYY-MM-DD") from None
    return value


def _strptime(form: str) -> Callable[[str], datetime]:
    return lambda value: datetime.strptime(value, form)


# Dates with times -------------------------------------------------------------------------------------------------------
def instant(column: Column, *, format: str | None = None, timezone: str | None = None, dialect: str = "sqlite") -> tuple[Fast, One]:
    """Dates with times as `YYYY-MM-DD HH:MM:SS[.ffffff]`, in UTC and with its zone where the column keeps one; see _printed."""
    has_zone = column.kind is ColumnKind.TIMESTAMP_TZ
    local = zone(timezone) if timezone else None
    read = partial(_by_format, _strptime(format), faults.INVALID_DATETIME, format) if format else partial(_iso_instant, column)

    def one(value: str) -> str:
        moment = read(value)
        if moment.microsecond:
            _decimals(f"{moment.microsecond:06}", column)
        try:
            return _printed(_in_zone(moment, has_zone, local), dialect)
        except OverflowError:
            raise Invalid(faults.INVALID_DATETIME, expected="a year from 1 to 9999") from None

    cached = Cached(one)

    def fast(values: Sequence[str]) -> Sequence[str]:
        if not has_zone and not format and is_all(_CANONICAL_DATETIMES, values):
            for value in set(values):
                datetime.fromisoformat(value)
            return values
        return cached.fast(values)

    return fast, one


def _iso_instant(column: Column, value: str) -> datetime:
    match = _DATETIME.fullmatch(value)
    try:
        if not match:
            raise ValueError(value)
        day, clock, seconds, fraction, offset = match.groups()
        return datetime.fromisoformat(f"{day} {clock}:{seconds or '00'}{_decimals(fraction, column)}{_offset(offset)}")
    except Invalid:
        raise
    except ValueError:
        form = "YYYY-MM-DD HH:MM:SS" + ("+HH:MM" if column.kind is ColumnKind.TIMESTAMP_TZ else "")
        raise Invalid(faults.INVALID_DATETIME, expected=f"a time that exists, as {form}") from None


def _offset(text: str | None) -> str:
    if not text or text in "Zz":
        return "+00:00" if text else ""
    return text if ":" in text else f"{text[:3]}:{text[3:] or '00'}"


def _in_zone(moment: datetime, has_zone: bool, local: tzinfo | None) -> datetime:
    """Return the instant as the column keeps it: UTC where it keeps a zone, else the local time without one."""
    if moment.tzinfo is None:
        if not has_zone:
            return moment
        if local is None:
            raise Invalid(faults.ZONE_MISSING, expected="a zone, as in 2024-05-01 10:00:00+02:00")
        first, second = moment.replace(tzinfo=local), moment.replace(tzinfo=local, fold=1)
        if first.utcoffset() != second.utcoffset():
            raise Invalid(faults.INVALID_DATETIME, expected=f"a time that is on the clocks of {local} once, neither skipped nor repeated")
        return first.astimezone(UTC)
    if has_zone:
        return moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    if local is None:
        raise Invalid(faults.ZONE_UNEXPECTED, expected="a time without zone, as 2024-05-01 10:00:00")
    return moment.astimezone(local).replace(tzinfo=None)


def _printed(moment: datetime | time, dialect: str) -> str:
    """Return a time as it is kept on SQLite, which keeps texts, and as PostgreSQL itself prints it: the one text that equal times have.

    >>> [_printed(datetime(2013, 1, 1, 10, 0, 0, 500_000, UTC), dialect) for dialect in ("sqlite", "postgresql")]
    ['2013-01-01 10:00:00.500000+00:00', '2013-01-01 10:00:00.5+00']
    """
    if dialect != "postgresql":
        return str(moment)
    clock, plus, zone = str(moment).partition("+")
    return (clock.rstrip("0") if moment.microsecond else clock) + plus + zone.removesuffix(":00")


# Times of day -----------------------------------------------------------------------------------------------------------
def clock(column: Column, *, format: str | None = None, timezone: str | None = None, dialect: str = "sqlite") -> tuple[Fast, One]:
    """Times of day as `HH:MM:SS[.ffffff]`, with `+HH:MM` where the column keeps a zone; see _printed."""
    has_zone = column.kind is ColumnKind.TIME_TZ
    local = zone(timezone) if timezone else None

    def one(value: str) -> str:
        if format:
            moment = _by_format(_strptime(format), faults.INVALID_TIME, format, value).timetz()
            _decimals(f"{moment.microsecond:06}", column)
        else:
            moment = _iso_time(column, value)
        if moment.tzinfo is None and has_zone:
            if local is None:
                raise Invalid(faults.ZONE_MISSING, expected="a zone, as in 10:00:00+02:00")
            moment = moment.replace(tzinfo=local)
        elif moment.tzinfo is not None and not has_zone:
            if local is None:
                raise Invalid(faults.ZONE_UNEXPECTED, expected="a time without zone, as 10:00:00")
            moment = datetime.combine(date(2000, 1, 2), moment).astimezone(local).time()
        return moment.isoformat() if has_zone else _printed(moment, dialect)

    return Cached(one).fast, one


def _iso_time(column: Column, value: str) -> time:
    match = _TIME.fullmatch(value)
    try:
        if not match:
            raise ValueError(value)
        clock, seconds, fraction, offset = match.groups()
        return time.fromisoformat(f"{clock}:{seconds or '00'}{_decimals(fraction, column)}{_offset(offset)}")
    except Invalid:
        raise
    except ValueError:
        raise Invalid(faults.INVALID_TIME, expected="a time of day, as HH:MM:SS") from None


# Durations --------------------------------------------------------------------------------------------------------------
def duration(column: Column) -> tuple[Fast, One]:
    """Durations as they stand, if they are ISO 8601 or written as PostgreSQL does."""

    def one(value: str) -> str:
        if not value or not (_ISO_DURATION.fullmatch(value) or _TEXT_DURATION.fullmatch(value)):
            raise Invalid(faults.INVALID_DURATION, expected="P1DT2H30M or 1 day 02:30:00")
        return value

    return Cached(one).fast, one
