"""Rows as they stand in their file: on the page of a line, in downloads, and what of them a masked column hides."""

from __future__ import annotations

import gzip
import json
from io import BytesIO

import pytest

from engine.workbook import workbook
from tests.pages_parts import Person, words
from tests.security_parts import imported, work_off
from tests.web_parts import CONTROL, Web, lite

__all__ = ["lite"]

# The file calls the columns by other names than the table does.
NAMED = b"""\
name: named
files:
  %s: {entity: Airline, action: Merge}
entities:
- entity: Airline
  table: airlines
  input: [code, title]
  mappings:
  - carrier: {input: code}
  - name: {input: title}
"""
ROWS = [{"code": "AA", "title": "One"}, {"code": "TOOLONG", "title": "T,wo"}]
CSV = b'code,title\nAA,One\nTOOLONG,"T,wo"\n'
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
MARKED = '<th scope="col">code</th><th scope="col">title</th></tr></thead>\n<tbody><tr><td><mark>TOOLONG</mark></td><td>T,wo</td></tr>'


@pytest.mark.parametrize(
    ("name", "data", "line"),
    [
        ("f.csv", CSV, 3),
        ("f.csv.gz", gzip.compress(CSV), 3),
        ("f.jsonl", LINES, 2),
        ("f.json", json.dumps(ROWS).encode(), 2),
        ("f.json.gz", gzip.compress(json.dumps(ROWS, indent=1).encode()), 2),
        ("f.xlsx", b"".join(workbook([["code", "*title"], ["AA", "One"], [], ["TOOLONG", "T,wo"]])), 4),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_culprit_is_marked_in_every_format(lite: Web, name: str, data: bytes, line: int) -> None:
    """An error opens its row whatever the file is, compressed too, under the file's own names, with the cell at fault marked."""
    batch = imported(lite, data, name, NAMED % name.encode())
    person = Person(lite, lite.key)
    errors = person.get(f"/imports/{batch}/errors").text
    row = f"/imports/{batch}/row?file={name}&line={line}&column=carrier&run=import"
    assert row.replace("&", "&amp;") in errors
    assert MARKED in person.get(row).text
    assert "There is no such row" in person.get(row.replace(f"line={line}", "line=99")).text


def test_rows_that_name_their_entity(lite: Web) -> None:
    """A row of the multi-entity form is shown by its cells; a record of a collection by its properties' names."""
    batch = imported(
        lite,
        b"!Airline,Merge\nTOOLONG,Two\n",
        "f.csv",
        CONTROL.replace(b"airlines.csv: {entity: Airline, action: Merge, required: true}", b"f.csv: {}"),
    )
    person = Person(lite, lite.key)
    assert "<td>TOOLONG</td><td>Two</td>" in person.get(f"/imports/{batch}/row?file=f.csv&line=2").text
    records = [{"entityType": "Airlines", "action": "Merge", "properties": {"carrier": "TOOLONG", "name": {"value": "x"}}}]
    kind = "application/vnd.onkey.entityimportcollection+json"
    made = lite.post("/api/import", json.dumps(records), content_type=kind).text
    work_off(lite)
    shown = person.get(f"/imports/{made}/row?file=records.json&line=1&column=carrier").text
    assert '<th scope="col">carrier</th>' in shown and "<mark>TOOLONG</mark>" in shown


def test_many_errors_are_rolled_up_as_far_as_there_is_time(lite: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of very many refused rows the page rolls up the first, and says so."""
    monkeypatch.setattr("pages.log._ERRORS", 2)
    batch = imported(lite, b"carrier,name\nTOOLONG,a\nTOOLONG,b\n,c\n", "airlines.csv", CONTROL)
    page = Person(lite, lite.key).get(f"/imports/{batch}/errors")
    assert "Of the first 2 refused rows: 2 " in words(page) and page.text.count("<details") == 1


MASKED = CONTROL.replace(b"  - name:\n", b"  - name: {masked: true}\n")
SECRET = b'carrier,name\nTOOLONG,first-secret\nAA,"second-secret" x\nBB,third-secret,more\n'


def test_what_a_masked_column_holds_is_on_no_page(lite: Web) -> None:
    """The row of a line shows `***` for it, and for all of a row that cannot be read; nor is it elsewhere (T82)."""
    batch = imported(lite, SECRET, "airlines.csv", MASKED)
    person = Person(lite, lite.key)
    pages = [person.get(f"/imports/{batch}{rest}").text for rest in ("", "/log", "/errors", "/missing")]
    pages += [person.get(f"/imports/{batch}/row?file=airlines.csv&line={line}&column=carrier").text for line in (2, 3, 4)]
    assert not [page for page in pages if "secret" in page]
    assert "<td><mark>TOOLONG</mark></td><td>***</td>" in pages[-3] and "<td>***</td>" in pages[-2] and "AA" not in pages[-2]
    assert "TOOLONG" not in pages[-1] and "more" not in pages[-1]


def test_rows_of_a_masked_multi_entity_file_are_not_shown(lite: Web) -> None:
    """Where rows say themselves what they are, and a column is masked, the page shows none of them (T82)."""
    control = MASKED.replace(b"airlines.csv: {entity: Airline, action: Merge, required: true}", b"f.csv: {}")
    batch = imported(lite, b"!Airline,Merge\nTOOLONG,a-secret\n", "f.csv", control)
    shown = Person(lite, lite.key).get(f"/imports/{batch}/row?file=f.csv&line=2").text
    assert "secret" not in shown and "masks a column" in shown


def test_masked_rows_as_they_stand_are_for_those_who_may_import(lite: Web) -> None:
    """Refused rows and the file itself, which hold what is masked, are given to keys that may import; to others of other files (T82)."""
    batch = imported(lite, SECRET, "airlines.csv", MASKED)
    reader = lite.new_key("read:all")
    digest = lite.get(f"/api/batch/{batch}", headers={"Accept": "application/json"}).get_json()["files"][0]["digest"]
    whole = (f"/api/batch/{batch}/failed/airlines.csv", f"/api/file/{digest}/content")
    for path in whole:
        assert b"first-secret" in lite.get(path, buffered=True).data and lite.get(path, reader).status_code == 403
        assert "may import" in lite.get(path, reader).text
    person = Person(lite, reader)
    for path in (f"/imports/{batch}/failed/airlines.csv", f"/imports/{batch}/content/{digest}"):
        assert person.get(path).status_code == 403
    assert lite.get(f"/api/batch/{batch}/failed/airlines.csv/reasons", reader, buffered=True).status_code == 200
    plain = imported(lite, b"carrier,name\nTOOLONG,open\n", "airlines.csv", CONTROL)
    assert b"open" in lite.get(f"/api/batch/{plain}/failed/airlines.csv", reader, buffered=True).data


def test_a_file_that_any_control_file_masks(lite: Web) -> None:
    """A file that one batch reads without a mask, and another with one, is masked (T82)."""
    lite.control(CONTROL.replace(b"name: airlines", b"name: open"))
    lite.control(MASKED.replace(b"name: airlines", b"name: hidden"))
    data = b"carrier,name\nAA,One\n"
    sent = {"batch": "", "name": "airlines.csv"}
    for name in ("open", "hidden"):
        batch = lite.post("/api/batch", {"control": name}).text
        digest = lite.post("/api/file", sent | {"batch": batch, "file": (BytesIO(data), "a.csv")}).text
        status = lite.get(f"/api/file/{digest}/content", lite.new_key("read:all"), buffered=True).status_code
        assert status == (200 if name == "open" else 403)
