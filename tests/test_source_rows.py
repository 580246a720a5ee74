"""Records of files one by one, as values by the names that their file gives its columns."""

from __future__ import annotations

import gzip
import io
import json
import tracemalloc
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest

from engine.failed import Layout, Mark, numbered_lines
from engine.readers.limits import FileRefused, Limits
from engine.source_rows import SourceRow, source_row, source_rows
from engine.workbook import workbook

INPUTS = ["code", "name"]


def found(data: bytes, lines: Iterable[tuple[int, bool]], name: str = "f.csv", most: int = 100, **layout: Any) -> list[SourceRow]:
    """Return the refused records of a file, given (line, is refused) for each of its results."""
    results = (Mark(line, is_kept) for line, is_kept in lines)
    return list(source_rows(io.BytesIO(data), name, Layout(**layout), INPUTS, results, most, Limits()))


def values(records: list[SourceRow]) -> list[tuple[int, Any]]:
    """Return each record's line and values."""
    return [(record.line, record.values) for record in records]


PLAIN = b'code,name\n1,"two\nlines"\n2,b\n\n3,"c\r\nd"\n4,e'


def test_records_of_delimited_text() -> None:
    """Each refused record has its own values, over several lines too; what was not refused is left out."""
    told = found(PLAIN, [(2, True), (4, False), (6, True), (8, True)])
    assert values(told) == [
        (2, {"code": "1", "name": "two\nlines"}), (6, {"code": "3", "name": "c\r\nd"}), (8, {"code": "4", "name": "e"}),
    ]  # fmt: skip
    assert values(found(PLAIN, [(2, True), (4, True), (6, True), (8, True)], most=2))[-1] == (4, {"code": "2", "name": "b"})
    assert found(PLAIN, []) == []


@pytest.mark.parametrize(
    ("data", "layout"),
    [
        (b"code;name\n1;a\n", {"separator": ";"}),
        (b"sep=;\ncode;name\n1;a\n", {}),
        (b"\xef\xbb\xbfcode,name\n1,a\n", {}),
        ("code,name\n1,a\n".encode("utf-16"), {"encoding": "utf-16"}),
        (b"*code, * name \n1,a\n", {}),
        (b"\n\ncode,name\n\n1,a\n", {}),
        (b"code,name\r\n1,a\r\n", {}),
        (b'"code",\'name\n1,a\n', {"names": ["code", "'name"]}),
        (b"1,a\n", {"has_header": False}),
        (b"code,name\n'1','a'\n", {"quote": "'"}),
        (gzip.compress(b"code,name\n1,a\n", mtime=0), {"file": "f.csv.gz"}),
    ],
)
def test_headers_of_all_kinds(data: bytes, layout: dict[str, Any]) -> None:
    """The header is read as the reader reads it: separator line, byte order mark, stars, blank lines before it, or none at all."""
    names, file = layout.pop("names", INPUTS), layout.pop("file", "f.csv")
    text = data if file == "f.csv" else gzip.decompress(data)
    line = (
        text.decode(layout.get("encoding", "utf-8"))
        .splitlines()
        .index("'1','a'" if layout.get("quote") == "'" else "1;a" if b";a" in text else "1,a")
    )
    assert values(found(data, [(line + 1, True)], file, **layout)) == [(line + 1, dict(zip(names, ["1", "a"], strict=True)))]


def test_other_encodings() -> None:
    """Values have the characters of the file's encoding; bytes that are none are told as such."""
    assert values(found("code,name\n1,é\n".encode("cp1252"), [(2, True)], encoding="cp1252")) == [(2, {"code": "1", "name": "é"})]
    assert values(found("code,name\n1,é\n".encode(), [(2, True)])) == [(2, {"code": "1", "name": "é"})]
    assert values(found(b"code,name\n1,\xff\n", [(2, True)])) == [(2, {"code": "1", "name": "\ufffd"})]


