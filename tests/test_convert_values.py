"""Converters: tables of what each kind of column takes, gives and refuses."""

import pytest
from hypothesis import given, strategies as st

from engine import faults
from engine.converters import CONVERTERS, NATURAL, OptionInvalid, build
from engine.converters.column import CACHED_VALUES, Cached, Odd
from engine.converters.structures import parse_literal
from engine.tables import Column, Kind


def column(kind: Kind, sql_type: str | None = None, **facts) -> Column:
    return Column("c", kind, sql_type or str(kind), cast_type="text", **facts)


def run(kind: Kind, value: str, type: str | None = None, options: dict | None = None, *, dialect="postgresql", decimal=".", **facts):
    """Convert one value alone and amid others; return the text, or the kind of fault."""
    convert = build(type, options or {}, column(kind, **facts), name="c", dialect=dialect, decimal=decimal)
    out, wrong = convert([value])
    amid, wrong_amid = convert([None, value, "\ud800 never right", value])
    assert amid[0] is None and list(amid[1:2]) == list(amid[3:]) == list(out)
    assert {1: wrong.get(0), 3: wrong.get(0)} == {row: wrong_amid.get(row) for row in (1, 3)}
    return wrong[0].kind if wrong else out[0]


INTEGER, DECIMAL, STAMP, STAMP_TZ = Kind.INTEGER, Kind.DECIMAL, Kind.TIMESTAMP, Kind.TIMESTAMP_TZ
MONEY = {"precision": 5, "scale": 2}


