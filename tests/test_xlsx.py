"""Reading workbooks: what each kind of cell gives, row numbers, sheets, resuming."""

import io
import resource
from datetime import date, datetime, time, timedelta

import openpyxl
import pytest

from engine import faults
from engine.plan import Action, EntityPlan, FilePlan, Mapping, Plan, Source
from engine.readers import FileRefused, Limits, read
from engine.tables import Column, Kind, Table
from tests.reader_parts import chunks, resumed_everywhere, row as expected, told
from tests.xlsx_parts import MAIN, cell, packed, parts, relations, row, sheet, workbook


def read_rows(data, name="f.xlsx", **options):
    """Return what is told of a workbook."""
    return told(chunks(data, name, **options))


def of_a(data, **options):
    """Return the values of column a of a workbook, or the faults."""
    return [said["a"] if isinstance(said, dict) else said for _, said in read_rows(data, **options)]


@pytest.mark.parametrize(
    ("value", "kind", "style", "told"),
    [
        ("007", "str", 0, "007"),
        ("7", "n", 0, "7"),
        ("12345678901234567890", "n", 0, "12345678901234567890"),
        ("1.1000000000000001", "n", 0, "1.1"),
        ("1E+3", "n", 0, "1000"),
        ("NaN", "n", 0, faults.INVALID_CELL),
        ("x", "n", 0, faults.INVALID_CELL),
        ("1", "b", 0, "true"),
        ("0", "b", 0, "false"),
        ("#N/A", "e", 0, faults.ERROR_CELL),
        ("#REF!", "e", 0, faults.ERROR_CELL),
        ("0", "s", 0, "rich text"),
        ("1", "s", 0, "tab\there"),
        ("9", "s", 0, faults.INVALID_CELL),
        ("-1", "s", 0, faults.INVALID_CELL),
        ("45413", "n", 1, "2024-05-01"),
        ("45413", "n", 5, "2024-05-01"),
        ("45413", "n", 2, "2024-05-01 00:00:00"),
        ("45413.25", "n", 1, "2024-05-01 06:00:00"),
        ("0.75", "n", 3, "18:00:00"),
        ("1.5", "n", 4, "36:00:00"),
        ("59", "n", 1, "1900-02-28"),
        ("60", "n", 1, faults.INVALID_CELL),
        ("61", "n", 1, "1900-03-01"),
        ("-1", "n", 1, faults.INVALID_CELL),
        ("99999999", "n", 1, faults.INVALID_CELL),
        ("1e308", "n", 1, faults.INVALID_CELL),
        ("2024-05-01T00:00:00", "d", 1, "2024-05-01"),
        ("2024-05-01T06:00:00", "d", 2, "2024-05-01 06:00:00"),
        ("x", "unheard-of", 0, faults.INVALID_CELL),
    ],
)
def test_cells(value, kind, style, told):
    """Each kind of cell gives the text that a CSV file would hold, or its fault; errors never become empty cells (T77)."""
    texts = "<si><r><t>rich </t></r><r><t>text</t></r><rPh sb='0' eb='1'><t>no</t></rPh></si><si><t>tab_x0009_here</t></si>"
    assert of_a(workbook(row(2, cell("A2", value, kind, style)), texts=texts)) == [told]


def test_epoch_1904():
    """Dates of a workbook that counts from 1904 are the right ones (T77)."""
    data = workbook(row(2, cell("A2", "43951", style=1)) + row(3, cell("A3", "0", style=1)), epoch='date1904="1"')
    assert of_a(data) == ["2024-05-01", "1904-01-01"]


def test_formulas():
    """A formula gives its last result, be it no text; one that was never calculated is a fault (T77)."""
    data = workbook(
        row(2, '<c r="A2"><f>1+1</f><v>2</v></c>')
        + row(3, '<c r="A3"><f>1+1</f></c>')
        + row(4, '<c r="A4" t="str"><f>""</f><v></v></c>', cell("B4", "1"))
    )
    assert read_rows(data) == [(2, expected("2", "", "")), (3, faults.NO_CACHED_VALUE), (4, expected("", "1", ""))]


def test_faults_name_cell_and_column():
    """A cell's fault names the cell, and its Properties the column of the control file."""
    data = workbook(row(7, cell("A7", "1"), cell("B7", "#DIV/0!", "e")))
    [chunk] = chunks(data, "f.xlsx")
    [fault] = chunk.faults[0]
    assert (fault.column, fault.value, fault.message) == ("b", "#DIV/0!", "The cell B7 holds the error #DIV/0!")


def test_errors_elsewhere_harm_nobody():
    """An error in a column that no input reads is no fault, and neither is anything in a row that says nothing else."""
    data = packed(parts(row(1, cell("A1", "a", "str"), cell("B1", "note", "str")) + row(2, cell("A2", "1"), cell("B2", "#N/A", "e"))))
    assert read_rows(data) == [(2, {"a": "1"})]


