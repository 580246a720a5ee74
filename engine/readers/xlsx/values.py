"""From the number that a cell holds to the text that its converter reads."""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta
from decimal import Decimal
from enum import IntEnum

_QUOTED = re.compile(r'"[^"]*"|\\.|[_*].')
_BRACKETS = re.compile(r"\[(?!h+\]|m+\]|s+\])[^\]]*\]", re.IGNORECASE)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,39})", re.ASCII)
_FIRST_1900, _FIRST_1904 = datetime(1899, 12, 30), datetime(1904, 1, 1)
_DAYS = 2_958_466  # 10000-01-01 in the 1900 epoch; no year that spreadsheets show is later
_LEAP_DAY = 60  # 1900-02-29, which never was, but has a number in the 1900 epoch


class Shown(IntEnum):
    """What a number format shows of a number."""

    NUMBER = 0
    DATE = 1
    DATETIME = 2
    TIME = 3  # of day
    ELAPSED = 4  # hours, minutes or seconds, however many


class Dated(str):
    """A date cell's text, told apart from a text that looks the same, so that it can be written as its column wants it."""

    __slots__ = ()


_BUILT_IN = {
    **dict.fromkeys(map(str, (14, 15, 16, 17, *range(27, 32), 34, 35, 36, *range(50, 59))), Shown.DATE),
    "22": Shown.DATETIME, "46": Shown.ELAPSED, **dict.fromkeys(map(str, (18, 19, 20, 21, 32, 33, 45, 47)), Shown.TIME),
}  # fmt: skip


def shown_by(number: str, code: str | None) -> Shown:
    """Return what a number format shows, by its number and its code (None: the format has its number only).

    >>> [shown_by("164", code).name for code in ("yyyy-mm-dd", "d.m.yy h:mm", "[h]:mm", '0.00E+00" m"', "[$-409]h:mm AM/PM", "General")]
    ['DATE', 'DATETIME', 'ELAPSED', 'NUMBER', 'TIME', 'NUMBER']
    """
    if code is None:
        return _BUILT_IN.get(number, Shown.NUMBER)
    bare = _BRACKETS.sub("", _QUOTED.sub("", code)).partition(";")[0].lower()
    if "[" in bare:
        return Shown.ELAPSED
    if bare.strip() == "general":
        return Shown.NUMBER
    has_clock = "h" in bare or "s" in bare
    if "y" in bare or "d" in bare or ("m" in bare and not has_clock):
        return Shown.DATETIME if has_clock else Shown.DATE
    return Shown.TIME if has_clock else Shown.NUMBER


def number_text(text: str) -> str:
    """Return a number as plain decimal digits: whole ones as they stand, others as the shortest text of the same binary number.

    ValueError where it is none. Spreadsheets keep binary numbers, and write 1.1 as 1.1000000000000001.

    >>> [number_text(text) for text in ("007", "12345678901234567890", "1.1000000000000001", "1E+3", "2.5E-7", "-0")]
    ['7', '12345678901234567890', '1.1', '1000', '0.00000025', '0']
    """
    if _NUMBER.fullmatch(text) and text != "-0":
        return text
    number = float(text)
    if not math.isfinite(number) or "_" in text:
        raise ValueError(text)
    if not number:
        return "0"
    plain = repr(number)
    if plain.endswith(".0"):
        return plain[:-2]
    return format(Decimal(plain), "f") if "e" in plain else plain


def date_text(text: str, shown: Shown, is_1904: bool) -> str:
    """Return the date, time or length of time that a number means where its cell shows one; ValueError where there is none such.

    >>> date_text("45413", Shown.DATE, False), date_text("45413.5", Shown.DATE, False), date_text("45413", Shown.DATETIME, False)
    ('2024-05-01', '2024-05-01 12:00:00', '2024-05-01 00:00:00')
    >>> date_text("43951", Shown.DATE, True), date_text("1", Shown.DATE, False), date_text("0.75", Shown.TIME, False)
    ('2024-05-01', '1900-01-01', '18:00:00')
    >>> date_text("1.5", Shown.ELAPSED, False)
    '36:00:00'
    """
    days = float(text)
    if not -_DAYS < days < _DAYS:
        raise ValueError(text)
    milliseconds = round(days * 86_400_000)
    if shown is Shown.ELAPSED:
        return _elapsed(milliseconds)
    if milliseconds < 0:
        raise ValueError(text)
    if shown is Shown.TIME and days < 1:
        return _clock(timedelta(milliseconds=milliseconds))
    first = _FIRST_1904
    if not is_1904:
        if days < 1 or _LEAP_DAY <= days < _LEAP_DAY + 1:
            raise ValueError(text)
        first = _FIRST_1900 + timedelta(days=days < _LEAP_DAY)
    try:
        moment = first + timedelta(milliseconds=milliseconds)
    except OverflowError:
        raise ValueError(text) from None
    return dated(moment, shown)


def dated(moment: datetime, shown: Shown) -> Dated:
    """Return an instant as its cell shows it: the day alone where nothing else is shown, nor hidden."""
    if shown is Shown.DATE and moment.time() == datetime.min.time():
        return Dated(moment.date().isoformat())
    text = moment.isoformat(" ")
    return Dated(text.rstrip("0") if moment.microsecond else text)


def _clock(since_midnight: timedelta) -> str:
    moment = datetime.min + since_midnight
    return moment.time().isoformat().rstrip("0") if moment.microsecond else moment.time().isoformat()


def _elapsed(milliseconds: int) -> str:
    sign, milliseconds = ("-" if milliseconds < 0 else ""), abs(milliseconds)
    seconds, rest = divmod(milliseconds, 1000)
    text = f"{sign}{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{text}.{rest:03}".rstrip("0") if rest else text