@pytest.mark.parametrize(
    ("kind", "facts", "value", "expected"),
    [
        (INTEGER, {"bits": 16}, "007", "7"),
        (INTEGER, {"bits": 16}, "+5", "5"),
        (INTEGER, {"bits": 16}, "-0", "0"),
        (INTEGER, {"bits": 16}, "-32768", "-32768"),
        (INTEGER, {"bits": 16}, "32768", faults.OUT_OF_RANGE),
        (INTEGER, {"bits": 64}, "9223372036854775807", "9223372036854775807"),
        (INTEGER, {"bits": 64}, "9223372036854775808", faults.OUT_OF_RANGE),
        (INTEGER, {}, "1_000", faults.INVALID_INTEGER),
        (INTEGER, {}, "5.0", faults.INVALID_INTEGER),
        (INTEGER, {}, "٣", faults.INVALID_INTEGER),
        (INTEGER, {}, "1\n2", faults.INVALID_INTEGER),
        (INTEGER, {}, "", faults.INVALID_INTEGER),
        (DECIMAL, MONEY, "999.99", "999.99"),
        (DECIMAL, MONEY, "1.0500", "1.0500"),
        (DECIMAL, MONEY, "1.005", faults.TOO_MANY_DECIMALS),
        (DECIMAL, MONEY, "1000", faults.OUT_OF_RANGE),
        (DECIMAL, MONEY, "-1e3", faults.OUT_OF_RANGE),
        (DECIMAL, MONEY, "1e2", "1e2"),
        (DECIMAL, MONEY, "0e9999", "0e9999"),
        (DECIMAL, MONEY, "NaN", faults.INVALID_NUMBER),
        (DECIMAL, MONEY, "Infinity", faults.INVALID_NUMBER),
        (DECIMAL, {}, "0.12345678901234567890123", "0.12345678901234567890123"),
        (DECIMAL, {}, "1e99999", faults.OUT_OF_RANGE),
        (DECIMAL, {"precision": 5, "scale": 2, "is_text_identity": True}, "-001.50", "-1.5"),
        (DECIMAL, {"precision": 3, "scale": 5}, "0.00123", "0.00123"),
        (Kind.FLOAT, {}, "1.5e300", "1.5e300"),
        (Kind.FLOAT, {}, "1e400", faults.OUT_OF_RANGE),
        (Kind.FLOAT, {}, "1e-400", faults.OUT_OF_RANGE),
        (Kind.FLOAT, {}, "0e-400", "0e-400"),
        (Kind.FLOAT, {"sql_type": "real"}, "1e39", faults.OUT_OF_RANGE),
        (Kind.FLOAT, {}, "inf", faults.INVALID_NUMBER),
        (Kind.BOOLEAN, {}, "Yes", "true"),
        (Kind.BOOLEAN, {}, "tRuE", "true"),
        (Kind.BOOLEAN, {}, "0", "false"),
        (Kind.BOOLEAN, {}, "maybe", faults.INVALID_BOOLEAN),
        (Kind.DATE, {}, "2024-02-29", "2024-02-29"),
        (Kind.DATE, {}, "2024-02-30", faults.INVALID_DATE),
        (Kind.DATE, {}, "20240229", faults.INVALID_DATE),
        (Kind.DATE, {}, "2024-W09-4", faults.INVALID_DATE),
        (Kind.DATE, {}, "2024-02-29T00:00:00", faults.INVALID_DATE),
        (STAMP, {}, "2013-01-01 10:00:00", "2013-01-01 10:00:00"),
        (STAMP, {}, "2013-01-01T10:00", "2013-01-01 10:00:00"),
        (STAMP, {}, "2013-01-01T10:00:00.5", "2013-01-01 10:00:00.5"),
        (STAMP, {}, "2013-01-01T10:00:00.12345670", faults.TOO_MANY_DECIMALS),
        (STAMP, {}, "2013-01-01T10:00:00.12345600", "2013-01-01 10:00:00.123456"),
        (STAMP, {"sql_type": "timestamp(0) without time zone"}, "2013-01-01 10:00:00.5", faults.TOO_MANY_DECIMALS),
        (STAMP, {}, "2013-01-01T10:00:00Z", faults.ZONE_UNEXPECTED),
        (STAMP, {}, "2013-01-01", faults.INVALID_DATETIME),
        (STAMP, {}, "2013-02-30 10:00:00", faults.INVALID_DATETIME),
        (STAMP, {}, "2013-01-01 24:00:00", faults.INVALID_DATETIME),
        (STAMP_TZ, {}, "2013-01-01T10:00:00Z", "2013-01-01 10:00:00+00"),
        (STAMP_TZ, {}, "2013-01-01 10:00:00+0530", "2013-01-01 04:30:00+00"),
        (STAMP_TZ, {}, "2013-01-01 10:00:00 -05", "2013-01-01 15:00:00+00"),
        (STAMP_TZ, {}, "2013-01-01 10:00:00", faults.ZONE_MISSING),
        (STAMP_TZ, {}, "0001-01-01 00:00:00+12:00", faults.INVALID_DATETIME),
        (Kind.TIME, {}, "10:30", "10:30:00"),
        (Kind.TIME, {}, "25:00", faults.INVALID_TIME),
        (Kind.TIME, {}, "10:30Z", faults.ZONE_UNEXPECTED),
        (Kind.TIME_TZ, {}, "10:30:15+02", "10:30:15+02:00"),
        (Kind.TIME_TZ, {}, "10:30", faults.ZONE_MISSING),
        (Kind.INTERVAL, {}, "P1Y2M3DT4H5M6.5S", "P1Y2M3DT4H5M6.5S"),
        (Kind.INTERVAL, {}, "1 day 02:30:00", "1 day 02:30:00"),
        (Kind.INTERVAL, {}, "3 hours ago", "3 hours ago"),
        (Kind.INTERVAL, {}, "soon", faults.INVALID_DURATION),
        (Kind.INTERVAL, {}, "P", faults.INVALID_DURATION),
        (Kind.TEXT, {}, "007", "007"),
        (Kind.TEXT, {"max_length": 3}, "äöü", "äöü"),
        (Kind.TEXT, {"max_length": 3}, "abcd", faults.TOO_LONG),
        (Kind.TEXT, {}, "a\0b", faults.INVALID_TEXT),
        (Kind.TEXT, {}, "a\ud800", faults.INVALID_TEXT),
        (Kind.UUID, {}, "{123E4567-E89B-12D3-A456-426614174000}", "123e4567-e89b-12d3-a456-426614174000"),
        (Kind.UUID, {}, "123e4567e89b12d3a456426614174000", "123e4567-e89b-12d3-a456-426614174000"),
        (Kind.UUID, {}, "123e4567", faults.INVALID_UUID),
        (Kind.JSON, {}, '{"a": 1.50}', '{"a": 1.50}'),
        (Kind.JSON, {}, '{"a":{"b":1,"b":2}}', faults.INVALID_JSON),
        (Kind.JSON, {}, "NaN", faults.INVALID_JSON),
        (Kind.JSON, {}, "[" * 100_000, faults.INVALID_JSON),
        (Kind.ENUM, {"labels": ("on", "off")}, "on", "on"),
        (Kind.ENUM, {"labels": ("on", "off")}, "ON", faults.NOT_IN_ENUM),
        (Kind.ARRAY, {"element": column(INTEGER, bits=32)}, "{1,002,NULL}", '{"1","2",NULL}'),
        (Kind.ARRAY, {"element": column(INTEGER, bits=32)}, "[[1],[null]]", '{{"1"},{NULL}}'),
        (Kind.ARRAY, {"element": column(INTEGER, bits=32)}, "{a}", faults.INVALID_ARRAY),
        (Kind.ARRAY, {"element": column(INTEGER, bits=32)}, "{1", faults.INVALID_ARRAY),
        (Kind.ARRAY, {"element": column(Kind.TEXT)}, '["a\\"b", "\\\\"]', '{"a\\"b","\\\\"}'),
        (Kind.ARRAY, {"element": column(Kind.TEXT)}, '[{"a":1}]', faults.INVALID_ARRAY),
        (Kind.BINARY, {}, "\\xDEad", "\\xdead"),
        (Kind.BINARY, {}, "abc", faults.INVALID_BINARY),
        (Kind.OTHER, {}, "(1,2)", "(1,2)"),
    ],
)
def test_each_kind_gives_canonical_text_or_its_fault(kind, facts, value, expected):
    """A value becomes the text that the column reads exactly, or the fault that names what is wrong with it (T71)."""
    assert run(kind, value, **facts) == expected