def test_merged_cells():
    """The first cell of a merged region has its value; rows that another one covers in a column that counts are refused (T77)."""
    rows = row(2, cell("A2", "x", "str"), cell("B2", "1")) + row(3, '<c r="A3"/>', cell("B3", "2")) + row(4, '<c r="A4"/>')
    data = workbook(rows + row(5, cell("A5", "y", "str")), behind='<mergeCells count="1"><mergeCell ref="A2:A4"/></mergeCells>')
    assert read_rows(data) == [(2, expected("x", "1", "")), (3, faults.MERGED_CELL), (5, expected("y", "", ""))]
    unused = workbook(rows, behind='<mergeCells count="1"><mergeCell ref="D1:D4"/></mergeCells>')
    assert [line for line, said in read_rows(unused) if isinstance(said, dict)] == [2, 3]


def test_rows_without_anything():
    """Formatted rows without anything are no records, hidden ones are, and numbers are the sheet's own (T77)."""
    empty = "".join(f'<row r="{number}" s="1" customFormat="1"><c r="A{number}" s="1"/></row>' for number in range(2, 2000))
    hidden = f'<row r="5000" hidden="1">{cell("A5000", "1")}</row>'
    blank = row(6000, cell("A6000", " ", "str"), cell("C6000", "", "str"))
    assert read_rows(workbook(empty + hidden + blank + row(1_048_576, cell("C1048576", "2")))) == [
        (5000, expected("1", "", "")),
        (1_048_576, expected("", "", "2")),
    ]


@pytest.mark.slow
def test_a_million_empty_rows_cost_no_memory():
    """A sheet formatted down to its last row is read in flat memory (T77)."""
    rows = "".join(f'<row r="{number}" spans="1:8" s="3" customFormat="1" ht="15.75"/>' for number in range(2, 1_048_577))
    data = workbook(rows)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert read_rows(data) == []
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB


def test_rows_too_wide():
    """A value beyond the header is a fault, empty cells there are none; limits of columns and sizes hold."""
    data = workbook(row(2, cell("A2", "1"), cell("D2", "2")) + row(3, cell("A3", "1"), '<c r="D3" s="1"/>') + row(4, cell("CZ4", "1")))
    kinds = [said.code if not isinstance(said, dict) else said["a"] for _, said in read_rows(data, limits=Limits(columns=50))]
    assert kinds == [faults.COLUMN_COUNT.code, "1", faults.TOO_MANY_COLUMNS.code]
    long = workbook(row(2, cell("A2", "x" * 101, "str")) + row(3, cell("A3", "x" * 90, "str"), cell("B3", "x" * 90, "str")))
    assert [said for _, said in read_rows(long, limits=Limits(field_chars=100, line_bytes=150))] == [
        faults.FIELD_TOO_LONG,
        faults.LINE_TOO_LONG,
    ]


def test_cells_and_rows_without_references():
    """Where cells and rows do not say where they stand, each follows the one before; where they contradict the order, they are refused."""
    bare = "<row><c><v>1</v></c><c><v>2</v></c></row><row><c t='inlineStr'><is><t>x</t></is></c></row>"
    assert read_rows(workbook(bare)) == [(2, expected("1", "2", "")), (3, expected("x", "", ""))]
    assert read_rows(workbook(row(2, cell("B2", "1"), cell("A2", "2")))) == [(2, faults.INVALID_LINE)]
    with pytest.raises(FileRefused, match="not in order"):
        read_rows(workbook(row(5, cell("A5", "1")) + row(4, cell("A4", "1"))))


def written(*sheets, epoch=None):
    """Return a workbook that another library has written: (title, state, rows) each."""
    book = openpyxl.Workbook(write_only=True)
    if epoch:
        book.epoch = epoch
    for title, state, rows in sheets:
        made = book.create_sheet(title)
        made.sheet_state = state
        for each in rows:
            made.append(each)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def test_sheets():
    """Without `sheet` the first that is not hidden is read, with a warning of the others; hidden ones are read by name or number (T77)."""
    header = ["a", "b", "c"]
    data = written(
        ("Old", "hidden", [header, [1]]), ("New", "visible", [header, [2]]), ("Last", "visible", [header, [3]]),
    )  # fmt: skip
    assert [of_a(data, sheet=name) for name in (None, "Old", "new", "3")] == [["2"], ["1"], ["2"], ["3"]]
    assert next(iter(chunks(data, "f.xlsx"))).warnings == ["only the sheet New is read, not: Last"]
    with pytest.raises(FileRefused, match=r"no sheet 'Other' \(it has: Old, New, Last\)"):
        of_a(data, sheet="Other")


@pytest.mark.parametrize("epoch", [openpyxl.utils.datetime.WINDOWS_EPOCH, openpyxl.utils.datetime.MAC_EPOCH])
def test_dates_of_another_library(epoch):
    """Dates, times and lengths of time that another library writes come out as they went in, in both epochs (T77)."""
    moment = datetime(2024, 2, 29, 23, 59, 59, 500_000)
    data = written(
        ("S", "visible", [["a", "b", "c"], [date(2024, 2, 29), moment, time(6, 30)], [timedelta(hours=30), None, "x"]]), epoch=epoch
    )
    assert read_rows(data) == [
        (2, expected("2024-02-29", "2024-02-29 23:59:59.5", "06:30:00")),
        (3, expected("30:00:00", "", "x")),
    ]


