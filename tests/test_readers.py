"""Readers: each line on its own, with its physical number, in chunks that are the same each time."""

import codecs
import csv
import gzip
import io
import resource
import tracemalloc
from typing import Any

import pytest
from backports import zstd
from hypothesis import given, settings, strategies as st

from engine import faults
from engine.plan import Action, FilePlan
from engine.readers import FileRefused, Limits, format_of, read
from tests.reader_parts import ENTITY, PLAN, chunks, facts, resumed_everywhere, row, told

MULTI = {"entity": None, "action": None}


# Delimited text ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("trickle", [None, 1, 3])
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("", []),
        ("a,b,c\n", []),
        ("a,b,c", []),
        ("\n\na,b,c\n\n1,2,3\n \n4,5,6", [(5, row("1", "2", "3")), (7, row("4", "5", "6"))]),
        ('a,b,c\n1,"x\ny",3\n4,5,6\n', [(2, row("1", "x\ny", "3")), (4, row("4", "5", "6"))]),
        ('a,b,c\r\n1,"x\r\ny",3\r\n4,5,6\r\n', [(2, row("1", "x\r\ny", "3")), (4, row("4", "5", "6"))]),
        ('a,b,c\r1,"x\ry",3\r4,5,6', [(2, row("1", "x\ry", "3")), (4, row("4", "5", "6"))]),
        ('a,b,c\n1,"x\r\r\ny",3\n4,5,6', [(2, row("1", "x\r\r\ny", "3")), (5, row("4", "5", "6"))]),
        ("C,B,a\n1,2,3\n", [(2, row("3", "2", "1"))]),
        (" a , c \n1,2\n", [(2, {"a": "1", "c": "2"})]),
        ("a,z\n1,2\n", [(2, {"a": "1"})]),
        ("z\n1\n", [(2, {})]),
        ("a,b,c\n1,2\n1,2,3,4\n1,2,3\n", [(2, faults.COLUMN_COUNT), (3, faults.COLUMN_COUNT), (4, row("1", "2", "3"))]),
        ('a,b,c\n"x"y,2,3\n4,5,6\n', [(2, faults.STRAY_QUOTE), (3, row("4", "5", "6"))]),
        ('a,b,c\n"x,2,3\n4,5,6\n7,8,9', [(2, faults.UNCLOSED_QUOTE), (3, row("4", "5", "6")), (4, row("7", "8", "9"))]),
        ('a,b,c\n1,"x,2\n4,5,6\n7,8,9"\n', [(2, faults.COLUMN_COUNT), (3, row("4", "5", "6")), (4, row("7", "8", '9"'))]),
        ("a,b,c\n1,\0,3\n4,5,6\n", [(2, faults.NUL_CHARACTER), (3, row("4", "5", "6"))]),
        (b"a,b,c\n1,\xff,3\n4,\xc3\xa4,6\n", [(2, faults.INVALID_ENCODING), (3, row("4", "ä", "6"))]),
        ("sep=;\na;b;c\n1;2;3\n", [(3, row("1", "2", "3"))]),
        ('a,b,c\n1,in"side,3\n', [(2, row("1", 'in"side', "3"))]),
    ],
)
def test_delimited_text(data, expected, trickle):
    """Each record has its first physical line, and a line that cannot be read costs only itself, however reads end (T67, T68, T69, T70)."""
    assert told(chunks(data, trickle=trickle)) == expected


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be-bom", "utf-32"])
@pytest.mark.parametrize("trickle", [None, 1, 5])
def test_byte_order_marks_win(encoding, trickle):
    """A byte order mark says the encoding, whatever the control file says (T66)."""
    text = "a,b,c\nä,😀,3\n"
    data = codecs.BOM_UTF16_BE + text.encode("utf-16-be") if encoding == "utf-16-be-bom" else text.encode(encoding)
    assert told(chunks(data, trickle=trickle, encoding="cp1252")) == [(2, row("ä", "😀", "3"))]


