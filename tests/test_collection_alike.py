"""Records that are written alike are read by one expression; nothing may show that, but the time."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any, cast

import pytest
from hypothesis import given, settings, strategies as st

from engine.plan import FilePlan
from engine.readers import Limits, alike as writing, read
from engine.readers.alike import alike
from engine.readers.collection import Compiled, Shape
from tests.reader_parts import ENTITY, PLAN, Trickle, facts


def compiled(shape: Shape) -> Compiled:
    """Compile a shape to an entity whose inputs are the literals, numbered."""
    count = sum(len(form.labels) or 1 for form in shape.forms) + len(shape.names) - len(shape.forms)
    count += (len(shape.identity.labels) or 1) if shape.identity else 0
    return Compiled(ENTITY, tuple(f"i{n}" for n in range(count)))


def chunks(text: str, trickle: int | None = None, go_on: dict[str, Any] | None = None, size: int = 70, ordered: bool = False) -> list[Any]:
    """Read a collection; each chunk with what it tells of its records."""
    data = text.encode()
    found = read(
        cast(Any, Trickle(data, trickle)) if trickle else BytesIO(data), FilePlan("c", read="collection"), PLAN, file_index=0,
        resolve_name=lambda name: None, limits=Limits(field_chars=5_000), compile_shape=compiled, chunk_records=size, ordered=ordered,
        **(go_on or {"first_chunk_number": 0}),
    )  # fmt: skip
    return [(*facts(chunk), chunk.told) for chunk in found]


TEXTS = st.text(st.characters(codec="utf-8"), max_size=4) | st.sampled_from(
    ["", "a", "null", '"', "\\", "{", "},", "x" * 1_001, "y" * 5_001]
)
SCALARS = TEXTS | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.none()
VALUES = SCALARS | st.fixed_dictionaries({"converter": st.just("ReferenceLookup"), "code": SCALARS}) | st.just({"a": [1, {"b": 2}]})
RECORDS = st.fixed_dictionaries(
    {
        "entityType": st.just("T"),
        "action": st.just("Merge"),
        "Id": VALUES,
        "properties": st.fixed_dictionaries({"a": VALUES, "b": SCALARS}),
    },
    optional={"userObjectId": SCALARS, "groupOrder": st.sampled_from(["1", 2, " 3 ", "x", None])},
)


@settings(max_examples=60, deadline=None)
@given(st.lists(RECORDS, min_size=1, max_size=8), st.data(), st.booleans())
def test_what_is_read_at_once_is_what_is_read_one_by_one(records: list[Any], data: st.DataObject, ordered: bool) -> None:
    """Whatever the records hold and wherever the blocks of the file end, both ways of reading give the same chunks."""
    drawn = [records[0], *data.draw(st.lists(st.sampled_from(records), min_size=5, max_size=40))]
    text = "[" + ", ".join(json.dumps(record, ensure_ascii=data.draw(st.booleans())) for record in drawn) + "]"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "WORTH_LEARNING", 10**9)
        singly = chunks(text, size=7, ordered=ordered)
        patch.setattr(writing, "WORTH_LEARNING", 1)
        at_once = chunks(text, data.draw(st.sampled_from([None, 50, 333])), size=7, ordered=ordered)
    assert [_merged(chunk) for chunk in at_once] == [_merged(chunk) for chunk in singly]


def _merged(chunk: tuple[Any, ...]) -> tuple[Any, ...]:
    """Take neighbouring blocks of one layout together: where they are parted is of no account."""
    rows = [
        (name, action, inputs, position, row)
        for name, action, inputs, columns, positions in chunk[3]
        for position, row in zip(positions, zip(*columns, strict=True) if columns else [()] * len(positions), strict=True)
    ]
    return (*chunk[:3], rows, *chunk[4:])


def test_reading_goes_on_behind_any_chunk() -> None:
    """A reader that begins behind a chunk has learned nothing yet, and gives the same chunks all the same."""
    records = [
        {"entityType": "T", "action": "Insert", "userObjectId": f"u{n}", "properties": {"a": n, "b": None if n % 5 else "é\n" * (n % 2)}}
        for n in range(400)
    ]
    text = json.dumps(records, ensure_ascii=False)
    whole = chunks(text)
    for number, chunk in enumerate(whole):
        go_on = {"start_line": chunk[5], "first_record": chunk[2] + len(chunk[1]), "first_chunk_number": number + 1, "resume": chunk[6]}
        assert [_merged(c) for c in chunks(text, go_on=go_on)] == [_merged(c) for c in whole[number + 1 :]]


def test_a_missing_comma_is_seen() -> None:
    """Two records without a comma between them are no array, also where they are written alike."""
    record = json.dumps({"entityType": "T", "action": "Insert", "properties": {"a": 1}})
    text = "[" + ",".join([record] * 100) + record + "]"
    with pytest.raises(Exception, match="a comma is missing"):
        chunks(text)


@pytest.mark.parametrize(
    ("example", "literals", "other", "groups"),
    [
        ('{"Id":{"converter":"R","code":"x"},"properties":{"a":1,"b":true}}', ["x", "1", "true"],
         ' , {"Id":{"converter":"R","code":null},"properties":{"a":-1.5e3,"b":null}}', (None, "-1.5e3", None)),
        ('{"properties":{"a":"1"},"id":7}', ["7", "1"], '{"properties":{"a":""},"id":8}', ("8", "")),
        ('{"properties":{}}', [], ',{"properties":{}}', ()),
    ],
)  # fmt: skip
def test_the_expression(example: str, literals: list[str], other: str, groups: tuple[str | None, ...]) -> None:
    """It takes other values of the same kind, or null, and gives the literals with those of the Id first."""
    made = alike(example, literals)
    assert made is not None
    match = made.pattern.fullmatch(other)
    assert match is not None and tuple(made.literals(match.groups())) == groups


@pytest.mark.parametrize(
    ("example", "literals"),
    [
        ('{"properties":{"a":"\\n"}}', ["\n"]),
        ('{"properties":{"a":{"code":"x"}}}', ['{"code":"x"}']),
        ('{"properties":{"a":[1]}}', ["[1]"]),
    ],
)
def test_examples_that_teach_nothing(example: str, literals: list[str]) -> None:
    """An expression that would not read its own example is none."""
    assert alike(example, literals) is None