@pytest.mark.parametrize(
    ("kind", "type", "options", "facts", "value", "expected"),
    [
        (INTEGER, "Integer", {"thousands": ","}, {}, "1,234,567", "1234567"),
        (INTEGER, "Integer", {"thousands": ","}, {}, "12,34", faults.INVALID_INTEGER),
        (DECIMAL, "Number", {"thousands": ".", "decimal": ","}, {}, "1.234,50", "1234.50"),
        (DECIMAL, "Number", {"decimal": ","}, {}, "1.5", faults.INVALID_NUMBER),
        (DECIMAL, "Number", {"thousands": ","}, {}, "1.234,567", faults.INVALID_NUMBER),
        (INTEGER, "Boolean", {}, {}, "yes", "1"),
        (Kind.BOOLEAN, "Boolean", {"true": "ja", "false": ["nein", "nö"]}, {}, "Nö", "false"),
        (Kind.BOOLEAN, "Boolean", {"true": "ja", "false": "nein"}, {}, "yes", faults.INVALID_BOOLEAN),
        (Kind.DATE, "Date", {"format": "%d/%m/%Y"}, {}, "29/02/2024", "2024-02-29"),
        (Kind.DATE, "Date", {"format": "%d/%m/%Y"}, {}, "30/02/2024", faults.INVALID_DATE),
        (Kind.TEXT, "Date", {"format": "%d.%m.%Y"}, {"max_length": 10}, "29.02.2024", "2024-02-29"),
        (STAMP, "Date", {}, {}, "2024-02-29", "2024-02-29 00:00:00"),
        (STAMP, "DateTime", {"format": "iso"}, {}, "2013-01-01 10:00:00", "2013-01-01 10:00:00"),
        (STAMP_TZ, "DateTime", {"format": "iso"}, {}, "2013-01-01T10:00:00Z", "2013-01-01 10:00:00+00"),
        (STAMP, "DateTime", {"timezone": "America/New_York"}, {}, "2013-01-01T10:00:00Z", "2013-01-01 05:00:00"),
        (STAMP_TZ, "DateTime", {"timezone": "Europe/Berlin"}, {}, "2024-07-01 10:00", "2024-07-01 08:00:00+00"),
        (STAMP_TZ, "DateTime", {"timezone": "Europe/Berlin"}, {}, "2024-03-31 02:30", faults.INVALID_DATETIME),
        (STAMP_TZ, "DateTime", {"timezone": "Europe/Berlin"}, {}, "2024-10-27 02:30", faults.INVALID_DATETIME),
        (STAMP, "DateTime", {"format": "%Y%m%d%H%M"}, {}, "201301011000", "2013-01-01 10:00:00"),
        (Kind.TIME_TZ, "Time", {"timezone": "+02:00"}, {}, "10:00", "10:00:00+02:00"),
        (Kind.TEXT, "Text", {"maxLength": 2}, {"max_length": 5}, "abc", faults.TOO_LONG),
        (Kind.TEXT, "Text", {"pattern": "[A-Z]+"}, {}, "ABC", "ABC"),
        (Kind.TEXT, "Text", {"pattern": "[A-Z]+"}, {}, "ABC1", faults.PATTERN_MISMATCH),
        (Kind.BINARY, "Binary", {"format": "base64"}, {}, "AP8=", "\\x00ff"),
        (Kind.BINARY, "Binary", {"format": "base64"}, {}, "A", faults.INVALID_BINARY),
        (Kind.TEXT, "Uuid", {}, {}, "123E4567-E89B-12D3-A456-426614174000", "123e4567-e89b-12d3-a456-426614174000"),
    ],
)
def test_named_types_and_options(kind, type, options, facts, value, expected):
    """A type that the control file names reads by its options, and then suits the column (T71, T79)."""
    assert run(kind, value, type, options, **facts) == expected


