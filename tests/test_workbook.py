"""Workbooks that we write: another library reads them, so do we; refused rows of a sheet come out to be mended."""

import io

import openpyxl
import pytest
from hypothesis import given, settings, strategies as st

from engine import faults
from engine.failed import Layout, Mark
from engine.failed_sheet import refused_rows
from engine.readers.limits import FileRefused, Limits
from engine.workbook import Column, ErrorCell, Look, workbook
from tests.reader_parts import chunks, row as expected, told
from tests.xlsx_parts import cell, row, workbook as sheet_of


def written(rows, **options):
    """Return a workbook of these rows."""
    return b"".join(workbook(rows, **options))


def test_another_library_reads_it():
    """Cells, errors, looks and lists to choose from arrive in another library as they were meant."""
    data = written(
        [["code", "day"], ["007", "=1+1"], ["", ErrorCell("#N/A")]],
        header=[Look.REQUIRED, Look.HEADER],
        columns=[Column(Look.TEXT, ["a", "b&c"]), Column(Look.DATE)],
    )
    book = openpyxl.load_workbook(io.BytesIO(data))
    sheet = book["Data"]
    assert [[cell.value for cell in row] for row in sheet.iter_rows()] == [["code", "day"], ["007", "=1+1"], [None, "#N/A"]]
    assert [sheet[name].data_type for name in ("A2", "B2", "B3")] == ["s", "s", "e"]
    assert (sheet["A1"].font.bold, sheet["A1"].font.color.rgb, sheet["B1"].font.color) == (True, "FFB00020", None)
    [rule] = sheet.data_validations.dataValidation
    assert (str(rule.sqref), rule.formula1) == ("A2:A1048576", "Lists!$A$1:$A$2")
    assert [cell.value for cell in book["Lists"]["A"]] == ["a", "b&c"] and book["Lists"].sheet_state == "hidden"
    assert (sheet.column_dimensions["A"].width, sheet.freeze_panes) == (18, "A2")


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(st.lists(st.tuples(texts, texts, texts), max_size=5))
@settings(deadline=None)
def test_texts_come_back(rows):
    """Whatever text is written is read again, control characters and what looks escaped included."""
    found = [said for _, said in told(chunks(written([["a", "b", "c"], *rows]), "f.xlsx")) if not isinstance(said, faults.Kind)]
    assert found == [expected(*row) for row in rows if any(map(str.strip, row))]


def test_the_same_rows_are_the_same_bytes():
    """Nothing of when it was written is in a workbook, so that its digest says what it holds."""
    assert written([["a"]]) == written([["a"]])


ROWS = (
    row(2, cell("A2", "1"))
    + row(3, cell("A3", "45413", style=1), cell("B3", "#N/A", "e"))
    + row(5, cell("A5", "007", "str"), '<c r="B5"><f>1</f></c>')
)


def refused(data, marks, **layout):
    """Return the cells of what is kept of a sheet, given (row, is kept) for each of its results; errors are exceptions there."""
    results = iter([Mark(*mark) for mark in marks])
    kept = b"".join(refused_rows(io.BytesIO(data), Layout(is_sheet=True, **layout), results, Limits()))
    return kept, [[cell.value for cell in row] for row in openpyxl.load_workbook(io.BytesIO(kept)).active.iter_rows()]


def test_refused_rows_of_a_sheet():
    """The header and the refused rows come out as a workbook; what was an error is one again, so that it is refused again."""
    kept, rows = refused(sheet_of(ROWS), [(2, False), (3, True), (5, True)])
    assert rows == [["a", "b", "c"], ["2024-05-01", "#N/A", None], ["007", "#VALUE!", None]]
    assert [said for _, said in told(chunks(kept, "f.xlsx"))] == [faults.ERROR_CELL] * 2
    assert refused(sheet_of(ROWS), [(2, True), (3, False), (5, False)])[1] == [["a", "b", "c"], ["1", None, None]]
    assert refused(sheet_of(ROWS), [(1, False), (2, True)], has_header=False)[1] == [["1"]]


def test_refused_rows_of_a_multi_entity_sheet():
    """The `!` and `#` rows stay wherever they stand."""
    data = written([["#Entity", "Action", "a"], ["T", "Merge", "1"], ["T", "Merge", "2"], ["!Named", "", ""], ["Item", "Merge", "3"]])
    kept = refused(data, [(1, True), (2, False), (3, True), (5, False)], is_multi_entity=True)[1]
    assert kept == [["#Entity", "Action", "a"], ["T", "Merge", "2"], ["!Named", None, None]]


def test_refused_rows_of_a_broken_workbook():
    """A workbook that could not be read gives no rows either."""
    with pytest.raises(FileRefused):
        refused(b"PK", [])
