"""Searching results: whatever is sought, what is found is what looking at every line finds."""

from __future__ import annotations

import csv
import json
from io import StringIO

from hypothesis import given, settings, strategies as st

from engine.results import HEADER, OUTCOMES, cell
from engine.searching import Wanted, matching, search

TEXTS = st.one_of(st.sampled_from(["", "a", 'quo"te', "back\\slash", "com,ma", "Error", "é", "A"]), st.text('aA",\\é ,:{}', max_size=6))
VALUES = st.dictionaries(TEXTS.filter(bool), TEXTS, max_size=2)
CODES = [code for codes in OUTCOMES.values() for code in codes]
ROWS = st.lists(
    st.tuples(
        st.sampled_from(["Core_Created", "Core_Data_Bad", *CODES]), TEXTS, st.sampled_from(["Information", "Error"]), st.integers(1, 99),
        st.one_of(VALUES, VALUES.map(lambda values: {"changed": values})), st.sampled_from(["", "7"]), st.sampled_from(["a.csv", "b.csv"]),
    ),
    max_size=12,
)  # fmt: skip


def written(rows: list[tuple]) -> bytes:
    """Return results as the engine writes them."""
    out = [
        f"{code},{cell(message)},{severity},{line},{cell(json.dumps(values, ensure_ascii=False)) if values else ''},{row_id},{file}\n"
        for code, message, severity, line, values, row_id, file in rows
    ]
    return HEADER + "".join(out).encode()


@given(
    ROWS, TEXTS, TEXTS, st.sampled_from([None, "Error"]), st.sampled_from([None, "Core_Created"]), st.sampled_from([None, *OUTCOMES]),
    st.integers(1, 4), st.integers(1, 80),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_searching_finds_what_looking_finds(
    rows: list[tuple], text: str, column: str, severity: str | None, code: str | None, outcome: str | None, most: int, cut: int
) -> None:
    """Pages of any size, of results in pieces of any size, together are the rows that each filter lets through, in order."""
    log = written(rows)
    wanted = Wanted(severity, code, column or None, text or None, outcome)
    lines = log.splitlines(keepends=True)
    expected = [row for row in csv.reader(StringIO(log.decode(), newline="")) if wanted.lets_through(row)]
    pieces = [b"".join(lines[at : at + cut]) for at in range(0, len(lines), cut)]
    assert list(matching(pieces, wanted)) == expected
    found: list[list[str]] = []
    position, is_end = 0, False
    while not is_end:
        page = search(iter([log[position:]]), position, wanted, most, 60)
        assert len(page.rows) <= most
        found, position, is_end = found + page.rows, page.position, page.is_end
    assert found == expected


def test_a_search_shows_what_it_has_in_time() -> None:
    """A search that takes long stops at the end of a piece, and the next one goes on exactly there."""
    log = written([("Core_Created", "x", "Information", 1, {}, "", "a.csv")] * 10)
    pieces = [log[: len(log) // 2 - (len(log) // 2 - len(HEADER)) % ((len(log) - len(HEADER)) // 10)]]
    pieces.append(log[len(pieces[0]) :])
    first = search(iter(pieces), 0, Wanted(code="Core_Data_Bad"), 5, 0)
    assert first == type(first)([], len(pieces[0]), False)
    assert search(iter(pieces[1:]), first.position, Wanted(code="Core_Data_Bad"), 5, 60).is_end