@pytest.mark.parametrize(
    ("kind", "affinity", "value", "expected"),
    [
        (DECIMAL, "NUMERIC", "0.1", "0.1"),
        (DECIMAL, "NUMERIC", "12345678901234567890", faults.INEXACT),
        (DECIMAL, "NUMERIC", "9223372036854775807", "9223372036854775807"),
        (DECIMAL, "REAL", "9007199254740993", faults.INEXACT),
        (DECIMAL, "NUMERIC", "0.1234567890123456789", faults.INEXACT),
        (Kind.BOOLEAN, "NUMERIC", "yes", "1"),
        (Kind.BINARY, "BLOB", "00ff", b"\x00\xff"),
        (Kind.OTHER, "NUMERIC", "007", faults.INEXACT),
        (Kind.OTHER, "NUMERIC", "x7", "x7"),
        (Kind.JSON, "NUMERIC", "1.50", faults.INEXACT),
        (Kind.JSON, "NUMERIC", '{"a":1.50}', '{"a":1.50}'),
        (Kind.TEXT, "REAL", "7", faults.INEXACT),
        (Kind.TEXT, "NUMERIC", "7\x1d", "7\x1d"),
        (Kind.TEXT, "NUMERIC", "7\xa0", "7\xa0"),
        (Kind.TEXT, "NUMERIC", " 7", faults.INEXACT),
        (Kind.TEXT, "NUMERIC", "9" * 5000, faults.INEXACT),
        (STAMP_TZ, "NUMERIC", "2013-01-01T10:00:00+01:00", "2013-01-01 09:00:00+00:00"),
    ],
)
def test_sqlite_forms(kind, affinity, value, expected):
    """On SQLite values take the forms that its columns keep, and what would not read back the same is a fault (T71)."""
    assert run(kind, value, dialect="sqlite", affinity=affinity) == expected


