"""Refused records as they stood in their file; errors rolled up; cells that a spreadsheet would run."""

import csv
import gzip
import io
import json
import tracemalloc
from collections.abc import Iterable

import pytest
from backports import zstd
from hypothesis import given, strategies as st

from engine import failed
from engine.failed import Layout, Mark
from engine.readers.limits import FileRefused, Limits
from engine.rollup import roll_up
from engine.spreadsheet import neutral

LIMITS = Limits()


def extract(data: bytes, marks: Iterable[tuple[int, bool]], name: str = "f.csv", **layout: object) -> bytes:
    """Return what is kept of a file, given (line, is kept) for each of its results."""
    results = iter([Mark(line, is_kept) for line, is_kept in marks])
    return b"".join(failed.refused(io.BytesIO(data), name, Layout(**layout), results, LIMITS))  # type: ignore[arg-type]


PLAIN = b'code,name\n1,"two\nlines"\n2,b\n\n3,"c\r\nd"\n4,e'


@pytest.mark.parametrize(
    ("refused", "kept"),
    [
        ((), b"code,name\n"),
        ((2,), b'code,name\n1,"two\nlines"\n'),
        ((4,), b"code,name\n2,b\n\n"),
        ((6,), b'code,name\n3,"c\r\nd"\n'),
        ((8,), b"code,name\n4,e"),
        ((2, 4, 6, 8), PLAIN),
    ],
)
def test_a_refused_record_keeps_all_its_lines(refused: tuple[int, ...], kept: bytes) -> None:
    """The header, and each refused record from its first line to where the next one begins, come out byte for byte."""
    assert extract(PLAIN, [(line, line in refused) for line in (2, 4, 6, 8)]) == kept


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress])
def test_compressed_files_come_out_plain(pack: object) -> None:
    """The name's ending tells how a file is compressed, in any case of letters."""
    name = "f.csv.GZ" if pack is gzip.compress else "f.csv.zst"
    assert extract(pack(PLAIN), [(2, False), (4, True), (6, False), (8, False)], name) == b"code,name\n2,b\n\n"  # type: ignore[operator]


def test_a_file_that_cannot_be_decompressed_is_refused() -> None:
    """Broken compression is told as such."""
    with pytest.raises(FileRefused, match="decompress"):
        extract(gzip.compress(PLAIN)[:-9], [(2, True)], "f.csv.gz")


def test_lone_carriage_returns_are_line_ends() -> None:
    """Lines are counted as the reader counts them: LF, CRLF and CR each end one."""
    assert extract(b"h\ra\rb\r\nc\n", [(2, False), (3, True), (4, False)]) == b"h\rb\r\n"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig", "cp1252", "utf-32", "cp037"])
def test_other_encodings_keep_their_bytes(encoding: str) -> None:
    """Byte order mark and encoding stay as they were, so that the same control file reads what comes out."""
    data = "a,é\n1,ä\n2,ö\n".encode(encoding)
    kept = extract(data, [(2, False), (3, True)], encoding=encoding)
    assert kept.decode(encoding) == "a,é\n2,ö\n"
    assert data.startswith(kept[: len("a,é\n".encode(encoding))])


def test_wrong_bytes_come_out_as_they_went_in() -> None:
    """A line that is no UTF-8 is given back with its wrong bytes (T66)."""
    assert extract(b"h\n\xff\xfe\x00x\nok\n", [(2, True), (3, False)]) == b"h\n\xff\xfe\x00x\n"


MULTI = b'!Commodity\n#Entity,Action,code\nC,Merge,1\nC,Merge,"x\n!not a group\n"\nC,Merge,2\n!Other,,\n#Entity,Action,n\nO,Merge,3\n'