def test_dates_suit_their_column():
    """A date cell fills a day's column without a time and an instant's with one; a text that looks like a date stays as it is."""
    kinds = {"a": Kind.DATE, "b": Kind.TIMESTAMP, "c": Kind.TEXT}
    columns = {name: Column(name, kind, kind.value, kind.value) for name, kind in kinds.items()}
    mappings = tuple(Mapping((column,), Source(input=name)) for name, column in columns.items())
    entity = EntityPlan("T", Table(None, "t", columns), tuple(columns), mappings)
    day, midnight = cell("A2", "45413", style=2), cell("B2", "45413", style=1)
    data = workbook(row(2, day, midnight, cell("C2", "45413", style=1)) + row(3, *(cell(f"{c}3", "2024-05-01", "str") for c in "AB")))
    file = FilePlan("f.xlsx", entity=entity, action=Action.MERGE)
    found = read(
        io.BytesIO(data), file, Plan(None, {}, {}), file_index=0, first_chunk_number=0, resolve_name=lambda name: None, limits=Limits()
    )
    assert told(found) == [
        (2, expected("2024-05-01", "2024-05-01 00:00:00", "2024-05-01")),
        (3, expected("2024-05-01", "2024-05-01", "")),
    ]


def test_resuming():
    """Reading goes on behind any chunk with the chunks that would have followed."""
    rows = [["a", "b", "c"]] + [[number, f"text {number % 7}", None if number % 5 else "#"] for number in range(50)]
    resumed_everywhere(written(("S", "visible", rows)), "f.xlsx", chunk_records=7)
    resumed_everywhere(written(("S", "visible", rows)), "f.xlsx", chunk_bytes=40)


def test_multi_entity_sheets():
    """A sheet may hold rows that name their own entity, under `!` and `#` rows, and is resumed below them."""
    rows = [
        ["#Entity", "Action", "a", "b", "c"], ["T", "Merge", 1, 2], ["T", "Insert", "x", None, "y"], [None], ["Nobody", "Merge", 1],
        ["!Named", None], ["Item", "Merge", "z"], ["Item", "Merge", "z", "more"],
    ]  # fmt: skip
    data = written(("S", "visible", rows))
    options = {"entity": None, "action": None}
    assert read_rows(data, **options) == [
        (1, faults.SKIPPED_HEADER),
        (2, expected("1", "2", "")),
        (3, expected("x", "", "y")),
        (5, faults.UNKNOWN_ENTITY),
        (7, {"a": "z"}),
        (8, faults.COLUMN_COUNT),
    ]
    resumed_everywhere(data, "f.xlsx", chunk_records=2, **options)


def test_shared_texts_beyond_memory(monkeypatch):
    """Shared texts that are too many for memory come back from a file, whatever they hold."""
    monkeypatch.setattr("engine.readers.xlsx.book._IN_MEMORY", 60)
    texts = ["one", "", "žluťoučký", "x" * 200, "&#10;", "last"]
    rows = "".join(row(2 + n, cell(f"A{2 + n}", str(n), "s"), cell(f"B{2 + n}", "1")) for n in range(len(texts)))
    data = workbook(rows, texts="".join(f"<si><t>{text}</t></si>" for text in texts))
    found = of_a(data, limits=Limits(field_chars=100))
    assert found == ["one", "", "žluťoučký", faults.FIELD_TOO_LONG, "\n", "last"]


def test_strict_workbooks_and_prefixes():
    """Elements count by their names, whatever namespace and prefix a writer gives them."""
    of = parts("")
    strict = "http://purl.oclc.org/ooxml/spreadsheetml/main"
    rows = (
        '<x:row r="1"><x:c r="A1" t="inlineStr"><x:is><x:t>a</x:t></x:is></x:c></x:row><x:row r="2"><x:c r="A2"><x:v>1</x:v></x:c></x:row>'
    )
    of["xl/worksheets/sheet1.xml"] = f'<x:worksheet xmlns:x="{strict}"><x:sheetData>{rows}</x:sheetData></x:worksheet>'
    of["xl/_rels/workbook.xml.rels"] = relations(("worksheet", "/xl/worksheets/sheet1.xml"))
    assert read_rows(packed(of)) == [(2, {"a": "1"})]
    assert MAIN in sheet("")


def test_header_of_a_sheet():
    """The first row that holds anything is the header; names twice or an error in it refuse the file (T70)."""
    late = packed(parts(row(3, cell("A3", "b", "str"), cell("B3", "a", "str")) + row(4, cell("A4", "1"))))
    assert read_rows(late) == [(4, {"a": "", "b": "1"})]
    for cells in [(cell("A1", "a", "str"), cell("B1", "a", "str")), (cell("A1", "a", "str"), cell("B1", "#N/A", "e"))]:
        with pytest.raises(FileRefused, match="header"):
            read_rows(packed(parts(row(1, *cells))))
    assert read_rows(packed(parts(row(1, cell("B1", "1")))), has_header=False) == [(1, expected("", "1", ""))]
    assert read_rows(packed(parts(""))) == []