@pytest.mark.parametrize(
    ("kind", "dialect", "expected"),
    [
        (Kind.TEXT, "sqlite", "\\x00ff"), (Kind.TEXT, "postgresql", "\\x00ff"),
        (Kind.OTHER, "sqlite", b"\x00\xff"), (Kind.OTHER, "postgresql", "\\x00ff"), (Kind.BINARY, "sqlite", b"\x00\xff"),
    ],
)  # fmt: skip
def test_bytes_for_columns_of_other_kinds(kind, dialect, expected):
    """A column of text gets bytes as digits, on either database; one that SQLite keeps as it is gets the bytes themselves."""
    assert run(kind, "AP8=", "Binary", {"format": "base64"}, dialect=dialect) == expected


@pytest.mark.parametrize(
    ("kind", "type", "options", "wrong"),
    [
        (INTEGER, "Whole", {}, "type"),
        (Kind.DATE, "Integer", {}, "type"),
        (INTEGER, "Integer", {"format": "x"}, "format"),
        (INTEGER, None, {"pattern": "x"}, "pattern"),
        (Kind.DATE, "Date", {"format": "%d/%m"}, "format"),
        (Kind.DATE, "Date", {"format": "%Q"}, "format"),
        (STAMP, "DateTime", {"timezone": "Mars/Base"}, "timezone"),
        (Kind.TIME_TZ, "Time", {"timezone": "Europe/Berlin"}, "timezone"),
        (Kind.TEXT, "Text", {"pattern": "(a"}, "pattern"),
        (Kind.TEXT, "Text", {"pattern": "(?=a)b"}, "pattern"),
        (Kind.TEXT, "Text", {"maxLength": 0}, "maxLength"),
        (DECIMAL, "Number", {"thousands": ",", "decimal": ","}, "thousands"),
        (Kind.BOOLEAN, "Boolean", {"true": "x", "false": "X"}, "false"),
        (Kind.BOOLEAN, "Boolean", {"true": "x"}, "false"),
        (Kind.BINARY, "Binary", {"format": "ascii85"}, "format"),
    ],
)
def test_bad_options_are_named(kind, type, options, wrong):
    """A bad option raises OptionInvalid that says which one it is."""
    with pytest.raises(OptionInvalid) as caught:
        build(type, options, column(kind), name="c", dialect="postgresql")
    assert caught.value.option == wrong


def test_messages_name_column_value_and_what_would_be_right():
    """A fault's message says the column, the value, and what would have been right."""
    _, wrong = build(None, {}, column(INTEGER, bits=16), name="size", dialect="postgresql")(["x"])
    assert wrong[0].message == "'x' is no whole number for size (expected a whole number from -32768 to 32767)"
    assert (wrong[0].column, wrong[0].value) == ("size", "x")


@pytest.mark.parametrize("kind", [INTEGER, DECIMAL, Kind.FLOAT, Kind.BOOLEAN, Kind.DATE, STAMP, Kind.TIME, Kind.UUID, Kind.JSON, Kind.ENUM])
def test_masked_columns_never_show_the_value(kind):
    """A masked column's faults show *** in message and Properties (T82)."""
    _, wrong = build(None, {}, column(kind), name="c", dialect="postgresql", is_masked=True)(['{"sec":"secret"'])
    assert "sec" not in wrong[0].message and wrong[0].value == "***"


def test_clean_columns_pass_through_as_they_are():
    """Text that is valid as it stands is not copied."""
    for kind, value in [(INTEGER, "12"), (DECIMAL, "1.5"), (Kind.DATE, "2024-01-01"), (Kind.TEXT, "x"), (Kind.JSON, "{}")]:
        values = [value] * 10
        assert build(None, {}, column(kind), name="c", dialect="postgresql")(values)[0] is values


