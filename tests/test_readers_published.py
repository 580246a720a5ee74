"""Reading compared: with published cases, with Python's csv, with what PostgreSQL's COPY makes of the same bytes."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st

from engine.plan import Action, EntityPlan
from engine.tables import Column, Kind, Table
from tests.reader_parts import chunks, row, told

CASES = Path(__file__).parent / "data" / "csv-spectrum"


@pytest.mark.parametrize("trickle", [None, 1])
@pytest.mark.parametrize("case", sorted(CASES.glob("csvs/*.csv")), ids=lambda path: path.stem)
def test_published_cases(case: Path, trickle: int | None) -> None:
    """Each file of csv-spectrum reads as its authors say (T66, T68)."""
    expected = json.loads((CASES / "json" / f"{case.stem}.json").read_text(encoding="utf-8"))
    expected = expected if isinstance(expected, list) else [expected]
    if case.stem == "location_coordinates":  # where the two published files tell different numbers
        expected[0]["Contact Phone Number"] = "2095257564"
    names = tuple(expected[0])
    entity = EntityPlan("T", Table(None, "t", {name: Column(name, Kind.TEXT, "text", "text") for name in names}), names, ())
    found = told(chunks(case.read_bytes(), entity=entity, action=Action.MERGE, trickle=trickle))
    assert [values for _, values in found] == expected


def test_there_are_published_cases() -> None:
    """The test before this one finds its files."""
    assert len(list(CASES.glob("csvs/*.csv"))) == len(list(CASES.glob("json/*.json"))) == 12


NAUGHTY = (
    "", " ", "\t", '"', '""', "'", ",", ";", "|", "\\", "\\N", "\\.", "NULL", "null", "None", "N/A", "#N/A", "-", "--", "007", "+1",
    "1e5", "0x10", "1_000", "1,5", "TRUE", "no", "NaN", "Infinity", "2024-02-30", "01/02/03", "=1+1", "@x", "-5", "\uff1d1", "ä",
    "a\u0308", "ß", "İ", "\u200b", "\xa0", "\u202eabc", "\ufeff", "\ufffd", "\ufffe", "\U0001f468\u200d\U0001f469", "\u2028", "\x85",
    "\x01", "\x1b[31m", "\x7f", "sep=;", "#Entity", "!x", "<script>alert(1)</script>", "' OR 1=1 --", "${jndi:ldap://x}", "{{7*7}}",
    "%s%n", "../../etc/passwd", "CON", "ﷺ", "田中さん", "x" * 300, "line\nbreak", "line\r\nbreak", "line\rbreak", "\n", "\r", "\r\n",
    ' "x" ',
    "a,b\nc,d", '"\n"',
)  # fmt: skip
CELL = st.one_of(st.sampled_from(NAUGHTY), st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6))
ROWS = st.lists(st.tuples(CELL, CELL, CELL), max_size=8)


@settings(max_examples=150, deadline=None)
@example(rows=[(a, b, "x") for a, b in zip(NAUGHTY, reversed(NAUGHTY), strict=True)], way=(csv.QUOTE_MINIMAL, "\r\n"), size=7)
@example(rows=[(a, "x", a) for a in NAUGHTY], way=(csv.QUOTE_ALL, "\n"), size=5000)
@given(ROWS, st.sampled_from([(csv.QUOTE_MINIMAL, "\r\n"), (csv.QUOTE_ALL, "\n"), (csv.QUOTE_ALL, "\r\n")]), st.integers(1, 5))
def test_naughty_values_come_out_as_they_went_in(rows: list[tuple[str, str, str]], way: tuple[int, str], size: int) -> None:
    """Whatever Python's csv wrote is read to the character, and as Python's csv reads it (T68, T69)."""
    text = io.StringIO(newline="")
    csv.writer(text, quoting=way[0], lineterminator=way[1]).writerows([("a", "b", "c"), *rows])  # type: ignore[arg-type]
    assert list(csv.reader(io.StringIO(text.getvalue(), newline=""), strict=True))[1:] == list(map(list, rows))
    assert [values for _, values in told(chunks(text.getvalue(), chunk_records=size))] == [row(*cells) for cells in rows]


def copied(url: str, data: bytes) -> list[tuple[str, ...]] | None:
    """Return what COPY reads, or None where it refuses the file."""
    with psycopg.connect(url) as server:
        server.execute("CREATE TEMP TABLE t(n serial, a text, b text, c text)")
        try:
            with server.cursor().copy("COPY t(a, b, c) FROM STDIN WITH (FORMAT csv, HEADER true, NULL '\\N')") as copy:
                copy.write(data)
        except psycopg.Error:
            return None
        return server.execute("SELECT coalesce(a, ''), coalesce(b, ''), coalesce(c, '') FROM t ORDER BY n").fetchall()


def test_good_files_read_as_copy_reads_them(pg_database: str) -> None:
    """A file that PostgreSQL takes, and that keeps to the rules, gives the same cells (T68)."""
    kept = [value for value in NAUGHTY if value not in ("\\N", "\\.")]  # which COPY takes for something else
    cell = st.one_of(st.sampled_from(kept), st.text('ab,"\n;', max_size=5))

    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @example([(value, "x", value) for value in kept])
    @given(st.lists(st.tuples(cell, cell, cell), max_size=6))
    def compare(rows: list[tuple[str, str, str]]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows([("a", "b", "c"), *rows])
        by_copy = copied(pg_database, text.getvalue().encode())
        assert by_copy == rows
        assert [tuple(values.values()) for _, values in told(chunks(text.getvalue()))] == by_copy

    compare()


def test_what_copy_refuses_costs_a_line(pg_database: str) -> None:
    """Where COPY loses the whole file, each good line is read all the same, as COPY reads it alone (T69)."""
    pieces = {
        "1,2,3\n": row("1", "2", "3"), '"x\ny",2,""\n': row("x\ny", "2", ""), "1,2\n": None, "1,2,3,4\n": None,
        '1,"x"y,3\n': None, "1,\0,3\n": None, '1,"2,3\n': None,
    }  # fmt: skip

    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.lists(st.sampled_from(list(pieces)), max_size=5))
    def compare(lines: list[str]) -> None:
        if '1,"2,3\n' in lines[:-1]:
            return  # its quote may close in a later line, which then is no line of its own
        text = "a,b,c\n" + "".join(lines)
        ours = [values if isinstance(values, dict) else None for _, values in told(chunks(text))]
        assert ours == [pieces[line] for line in lines]
        by_copy = copied(pg_database, text.encode())
        assert by_copy == ([tuple(values.values()) for values in ours if values] if None not in ours else by_copy)
        assert by_copy is None or None not in ours or '1,"x"y,3\n' in lines  # which COPY reads as 1,xy,3

    compare()