def test_rows_that_cannot_be_read() -> None:
    """A row of another width, or with a stray quote, has no values but its text, of which a long one shows its beginning."""
    told = found(b'code,name\n1\n2,"x\n3,a,b\n4,d\n', [(2, True), (3, True), (4, True), (5, True)])
    assert [(r.values, r.shown) for r in told] == [(None, "1"), (None, '2,"x'), (None, "3,a,b"), ({"code": "4", "name": "d"}, "4,d")]
    long = found(b"code,name\n" + b"x" * 500_000 + b"\n2,b\n", [(2, True), (3, True)])
    assert (long[0].values, len(long[0].shown)) == (None, 1000) and len(long[0].text) < 200_000
    assert long[1].values == {"code": "2", "name": "b"}


def test_records_of_json_lines() -> None:
    """Values have JSON's types; a line that is no object has none."""
    rows = [{"code": 1, "name": None, "more": [True, {"a": 1.5}]}, {"code": "2"}]
    data = "\n".join([json.dumps(rows[0]), "[1]", "", "{bad", json.dumps(rows[1]), '{"code": NaN}', "[" * 5000]).encode()
    told = found(data, [(n, True) for n in (1, 2, 4, 5, 6, 7)], is_json_lines=True)
    assert values(told) == [(1, rows[0]), (2, None), (4, None), (5, rows[1]), (6, None), (7, None)]
    assert (told[0].text, told[1].shown) == (json.dumps(rows[0]), "[1]")


def test_records_of_a_json_array() -> None:
    """Elements are told by their number, however the array is laid out."""
    rows: list[Any] = [{"code": n, "name": 'a,]}"{[\\'} for n in range(1, 6)]
    for data in (json.dumps(rows), json.dumps(rows, indent=3), json.dumps(rows, separators=(",", ":"))):
        told = found(data.encode(), [(n, n in (2, 5)) for n in range(1, 6)], is_array=True)
        assert values(told) == [(2, rows[1]), (5, rows[4])]
        assert values(found(data.encode(), [(n, True) for n in range(1, 6)], most=1, is_array=True)) == [(1, rows[0])]


def test_records_of_a_sheet() -> None:
    """Rows of a workbook are told by the sheet's own numbers; cells that the file leaves out are empty."""
    book = b"".join(workbook([[], ["*code", "name"], ["1", "a"], [], ["2"]]))
    told = found(book, [(3, True), (5, True)], "f.xlsx", is_sheet=True)
    assert values(told) == [(3, {"code": "1", "name": "a"}), (5, {"code": "2", "name": ""})]
    assert values(found(book, [(3, True), (5, True)], "f.xlsx", is_sheet=True, has_header=False))[0] == (3, {"code": "1", "name": "a"})
    assert len(found(book, [(3, True), (5, True)], "f.xlsx", most=1, is_sheet=True)) == 1
    with pytest.raises(FileRefused):
        found(b"no workbook", [(1, True)], "f.xlsx", is_sheet=True)


def test_reading_ends_with_the_last_record_wanted() -> None:
    """Of a long file no more is read than to the last record that is asked for, and memory stays flat on the way to it."""
    data = b"code,name\n" + b"1,some name of an airline\n" * 400_000

    def refused() -> Iterator[Mark]:
        yield from (Mark(line, line in (2, 390_000)) for line in range(2, 400_002))

    for most in (1, 2):
        stream = io.BytesIO(data)
        tracemalloc.start()
        records = list(source_rows(stream, "f.csv", Layout(), INPUTS, refused(), most, Limits()))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert [record.line for record in records] == [2, 390_000][:most]
        assert (stream.tell() < 1_000_000) == (most == 1) and peak < 4_000_000


CSV = b'\xef\xbb\xbfcode,*name\r\na,"two\r\nlines"\r\nb,x\r\nc,"y, z"\r\n'
BOOK = b"".join(workbook([["*code", "name"], ["a", "x"], ["b"]]))


def shown(data: bytes, line: int, name: str = "f.csv", inputs: Sequence[str] = (), **layout: Any) -> list[tuple[str, str]] | None:
    """Return what a page shows of the record of a line."""
    row = source_row(io.BytesIO(data), name, Layout(**layout), inputs, line, Limits())
    return row and row.shown_cells()