def test_groups_of_the_multi_entity_form_are_kept() -> None:
    """All `!` and `#` lines stay in their places, while a `!` within a quoted value goes with its record."""
    marks = [(2, True), (3, False), (4, False), (7, False), (9, True), (10, True)]
    kept = b"!Commodity\n#Entity,Action,code\n!Other,,\n#Entity,Action,n\nO,Merge,3\n"
    assert extract(MULTI, marks, is_multi_entity=True) == kept
    marks[2] = (4, True)
    assert b'"x\n!not a group\n"\n' in extract(MULTI, marks, is_multi_entity=True)


def test_quotes_that_open_nothing_hide_no_group() -> None:
    """A quote in the middle of a value is a character like any other; a `!` line may itself be quoted; `sep=` counts."""
    data = b'!A\nC,Merge,5" pipe\n!B\nC,Merge,1\n"!C",,\nC,Merge,2\n'
    assert extract(data, [(2, False), (4, False), (6, False)], is_multi_entity=True) == b'!A\n!B\n"!C",,\n'
    data = b'sep=;\nC;Merge;"a ""quoted""\n!x;""";"\n!y"\n!B\nC;Merge;1\n'
    assert extract(data, [(2, False), (6, False)], is_multi_entity=True) == b"sep=;\n!B\n"
    assert extract(b'!A\nC,"\n!B\nD,1\n', [(2, False), (4, False)], is_multi_entity=True, quote="") == b"!A\n!B\n"


def test_marks_are_those_of_the_file() -> None:
    """Only the results of this file count; errors and `#` lines are kept, warnings and successes are not."""
    rows = [
        ["Core_Data_RecordCreated", "", "Information", "2", "", "7", "a.csv"],
        ["Core_ImportFile_SkippedHeaderLine", "", "Information", "3", "", "", "a.csv"],
        ["X", "", "Error", "4", "", "", "b.csv"],
        ["X", "", "Error", "5", "", "", "a.csv"],
        ["X", "", "Warning", "6", "", "", "a.csv"],
    ]
    assert list(failed.marks(rows, "a.csv")) == [(2, False), (3, True), (5, True), (6, False)]


