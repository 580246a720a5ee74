"""Blocks converted: sources, empty cells, keys, and nulls that can only be refused."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from engine import faults
from engine.chunk import Block
from engine.convert import FILTERS, Context, convert
from engine.converters import build
from engine.plan import Action, Bookkeeping, Empty, EntityPlan, FilePlan, KeyPart, Lookup, Mapping, Missing, Source
from engine.tables import Column, Kind, Table

CONTEXT = Context(datetime(2026, 5, 1, 12, 30, 15, tzinfo=UTC), 42, "f.csv")
FROM_A = Source("a")
FREE = Column("c", Kind.TEXT, "text", "text")
STRICT = replace(FREE, is_nullable=False)
DEFAULTED = replace(STRICT, default="'x'")


def entity(*mappings: Mapping, identity: Lookup | None = None, **facts) -> EntityPlan:
    table = Table(None, "t", {m.columns[0].name: m.columns[0] for m in mappings}, **facts)
    inputs = sorted({name for m in mappings for name in m.inputs()})
    return EntityPlan("T", table, tuple(inputs), mappings, identity)


def mapping(source: Source = FROM_A, column: Column = FREE, **options) -> Mapping:
    convert = build(None, {}, column, name=column.name, dialect="postgresql", is_masked=options.get("is_masked", False))
    return Mapping((column,), source, convert, **options)


def lookup(*columns: str, missing=Missing.ERROR) -> Lookup:
    parts = tuple(KeyPart(replace(FREE, name=c), Source(c), build(None, {}, FREE, name=c, dialect="postgresql"), label=c) for c in columns)
    return Lookup("Other", Table(None, "other", {}), parts, (FREE,), missing)


def run(plan: EntityPlan, action=Action.MERGE, file=None, **columns):
    size = len(next(iter(columns.values())))
    block = Block(plan, action, tuple(columns), list(columns.values()), range(size))
    return convert(block, file or FilePlan("f.csv"), range(2, 2 + size), CONTEXT)


def codes(converted):
    return {row: [fault.kind for fault in found] for row, found in converted.faults.items()}


@pytest.mark.parametrize(
    ("source", "given", "expected", "empties"),
    [
        (Source("a"), [" x ", "", "NA", "\\N", None], ["x", None, None, None, None], {1, 2}),
        (Source("a", fallback_input="b"), ["x", "", "\\N"], ["x", "b1", None], set()),
        (Source("a", filters=("upper", "collapse")), ["a  b", ""], ["A B", None], {1}),
        (Source("a", filters=("digits",)), ["+1 (2)", "none"], ["12", None], {1}),
        (Source("a", filters=("null-if-zero",)), ["0", "0.00", "10", "-0"], [None, None, "10", None], {0, 1, 3}),
        (Source("a", map={"Y": "yes", "N": None}), ["Y", "N", ""], ["yes", None, None], {2}),
        (Source("a", map={"": "none"}), ["", ""], ["none", "none"], set()),
        (Source("a", map={}, has_map_default=True, map_default="?"), ["Y", ""], ["?", None], {1}),
        (Source("a", default="d"), ["", "x", "\\N"], ["d", "x", None], set()),
        (Source(constant="k"), ["", "x"], ["k", "k"], set()),
        (Source(bookkeeping=Bookkeeping.LINE_NUMBER), ["", "x"], ["2", "3"], set()),
        (Source(bookkeeping=Bookkeeping.BATCH_ID), ["x"], ["42"], set()),
        (Source(bookkeeping=Bookkeeping.FILE_NAME), ["x"], ["f.csv"], set()),
    ],
)
def test_sources(source, given, expected, empties):
    """A source takes its input, then fallback, filters, map and default; `\\N` and JSON nulls are nulls, not empty cells."""
    file = FilePlan("f.csv", nulls=("", "NA"))
    converted = run(entity(mapping(source)), file=file, a=given, b=[f"b{row}" for row in range(len(given))])
    cells = converted.cells[0]
    assert list(cells.values) == expected and cells.empties == empties
    assert not converted.faults


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Kind.TIMESTAMP_TZ, "2026-05-01 12:30:15+00"),
        (Kind.TIMESTAMP, "2026-05-01 12:30:15"),
        (Kind.DATE, "2026-05-01"),
        (Kind.TIME, "12:30:15"),
        (Kind.TEXT, "2026-05-01 12:30:15+00:00"),
    ],
)
def test_now_suits_its_column(kind, expected):
    """The run's beginning comes in UTC and in the form of its column."""
    column = Column("c", kind, str(kind), "x")
    converted = run(entity(mapping(Source(bookkeeping=Bookkeeping.NOW), column)), a=["x"])
    assert list(converted.cells[0].values) == [expected] and not converted.faults


def test_untrimmed_files_keep_their_spaces():
    """With `trim: false` a cell of spaces is a value."""
    converted = run(entity(mapping()), file=FilePlan("f.csv", is_trimmed=False), a=[" x ", " "])
    assert list(converted.cells[0].values) == [" x ", " "]


def test_a_value_that_the_map_lacks_is_a_fault():
    """Without mapDefault an unknown word is refused, and a masked one is not shown."""
    converted = run(entity(mapping(Source("a", map={"Y": "1"}), is_masked=True)), a=["Y", "X"])
    assert codes(converted) == {1: [faults.NOT_IN_MAP]}
    assert converted.faults[1][0].value == "***"