def test_declared_encodings():
    """Without a mark the declared encoding counts; its undefined bytes are their line's fault, named as they stand in the file (T66)."""
    found = list(chunks(b"a,b,c\n\xe4,\x80,3\n\x81,2,3\n4,5,6\n", encoding="cp1252"))
    assert told(found) == [(2, row("ä", "€", "3")), (3, faults.INVALID_ENCODING), (4, row("4", "5", "6"))]
    assert "byte 0x81" in found[0].faults[1][0].message
    odd = "a,b,c\n1,2,3\n4,5,6".encode("utf-16-le") + b"\x00"
    assert told(chunks(odd, encoding="utf-16-le")) == [(2, row("1", "2", "3")), (3, faults.INVALID_ENCODING)]


@pytest.mark.parametrize("trickle", [None, 1])
@pytest.mark.parametrize(
    ("encoding", "wrong"),
    [
        ("utf-32-le", b"\xff\xff\xff\xff"),
        ("utf-16-be", b"\xdc\x00"),
        ("shift_jis", b"\x81"),
        ("iso2022_jp", b"\x1b)" + b"\xff" * 7 + b"\0"),
        ("iso2022_jp", b"\x1b$B~~\x1b(B"),
        ("gb18030", b"\x81\x30"),
    ],
)
def test_wrong_bytes_of_any_encoding_cost_their_line(encoding, wrong, trickle):
    """What is no character of its encoding is its line's fault, never the file's, wherever reads happen to end (T66)."""
    before, after = "a,b,c\n1,".encode(encoding), ",3\n4,5,6\n".encode(encoding)
    found = list(chunks(before + wrong + after, encoding=encoding, trickle=trickle))
    assert told(found) == [(2, faults.INVALID_ENCODING), (3, row("4", "5", "6"))]
    assert f"not valid {encoding}" in found[0].faults[0][0].message


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_an_encoding_that_needs_a_mark_is_not_guessed(encoding):
    """Without its byte order mark a file in UTF-16 might mean two things, so it is refused (T66)."""
    with pytest.raises(FileRefused, match=f"{encoding}-le or {encoding}-be"):
        list(chunks("a,b,c\n1,2,3\n".encode(f"{encoding}-le"), encoding=encoding))
    assert told(chunks(b"", encoding=encoding)) == []


def test_other_separators_and_quotes():
    """TSV is told by the name; separator and quote by the control file; without a quote character quotes are letters (T67)."""
    assert told(chunks("a\tb\tc\n1\t2\t3\n", "f.TSV")) == [(2, row("1", "2", "3"))]
    assert told(chunks("a;b;c\n1;'2;2';3\n", separator=";", quote="'")) == [(2, row("1", "2;2", "3"))]
    assert told(chunks('a,b,c\n1,"2,3\n', quote="")) == [(2, row("1", '"2', "3"))]
    assert told(chunks("1,2,3\n4,5,6\n", has_header=False)) == [(1, row("1", "2", "3")), (2, row("4", "5", "6"))]


def test_extra_columns_are_a_warning():
    """Columns that no input takes are warned of once, in the first chunk."""
    found = list(chunks("a,z,y\n" + "1,2,3\n" * 5, chunk_records=2))
    assert [chunk.warnings for chunk in found] == [["the control file has no input for: z, y"], [], []]


@pytest.mark.parametrize(
    ("data", "line", "says"),
    [
        ("a,a\n1,2\n", 1, "'a' stands twice"),
        ("\na,,c\n", 2, "column 2 is blank"),
        ('"a,b\n1,2\n', 1, "cannot be read"),
        (b"a,\xff\n", 1, "byte 0xff"),
        (",".join(f"c{n}" for n in range(3_000)), 1, "3000 columns"),
    ],
)
def test_headers_that_are_not_certain_refuse_the_file(data, line, says):
    """Without certain names of columns nothing of the file is taken (T70)."""
    with pytest.raises(FileRefused, match=says) as caught:
        list(chunks(data))
    assert caught.value.line == line


