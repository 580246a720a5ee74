"""Columns converted as they stand in the file come to what they come to when they are trimmed and searched for nulls first."""

from dataclasses import replace

from hypothesis import given, strategies as st

from engine.chunk import Block
from engine.convert import convert
from engine.converters import build
from engine.converters.column import Whole
from engine.plan import Action, Empty, EntityPlan, FilePlan, KeyPart, Lookup, Mapping, Source
from engine.tables import Column, Kind, Table
from tests.test_convert import CONTEXT, FREE, entity

CELLS = [None, "", " ", "NA", "-1", "\\N", "7", "007", " 7 ", "7\n", "\xa07", "1e5", "5.", "2.50", "70000", "abc", "٣"]
CELLS += [
    "2024-02-29",
    "2024-02-29 ",
    "2024-02-30",
    "10:00",
    "10:00 ",
    "2013-01-01T10:00:00.50Z",
    "2013-01-01 10:00:00",
    "2013-01-01 10:00 ",
]
CELLS += ["123e4567-e89b-12d3-a456-426614174000", "123e4567-e89b-12d3-a456-426614174000 "]
COLUMNS = [
    replace(FREE, kind=Kind.INTEGER, bits=16, is_nullable=False),
    replace(FREE, kind=Kind.DECIMAL, precision=3, scale=1),
    replace(FREE, kind=Kind.DECIMAL, is_text_identity=True),
    replace(FREE, kind=Kind.FLOAT),
    replace(FREE, kind=Kind.DATE),
    replace(FREE, kind=Kind.TIME),
    replace(FREE, kind=Kind.TIMESTAMP),
    replace(FREE, kind=Kind.TIMESTAMP_TZ),
    replace(FREE, kind=Kind.UUID, is_nullable=False),
]
FILES = [FilePlan("f.csv", nulls=nulls, is_trimmed=trim) for nulls in (("", "NA"), ("", "-1", "7")) for trim in (True, False)]


def plan_of(column: Column, source: Source, empty: Empty | None, is_strict: bool) -> EntityPlan:
    converter = build(None, {}, column, name="c", dialect="postgresql")
    assert isinstance(converter, Whole) and converter.is_strict
    converter = replace(converter, is_strict=is_strict)
    identity = Lookup("T", Table(None, "t", {"c": column}), (KeyPart(column, source, converter),), (column,))
    return entity(Mapping((column,), source, converter, empty=empty), identity=identity)


def said(plan: EntityPlan, file: FilePlan, cells: list[str | None]) -> tuple:
    """Return all that converting says of a column: values of rows without a fault, empty cells, keys and faults."""
    ready = convert(Block(plan, Action.MERGE, ("a",), [cells], range(len(cells))), file, range(len(cells)), CONTEXT)
    faults = {row: [(f.kind.code, f.message) for f in found] for row, found in sorted(ready.faults.items())}
    good = [row for row in range(len(cells)) if row not in faults]
    [column], [wanted] = ready.cells, ready.lookups
    return [(column.values[row], row in column.empties, wanted.keys[0][row]) for row in good], faults


@given(
    st.sampled_from(COLUMNS), st.sampled_from([Source("a"), Source("a", default="7")]), st.sampled_from([None, *Empty]),
    st.sampled_from(FILES),
    st.lists(st.sampled_from(CELLS), min_size=1, max_size=5), st.sampled_from([0, 50]), st.sampled_from(CELLS),
)  # fmt: skip
def test_plain_columns_need_no_preparing(column, source, empty, file, cells, repeated, cell):
    """Whatever the null words, the trimming and the share of odd cells: values, keys and faults are the same."""
    cells = [*cells, *[cell] * repeated]
    assert said(plan_of(column, source, empty, True), file, cells) == said(plan_of(column, source, empty, False), file, cells)


def test_a_converter_with_marks_or_a_form_is_not_strict():
    """Thousands may be written with blanks, and a form may begin or end with one: such columns are trimmed first."""
    number, day = replace(FREE, kind=Kind.DECIMAL), replace(FREE, kind=Kind.DATE)
    marked = [
        (number, "Number", {"thousands": " "}),
        (number, "Number", {"decimal": ","}),
        (day, "Date", {"format": " %Y-%m-%d"}),
        (FREE, None, {}),
    ]
    for column, kind, options in marked:
        converter = build(kind, options, column, name="c", dialect="sqlite")
        assert isinstance(converter, Whole) and not converter.is_strict