def test_columns_absent_from_the_file_are_untouched():
    """A mapping whose inputs the file does not have is left out; a required one fails an Insert."""
    plan = entity(mapping(Source("a")), mapping(Source("b"), replace(FREE, name="d"), is_required=True))
    assert [cells.column.name for cells in run(plan, a=["x"]).cells] == ["c"]
    assert not run(plan, Action.UPDATE, a=["x"]).faults
    assert codes(run(plan, Action.INSERT, a=["x"])) == {0: [faults.NOT_NULL]}


@pytest.mark.parametrize(
    ("rule", "on_insert", "on_update"),
    [
        (None, "default", "null"),
        (Empty.KEEP, "default", "keep"),
        (Empty.CLEAR, "null", "null"),
        (Empty.DEFAULT, "default", "default"),
    ],
)
def test_rules_for_empty_cells(rule, on_insert, on_update):
    """The mapping's rule for empty cells wins over the file's."""
    for plan, file in [
        (entity(mapping(empty=rule)), FilePlan("f.csv")),
        (entity(mapping()), FilePlan("f.csv", empty=rule)),
        (entity(mapping(empty=rule)), FilePlan("f.csv", empty=None if rule is None else Empty.ERROR)),
    ]:
        cells = run(plan, file=file, a=["", "x"]).cells[0]
        assert (cells.empties, cells.on_insert, cells.on_update) == ({0}, on_insert, on_update)


def test_empty_string_and_error_rules():
    """`empty-string` is a text of no characters, `error` and `required` refuse the record."""
    cells = run(entity(mapping(empty=Empty.EMPTY_STRING)), a=["", "\\N"]).cells[0]
    assert list(cells.values) == ["", None] and not cells.empties
    assert codes(run(entity(mapping(empty=Empty.ERROR)), a=["", "\\N"])) == {0: [faults.NOT_NULL]}
    assert codes(run(entity(mapping(is_required=True)), a=["", "\\N"])) == {0: [faults.NOT_NULL], 1: [faults.NOT_NULL]}


@pytest.mark.parametrize(
    ("column", "rule", "refused"),
    [
        (FREE, None, ""),
        (STRICT, None, "Insert Update Merge"),
        (STRICT, Empty.KEEP, "Insert"),
        (DEFAULTED, None, "Update"),
        (DEFAULTED, Empty.CLEAR, "Insert Update Merge"),
        (DEFAULTED, Empty.DEFAULT, ""),
        (STRICT, Empty.EMPTY_STRING, ""),
    ],
)
def test_nulls_that_can_only_be_refused(column, rule, refused):
    """An empty cell of a NOT NULL column is a fault where every way that the action may take fails; triggers may fill it, though."""
    for action in (Action.INSERT, Action.UPDATE, Action.MERGE):
        expected = {0: [faults.NOT_NULL]} if action.value in refused else {}
        assert codes(run(entity(mapping(column=column, empty=rule)), action, a=["", "x"])) == expected
        assert not run(entity(mapping(column=column, empty=rule), has_triggers=True), action, a=[""]).faults


def test_sqlite_row_ids_may_be_empty():
    """An empty INTEGER PRIMARY KEY of SQLite gets its number from the database."""
    plan = entity(mapping(column=STRICT), rowid_name="rowid", primary_key=("c",))
    assert not run(plan, Action.INSERT, a=[""]).faults


def test_keys_without_a_part_are_faults():
    """An identity with an empty or null part is KeyMissing; one whose conversion failed says only that."""
    identity = lookup("a", "b")
    converted = run(entity(mapping(), identity=identity), a=["x", "", "\0", "x"], b=["1", "2", "3", None])
    assert codes(converted) == {1: [faults.KEY_MISSING], 2: [faults.INVALID_TEXT, faults.INVALID_TEXT], 3: [faults.KEY_MISSING]}
    assert converted.lookups[0].mapping is None
    assert [list(part) for part in converted.lookups[0].keys] == [["x", None, None, "x"], ["1", "2", "3", None]]


def test_inserts_may_lack_the_whole_key():
    """A file without the key's column can be inserted, but not merged: nothing would be found."""
    plan = entity(mapping(Source("b")), identity=lookup("a"))
    assert not run(plan, Action.INSERT, b=["x"]).lookups
    assert codes(run(plan, Action.MERGE, b=["x"])) == {0: [faults.KEY_MISSING]}


def test_a_delete_needs_its_identity_only():
    """A Delete's other cells are not even converted."""
    converted = run(entity(mapping(column=replace(STRICT, max_length=1)), identity=lookup("a")), Action.DELETE, a=["xyz"])
    assert not converted.cells and not converted.faults and len(converted.lookups) == 1


def test_references_with_some_parts_only():
    """A reference is empty where all its parts are; one with some parts is a fault, unless `missing: clear` forgives it."""
    inputs = {"a": ["x", "", "x", "\\N"], "b": ["1", "", "", "\\N"]}
    for missing, expected in ((Missing.ERROR, {2: [faults.REFERENCE_INCOMPLETE]}), (Missing.CLEAR, {})):
        reference = Mapping((FREE,), Source(), lookup=lookup("a", "b", missing=missing))
        converted = run(entity(reference), **inputs)
        assert codes(converted) == expected
        assert converted.lookups[0].empties == {1}


def test_null_if_zero_leaves_other_texts():
    """Only a zero is taken for no value."""
    assert [FILTERS["null-if-zero"](text) for text in ("0", "000", "0,0", "-", ".", "A0", "100")] == ["", "", "", "-", ".", "A0", "100"]