def test_limits_are_the_fault_of_their_line():
    """An over-long field, line or record costs only itself (T69)."""
    limits = Limits(field_chars=50, line_bytes=500, columns=10)
    data = f"a,b,c\n{'x' * 60},2,3\n1,2,3\n{'y' * 2_000_000},2,3\n4,5,6\n" + '"' + "z\n" * 100 + "\n7,8,9"
    found = told(chunks(data, limits=limits))
    assert found[:4] == [(2, faults.FIELD_TOO_LONG), (3, row("1", "2", "3")), (4, faults.LINE_TOO_LONG), (5, row("4", "5", "6"))]
    assert found[4] == (6, faults.UNCLOSED_QUOTE) and found[-1] == (107, row("7", "8", "9"))
    assert told(chunks("a,b,c\n" + ",".join(["y" * 49] * 12) + "\n1,2,3", limits=limits))[0] == (2, faults.LINE_TOO_LONG)
    assert told(chunks("a,b,c\n" + "1," * 20 + "\n" + "1,2,3", limits=limits))[0] == (2, faults.TOO_MANY_COLUMNS)


def test_memory_stays_flat_with_an_endless_line():
    """Of a line that is longer than the limit no more than a piece is ever kept (T69)."""
    data = b"a,b,c\n" + b"x" * 30_000_000 + b"\n4,5,6\n"
    tracemalloc.start()
    found = told(chunks(data, limits=Limits(line_bytes=500)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == [(2, faults.LINE_TOO_LONG), (3, row("4", "5", "6"))] and peak < 10 * 2**20


def test_memory_stays_flat_with_an_unclosed_quote():
    """A quote that never closes is reported where it opened, in bounded memory, and costs one line of a large file (T72)."""
    data = b'a,b,c\n"1,2,3\n' + b"4,5,6\n" * 1_000_000
    tracemalloc.start()
    count = 0
    for chunk in chunks(data):
        if not count:
            assert chunk.faults[0][0].kind is faults.UNCLOSED_QUOTE and chunk.lines[0] == 2
        assert not count or not chunk.faults
        count += len(chunk)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 1_000_001
    assert peak < 40 * 2**20, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def test_chunks_end_by_records_or_bytes():
    """A chunk has at most so many records, and ends soon after so many bytes."""
    assert [len(chunk) for chunk in chunks("a,b,c\n" + "1,2,3\n" * 25, chunk_records=10)] == [10, 10, 5]
    assert [len(chunk) for chunk in chunks("a,b,c\n" + '"1\n1",2,3\n' * 25, chunk_records=10)] == [10, 10, 5]
    assert [len(chunk) for chunk in chunks("a,b,c\n" + f"{'x' * 95},2,3\n" * 10, chunk_bytes=300)] == [3, 3, 3, 1]


# Compression ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("ending", "compress"), [(".gz", gzip.compress), (".zst", zstd.compress)])
def test_compressed_files_read_in_pieces(ending, compress):
    """A store that gives fewer bytes than were asked for changes nothing."""
    data = b"a,b,c\n1,2,3\n"
    assert told(chunks(compress(data), "f.csv" + ending, trickle=1)) == told(chunks(data))


@pytest.mark.parametrize(("ending", "compress"), [(".gz", gzip.compress), (".zst", zstd.compress)])
def test_compressed_files(ending, compress):
    """A compressed file reads as the file in it; a damaged one, or one that expands beyond the limits, is refused (T75)."""
    data = b"a,b,c\n1,2,3\n" + b"4,5,6\n" * 50_000
    assert told(chunks(compress(data), "f.csv" + ending)) == told(chunks(data))
    assert format_of(FilePlan("x"), "F.JSONL" + ending.upper()) == "jsonl"
    with pytest.raises(FileRefused, match="decompressed"):
        list(chunks(compress(data)[:-20], "f.csv" + ending))
    with pytest.raises(FileRefused, match="limit of 1000 bytes"):
        list(chunks(compress(data), "f.csv" + ending, limits=Limits(expanded_bytes=1_000)))
    with pytest.raises(FileRefused, match="more than 100 times"):
        list(chunks(compress(b"a,b,c\n" + b"1,2,3\n" * 4_000_000), "f.csv" + ending))


@pytest.mark.parametrize(
    ("data", "said"),
    [(gzip.compress(b"a,b\n"), "end in .gz"), (zstd.compress(b"a,b\n"), "end in .zst"), (b"PK\x03\x04\x14\0", "a workbook")],
    ids=["gzip", "zstd", "xlsx"],
)
def test_files_that_are_not_what_they_are_called(data, said):
    """A packed file or a workbook whose name says otherwise is refused for what it is, not for its bytes."""
    with pytest.raises(FileRefused, match=said):
        list(chunks(data, "f.csv"))


# The multi-entity form --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("trickle", [None, 1])
def test_multi_entity_form(trickle):
    """`!` selects a control file, `#` names columns and is receipted, and each row names its entity and action."""
    data = (
        "T,Merge,1,2,3\n#Entity,Action,c,*a\nthing,update,3,1\nT,Merge,3,\nT,Merge,3,1,,\nT,Merge,3\nOther,Insert,1,2\n"
        '!Named,,\nItem,Delete,"x\ny"\nT,Merge,1\nItem,Drop,1\n,,\n# a remark\n!Nobody\nItem,Insert,1\n'
    )
    found = list(chunks(data, trickle=trickle, **MULTI))
    assert told(found) == [
        (1, row("1", "2", "3")), (2, faults.SKIPPED_HEADER), (3, {"a": "1", "c": "3"}), (4, faults.NOT_NULL), (5, {"a": "1", "c": "3"}),
        (6, faults.COLUMN_COUNT), (7, {}), (9, {"a": "x\ny"}), (11, faults.UNKNOWN_ENTITY), (12, faults.UNKNOWN_ACTION),
        (14, faults.SKIPPED_HEADER), (16, faults.UNKNOWN_CONTROL),
    ]  # fmt: skip
    assert [(block.entity.name, block.action.value) for block in found[0].blocks] == [
        ("T", "Merge"), ("T", "Update"), ("T", "Merge"), ("Other", "Insert"), ("Item", "Delete"),
    ]  # fmt: skip
    assert any("Other has no input for: c, a" in warning for warning in found[0].warnings)


@pytest.mark.parametrize("mark", ["#Entity,Action,\0", "#Entity,Action,a\udcff", '#Entity,Action,"a"b', '!"Named"x"', '"!Named"x'])
@pytest.mark.parametrize("chunk_records", [1, 2, 100])
def test_rows_of_several_lines_below_an_unreadable_mark(mark, chunk_records):
    """A row that spans lines is not trusted where a line above it that cannot be read may have changed its layout (T66, T68)."""
    data = f'T,Merge,1,2,3\n{mark}\nT,Merge,"x\ny",2,3\n!Named\nItem,Merge,1\n'.encode("utf-8", "surrogateescape")
    kinds = [
        (line, said if isinstance(said, dict) else said.code) for line, said in told(chunks(data, chunk_records=chunk_records, **MULTI))
    ]
    is_read = mark.startswith('!"')  # quotes within a field that has none around it are letters: there is no such control file
    unread = [] if is_read else [(2, kinds[1][1])]
    unknown = faults.UNKNOWN_CONTROL.code
    assert kinds == [(1, row("1", "2", "3")), *unread, (3, unknown), (4, unknown), (6, {"a": "1"})]


@pytest.mark.parametrize("chunk_records", [1, 2, 100])
def test_rows_of_several_lines_below_other_marks(chunk_records):
    """Whether a row that spans lines is trusted is up to the lines above it, not to those below (T68)."""
    data = 'T,Merge,"x\ny",2,3\n!Named\nT,Merge,"x\ny",2,3\n'
    kinds = [said if isinstance(said, dict) else said.code for _, said in told(chunks(data, chunk_records=chunk_records, **MULTI))]
    assert kinds == [row("x\ny", "2", "3"), *[faults.UNKNOWN_ENTITY.code] * 2]


def test_headers_with_blank_or_double_names_fail_their_rows():
    """Rows below a `#` line that names a column twice are refused one by one, until the next `#` line (T70)."""
    data = "#Entity,Action,a,a\nT,Merge,1,2\n#Entity,Action,a,,b\nT,Merge,1,2,3\n#Entity,Action,a\nT,Merge,1\n"
    kinds = [said for _, said in told(chunks(data, **MULTI))]
    assert kinds == [faults.SKIPPED_HEADER, faults.INVALID_HEADER] * 2 + [faults.SKIPPED_HEADER, {"a": "1"}]


def test_headers_that_are_but_a_guide():
    """With `header: false` values stand in the order of the inputs whatever a `#` line says, which is told where it says otherwise."""
    data = "#Entity,Action,a,b\nT,Merge,1,2,3\n#Entity,Action,b,a\nT,Merge,1,2,3\n#Entity,Action,GroupOrder,a\nT,Merge,7,1,2,3\n"
    values = row("1", "2", "3")
    expected = [faults.SKIPPED_HEADER, values, faults.UNLIKE_HEADER, values, faults.SKIPPED_HEADER, values]
    assert [said for _, said in told(chunks(data, has_header=False, **MULTI))] == expected


def test_group_orders():
    """In ordered imports each record tells its group; without a number it is at fault. Plain files have their file's order."""
    data = "T,Merge,10,1,2,3\nT,Merge,x,1,2,3\n#Entity,Action,GroupOrder,a\nT,Merge,2,1\n#Entity,Action,a\nT,Merge,1\n"
    found = list(chunks(data, ordered=True, **MULTI))
    assert found[0].group_orders == ["10", None, None, "2", None, None]
    assert [said for _, said in told(found)][1::4] == [faults.GROUP_ORDER, faults.GROUP_ORDER]
    assert [c.group_orders for c in chunks("a\n1\n2\n", ordered=True, order=1.5)] == [["1.5", "1.5"]]
    assert told(chunks("#Entity,Action,GroupOrder,a\nT,Merge,2,1\n", **MULTI))[1] == (2, {"a": "1"})


# Properties -------------------------------------------------------------------------------------------------------------
CELL = st.text(st.sampled_from('ab ,"\n\räé;'), max_size=8)
GOOD = st.tuples(CELL, CELL, CELL)
BAD = st.sampled_from(["1,2", "1,2,3,4", '"x"y,2,3', "1,\0,3", "1,\udcff,3"])


def written(values, line_end):
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator=line_end).writerow(values)
    return text.getvalue()


def physical_lines(text):
    return len(list(io.StringIO(text, newline="")))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(GOOD, BAD)), st.sampled_from(["\n", "\r\n", "\r"]), st.integers(1, 6), st.sampled_from([None, 1, 4]))