@given(st.data(), st.sampled_from([INTEGER, DECIMAL, Kind.FLOAT, Kind.BOOLEAN, Kind.DATE, STAMP, Kind.UUID, Kind.TEXT]))
def test_odd_values_cost_only_themselves(data, kind):
    """A column comes out as its values do alone, whichever of them are odd or wrong."""
    good = {Kind.BOOLEAN: "true", Kind.DATE: "2024-01-31", STAMP: "2024-01-31 10:00:00", Kind.UUID: "123e4567-e89b-12d3-a456-426614174000"}
    odd = st.sampled_from(["007", "+1", "1e3", "YES", "2024-02-30", "x" * 80, "1\n2", "\n", "\0", "\ud800", "2024-01-31T10:00", None])
    values = data.draw(st.lists(st.one_of(st.just(good.get(kind, "12")), st.just(good.get(kind, "-3")), odd), min_size=1, max_size=60))
    convert = build(None, {}, column(kind, max_length=70), name="c", dialect="postgresql")
    alone = [convert([value]) for value in values]
    out, wrong = convert(values)
    assert list(out) == [one[0] for one, _ in alone]
    assert wrong == {row: fault[0] for row, (_, fault) in enumerate(alone) if fault}


def test_every_kind_has_a_natural_type():
    """Each kind of column has a type whose options count where a control file names none."""
    assert set(NATURAL) == set(Kind) and set(NATURAL.values()) <= set(CONVERTERS)


def test_caches_are_bounded():
    """A cache starts anew when it is full, and does not remember long texts."""
    cache = Cached(str.upper)
    for start in range(0, 3 * CACHED_VALUES, 5_000):
        cache.fast([f"v{number}" for number in range(start, start + 5_000)])
        assert len(cache.known) <= CACHED_VALUES
    with pytest.raises(Odd) as odd:
        cache.fast(["v1", "x" * 100])
    assert odd.value.rows == [1] and "x" * 100 not in cache.known


@given(st.lists(st.integers(-(2**70), 2**70)))
def test_integers_round_trip_or_are_out_of_range(numbers):
    """An integer in range comes out equal; another is out of range, and nothing else is touched."""
    out, wrong = build(None, {}, column(INTEGER, bits=64), name="c", dialect="postgresql")([f"{number:+05d}" for number in numbers])
    for row, number in enumerate(numbers):
        if -(2**63) <= number < 2**63:
            assert out[row] == str(number)
        else:
            assert out[row] is None and wrong[row].kind is faults.OUT_OF_RANGE


@given(st.lists(st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))), min_size=1))
def test_array_literals_round_trip(items):
    """A JSON array becomes a literal that parses to the same elements."""
    import json

    out, wrong = build(None, {}, column(Kind.ARRAY, element=column(Kind.TEXT)), name="c", dialect="postgresql")([json.dumps(items)])
    assert not wrong
    assert parse_literal(str(out[0])) == items


@given(st.lists(st.one_of(st.none(), st.sampled_from(["1", "007", "x", "", "2.50", "99999999999", "1e2", "2024-02-29", "true"]))))
def test_whole_columns_equal_value_by_value(values):
    """What a whole column gives is what its values give one by one."""
    for kind in (INTEGER, DECIMAL, Kind.FLOAT, Kind.BOOLEAN, Kind.DATE, Kind.TEXT, Kind.JSON):
        convert = build(None, {}, column(kind, bits=32, precision=6, scale=1, max_length=3), name="c", dialect="postgresql")
        together, wrong = convert(values)
        for row, value in enumerate(values):
            alone, wrong_alone = convert([value])
            assert alone[0] == together[row] and wrong_alone.get(0) == wrong.get(row)