@pytest.mark.parametrize(
    ("data", "name", "layout", "line", "cells"),
    [
        (CSV, "f.csv", {}, 2, [("code", "a"), ("name", "two\r\nlines")]),
        (CSV, "f.csv", {}, 5, [("code", "c"), ("name", "y, z")]),
        (gzip.compress(CSV, mtime=0), "f.csv.gz", {}, 4, [("code", "b"), ("name", "x")]),
        (b"k;n\n\xe9;2;3\n", "f.csv", {"encoding": "latin-1", "separator": ";"}, 2, [("k", "é"), ("n", "2"), ("", "3")]),
        ("k,n\né,2\n".encode("utf-16"), "f.csv", {"encoding": "utf-16"}, 2, [("k", "é"), ("n", "2")]),
        (b"#Thing,Insert\nx,1\n", "f.csv", {"is_multi_entity": True}, 2, [("", "x"), ("", "1")]),
        (b"a,b\n1,2\n", "f.csv", {"has_header": False}, 1, [("", "a"), ("", "b")]),
        (b'k\n"a" b\nc\n', "f.csv", {}, 2, [("", '"a" b')]),
        (b"k,n\n" + b"x,1\n" * 500 + b"y,2\n" + b"x,1\n" * 500, "f.csv", {}, 502, [("k", "y"), ("n", "2")]),
        (b'[{"k": "a"}, {"k": 2, "m": null}]', "f.json", {"is_array": True}, 2, [("k", "2"), ("m", "null")]),
        (gzip.compress(b'[{"k": "a"}, {"k": 2}]'), "f.json.gz", {"is_array": True}, 2, [("k", "2")]),
        (b'{"k": "a"}\nbroken\n', "f.jsonl", {"is_json_lines": True}, 1, [("k", "a")]),
        (b'{"k": "a"}\nbroken\n', "f.jsonl", {"is_json_lines": True}, 2, [("", "broken")]),
        (BOOK, "f.xlsx", {"is_sheet": True}, 2, [("code", "a"), ("name", "x")]),
        (BOOK, "f.xlsx", {"is_sheet": True}, 3, [("code", "b"), ("name", "")]),
        (BOOK, "f.xlsx", {"is_sheet": True, "is_multi_entity": True}, 1, [("", "*code"), ("", "name")]),
    ],
)
def test_a_row_as_it_stands(data: bytes, name: str, layout: dict[str, Any], line: int, cells: list[tuple[str, str]]) -> None:
    """A record is shown cell by cell under its columns' names, whatever its file is like, by the line where it begins."""
    assert shown(data, line, name, **layout) == cells


def test_rows_that_are_not_there() -> None:
    """A line behind the file's end shows nothing."""
    assert shown(CSV, 99) is None and shown(b"", 2) is None and shown(b"[]", 1, is_array=True) is None
    assert shown(BOOK, 9, "f.xlsx", is_sheet=True) is None and shown(b"{}\n", 3, is_json_lines=True) is None


def test_cells_are_cut() -> None:
    """Of a very long cell, or row, so much is shown as fits a page."""
    cells = shown(b"k\n" + b"x" * 5000 + b",1" * 500 + b"\n", 2)
    assert cells and len(cells) == 200 and cells[0] == ("k", "x" * 200)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\r\r\n"])
def test_a_row_far_down(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is far down is found by counting line ends, wherever blocks end: its row is the one that reading line by line finds."""
    text = "k,n" + end + "".join(f'{n},"{"x" * (n % 7)}"{end}' for n in range(2, 130))
    lines = [number for number, _ in numbered_lines(io.TextIOWrapper(io.BytesIO(text.encode()), newline=""))]
    for size in (16, 17, 4096):
        monkeypatch.setattr("engine.source_rows._BLOCK_BYTES", size)
        for line in (101, 102, 103, lines[-1]):
            far = source_row(io.BytesIO(text.encode()), "f.csv", Layout(), (), line, Limits())
            near = next(
                source_rows(io.BytesIO(text.encode()), "f.csv", Layout(), (), iter([Mark(line, True), Mark(line + 1, False)]), 1, Limits())
            )
            assert (far and far.cells) == near.cells