def test_what_csv_wrote_is_read_amid_bad_lines(rows, line_end, chunk_records, trickle):
    """Rows that csv wrote come out as they went in, with their physical lines, whatever bad lines stand between them (T68, T69)."""
    text, expected, line = "a,b,c" + line_end, [], 2
    for cells in rows:
        piece = cells + line_end if isinstance(cells, str) else written(cells, line_end)
        expected.append((line, None if isinstance(cells, str) else row(*cells)))
        text += piece
        line += physical_lines(piece)
    found = told(chunks(text.encode("utf-8", "surrogateescape"), chunk_records=chunk_records, trickle=trickle))
    assert [(line, said if isinstance(said, dict) else None) for line, said in found] == expected


@settings(max_examples=150, deadline=None)
@given(st.text(st.sampled_from('a,"\n\r ')))
def test_same_cells_as_csv(text):
    """Where the csv module reads a whole text, and every row has the right width, the cells are the same (T68)."""
    try:
        rows = list(csv.reader(io.StringIO("a,b,c\n" + text, newline=""), strict=True))[1:]
    except csv.Error:
        return
    rows = [cells for cells in rows if cells and (len(cells) > 1 or cells[0].strip(" "))]
    if all(len(cells) == 3 for cells in rows):
        assert [said for _, said in told(chunks("a,b,c\n" + text))] == [row(*cells) for cells in rows]


