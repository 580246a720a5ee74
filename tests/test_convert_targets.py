"""What converters let through is what the databases themselves read back."""

import sqlite3
from decimal import Decimal

import psycopg
import pytest
from hypothesis import given, strategies as st

from engine.converters import build
from engine.tables import Column, Kind

ACCEPTED = [
    (
        Kind.INTERVAL,
        "interval",
        ["P1Y2M3DT4H5M6.5S", "1 day 02:30:00", "3 hours ago", "@ 1 minute", "1 year 2 mons", "-1 day", "P1W"],
    ),
    (
        Kind.INTERVAL,
        "interval",
        ["1 millennium 2 centuries 3 decades", "5 microseconds", "PT-1H", "1.5 hours", "02:30", "PT0S", "1 day -02:30"],
    ),
    (
        Kind.TIMESTAMP_TZ,
        "timestamptz",
        ["2013-01-01T10:00:00Z", "0001-01-02 00:00:00+12:00", "9999-12-31 23:59Z"],
    ),
    (Kind.TIMESTAMP, "timestamp", ["2013-01-01T10:00", "2013-01-01 10:00:00.5", "0001-01-01 00:00"]),
    (Kind.TIME_TZ, "timetz", ["10:30:15+02", "10:30Z", "10:30:15.25-0330"]),
    (Kind.TIME, "time", ["10:30", "23:59:59.999999"]),
    (Kind.DATE, "date", ["2024-02-29", "0001-01-01", "9999-12-31"]),
    (Kind.BOOLEAN, "boolean", ["Yes", "n", "1", "FALSE"]),
    (Kind.INTEGER, "bigint", ["007", "-9223372036854775808", "+5"]),
    (Kind.DECIMAL, "numeric", ["1e400", ".5", "5.", "-0.000", "1E-400", "12345678901234567890.123456789"]),
    (Kind.FLOAT, "double precision", ["1e300", ".5", "5.", "-0", "4.9e-324"]),
    (Kind.UUID, "uuid", ["{123E4567-E89B-12D3-A456-426614174000}", "123e4567e89b12d3a456426614174000"]),
    (Kind.JSON, "jsonb", ['{"a": [1.50, null, "ä"]}', " 1e5 ", '"x"']),
    (Kind.BINARY, "bytea", ["00ff", "\\xAB", ""]),
]


@pytest.mark.parametrize(("kind", "sql_type", "values"), ACCEPTED)
def test_postgresql_casts_what_converters_accept(kind, sql_type, values, target_url_pg):
    """No accepted text is refused by the cast, and canonical text survives it unchanged."""
    canonical, wrong = build(None, {}, Column("c", kind, sql_type, sql_type), name="c", dialect="postgresql")(values)
    assert not wrong
    with psycopg.connect(target_url_pg) as connection:
        connection.execute("SET timezone = 'UTC'")
        for text in canonical:
            again = connection.execute(f"SELECT (%s::text::{sql_type})::text", [text]).fetchall()[0][0]
            if kind in (Kind.BOOLEAN, Kind.INTEGER, Kind.UUID, Kind.DATE, Kind.BINARY, Kind.TIMESTAMP, Kind.TIMESTAMP_TZ, Kind.TIME):
                assert again == text
            assert connection.execute(f"SELECT %s::text::{sql_type}::text = %s::text::{sql_type}::text", [again, text]).fetchall()[0][0]


ODD_TEXTS = st.one_of(
    st.text(st.sampled_from("0123456789.e+- x"), max_size=12),
    st.from_regex(r"[+-]?[0-9]{1,22}(\.[0-9]{1,3})?", fullmatch=True),
)
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**25), max_value=10**25, places=None)


@given(DECIMALS, st.sampled_from(["NUMERIC", "REAL", "INTEGER", "TEXT"]))
def test_sqlite_gives_accepted_decimals_back(number, affinity):
    """A decimal that is accepted for a column of SQLite reads back equal from it."""
    column = Column("c", Kind.DECIMAL, affinity, affinity, affinity=affinity)
    out, _ = build(None, {}, column, name="c", dialect="sqlite")([format(number, "f")[:60]])
    if out[0] is not None:
        connection = sqlite3.connect(":memory:")
        connection.execute(f"CREATE TABLE t (c {affinity})")
        connection.execute("INSERT INTO t VALUES (?)", out)
        back = connection.execute("SELECT c FROM t").fetchone()[0]
        connection.close()
        assert Decimal(repr(back) if isinstance(back, float) else back) == Decimal(out[0])


@given(ODD_TEXTS)
def test_sqlite_keeps_accepted_texts(text):
    """A text that is accepted for a column of SQLite that prefers numbers comes back as it was."""
    for affinity in ("NUMERIC", "INTEGER", "REAL", "TEXT"):
        out, _ = build(None, {}, Column("c", Kind.OTHER, affinity, affinity, affinity=affinity), name="c", dialect="sqlite")([text])
        if out[0] is not None:
            connection = sqlite3.connect(":memory:")
            connection.execute(f"CREATE TABLE t (c {affinity})")
            connection.execute("INSERT INTO t VALUES (?)", out)
            back = connection.execute("SELECT c FROM t").fetchone()[0]
            connection.close()
            assert (repr(back) if isinstance(back, float) else str(back)) == text