@given(
    rows=st.lists(st.tuples(st.lists(st.text(alphabet='ab"\n\r,;é', max_size=5), min_size=2, max_size=3), st.booleans()), max_size=12),
    newline=st.sampled_from(["\n", "\r\n", "\r"]),
    piece=st.integers(1, 7),
)
def test_what_is_kept_is_what_csv_reads(rows: list[tuple[list[str], bool]], newline: str, piece: int) -> None:
    """Whatever the values hold, reading what is kept gives exactly the header and the refused records, at any size of pieces."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator=newline, quoting=csv.QUOTE_ALL)
    lines, marks = 1, []
    for row, is_refused in [(["h", "i"], True), *rows]:
        before = out.tell()
        writer.writerow(row)
        out.seek(before)
        marks.append((lines, is_refused))
        lines += len(list(io.StringIO(out.read(), newline="")))
    before_pieces, failed._PIECE_CHARACTERS = failed._PIECE_CHARACTERS, piece
    try:
        kept = extract(out.getvalue().encode(), marks[1:])
    finally:
        failed._PIECE_CHARACTERS = before_pieces
    assert list(csv.reader(io.StringIO(kept.decode(), newline=""))) == [["h", "i"], *(row for row, is_refused in rows if is_refused)]


JSON = st.recursive(
    st.none() | st.integers() | st.text(alphabet='a"\\[]{},: é', max_size=6), lambda c: st.lists(c) | st.dictionaries(st.text(), c)
)


@given(elements=st.lists(st.tuples(JSON, st.booleans()), max_size=8), indent=st.sampled_from([None, 2]), block=st.integers(1, 9))
def test_elements_of_a_json_array(elements: list[tuple[object, bool]], indent: int | None, block: int) -> None:
    """The refused elements of an array come out as an array, wherever the blocks of the file end."""
    data = json.dumps([e for e, _ in elements], indent=indent, ensure_ascii=False).encode()
    before, failed._BLOCK_BYTES = failed._BLOCK_BYTES, block
    try:
        kept = extract(data, [(n, is_refused) for n, (_, is_refused) in enumerate(elements, 1)], "f.json", is_array=True)
    finally:
        failed._BLOCK_BYTES = before
    assert json.loads(kept) == [e for e, is_refused in elements if is_refused]


def test_what_is_no_array_has_no_elements() -> None:
    """A JSON file whose root is an object, or no JSON at all, gives an empty array; a cut-off one what there is."""
    assert extract(b'{"a": [1, 2], "b": 3}', [(1, True)], "f.json", is_array=True) == b"[]\n"
    assert extract(b"", [(1, True)], "f.json", is_array=True) == b"[]\n"
    assert extract(b'[1, {"a": "x', [(1, False), (2, True)], "f.json", is_array=True) == b'[\n{"a": "x\n]\n'


def test_memory_stays_flat() -> None:
    """Neither many lines nor one endless line, nor an endless element, makes memory grow."""
    many = io.BytesIO(b"h\n" + b"1,some value,another\n" * 500_000)
    endless = io.BytesIO(b"h\n" + b"x" * 30_000_000)
    element = io.BytesIO(b'[{"a": "' + b"x" * 30_000_000)
    tracemalloc.start()
    for stream, layout in ((many, Layout()), (endless, Layout(is_multi_entity=True)), (element, Layout(is_array=True))):
        marks = (Mark(line, True) for line in range(2 - layout.is_array, 500_002))
        assert sum(map(len, failed.refused(stream, "f", layout, marks, LIMITS))) > 10_000_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6_000_000


def row(code: str, column: str = "", value: str = "", severity: str = "Error", line: int = 1) -> list[str]:
    """Return a row of the results."""
    return [code, f"{code} of {value}", severity, str(line), json.dumps({column: value}) if column else "", "", "f.csv"]


def test_errors_are_rolled_up() -> None:
    """Equal errors are one group with their number, their first five lines and one example; others do not count."""
    rows = [row("A", "c", "x", line=n) for n in range(2, 9)] + [row("B", line=9), row("W", severity="Warning"), row("A", "c", "y", line=10)]
    groups = roll_up(rows)
    assert [(g.code, g.column, g.value, g.count) for g in groups] == [("A", "c", "x", 7), ("B", "", "", 1), ("A", "c", "y", 1)]
    assert groups[0].lines == [("f.csv", n) for n in range(2, 7)]
    assert groups[0].example == "A of x"


def test_rolling_up_is_bounded() -> None:
    """Beyond the limit values are summed by code, every error is counted, and no long value is kept whole."""
    groups = roll_up([row("A", "c", str(n)) for n in range(50)] + [row("B", "d", "z" * 9999)], max_groups=10)
    assert sum(g.count for g in groups) == 51
    assert [(g.code, g.column, g.value, g.count) for g in groups if g.value is None] == [("A", "", None, 40), ("B", "", None, 1)]
    assert len(groups) == 12
    assert len(roll_up([row("B", "d", "z" * 9999)])[0].value or "") == 200


@pytest.mark.parametrize("start", [*"=+-@\t\r\n＝＋－＠"])  # noqa: RUF001
def test_cells_that_would_run_are_neutralised(start: str) -> None:
    """Whatever could start a formula gets an apostrophe before it, also behind a semicolon that would start a cell elsewhere (T80)."""
    assert neutral(f"{start}cmd|' /C calc'!A0") == f"'{start}cmd|' /C calc'!A0"
    if start not in "\t\r\n":
        assert neutral(f"x;{start}cmd") == f"x;'{start}cmd"


@pytest.mark.parametrize("cell", ["-5", "+5", "-1.234,56", "1e-5", "-.5", "", "a-b", "plain text", "Ä=1", "2024-01-01", "a; -5"])
def test_harmless_cells_stay(cell: str) -> None:
    """Numbers, also negative ones, and text stay what they are (T80)."""
    assert neutral(cell) == cell