PIECES = st.lists(
    st.sampled_from(
        [
            *(
                "T,Merge,1,2,3\n",
                'T,Merge,"x\ny",2,3\n',
                "\n",
                "T,Insert,1\n",
                "#Entity,Action,a\n",
                "!Named\n",
                "!Nobody\n",
                "Item,Merge,1\n",
            ),
            *('T,"Merge\n', "Other,Update,\0\n", "#Entity,Action,GroupOrder,a\n", "T,Merge,7,1\n", "T,Merge,7,1,2,3\n"),
        ]
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(PIECES, st.integers(1, 4), st.booleans(), st.sampled_from([None, 2]))
def test_multi_entity_files_resume_anywhere(pieces, chunk_records, ordered, trickle):
    """A reader that goes on behind any chunk gives the same remaining chunks, with the same header and control file in force."""
    resumed_everywhere("".join(pieces), "f.csv", chunk_records=chunk_records, ordered=ordered, trickle=trickle, **MULTI)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(GOOD.map(lambda cells: written(cells, "\r\n")), BAD.map(lambda line: line + "\n"), st.just("\n"))), st.integers(1, 4)
)
def test_plain_files_resume_anywhere(pieces, chunk_records):
    """A reader of a plain file goes on behind any chunk."""
    data = ("sep=,\na,b,c\n" + "".join(pieces)).encode("utf-8", "surrogateescape")
    resumed_everywhere(data, "f.csv", chunk_records=chunk_records)
    resumed_everywhere(gzip.compress(data), "f.csv.gz", chunk_records=chunk_records, chunk_bytes=20)


class Counted(io.BytesIO):
    """A file that counts the bytes read of it."""

    total = 0

    def read(self, size: int | None = -1) -> bytes:
        """Read, and count."""
        block = super().read(size)
        self.total += len(block)
        return block


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
@pytest.mark.parametrize("name", ["f.csv", "f.jsonl", "f.json"])
def test_a_reader_goes_on_without_reading_what_is_behind_it(name, mark):
    """Going on near the end of a file costs a header and a block, not the file, and gives the same chunk."""
    if name == "f.csv":
        data = "a,b,c\n" + "".join(f'{n},"é\n{n}",x\n' for n in range(100_000))
    else:
        records = [f'{{"a": "{n}", "b": "é", "c": "x"}}' for n in range(100_000)]
        data = "\n".join(records) if name == "f.jsonl" else "[" + ",".join(records) + "]"
    data = mark + data.encode()
    *_, before, last = chunks(data, name, chunk_records=1_000)
    file = Counted(data)
    go_on: dict[str, Any] = {
        "first_chunk_number": last.number,
        "start_line": before.next_line,
        "first_record": last.first_record,
        "resume": before.resume,
    }
    task: dict[str, Any] = {"file_index": 0, "resolve_name": {}.get, "limits": Limits(), "chunk_records": 1_000}
    [again] = read(file, FilePlan(name, entity=ENTITY, action=Action.MERGE), PLAN, **task, **go_on)
    assert facts(again) == facts(last)
    assert file.total < len(data) / 3
