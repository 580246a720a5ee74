"""Readers of JSON Lines and of JSON arrays: exact values, each bad record on its own."""

import json

import pytest
from hypothesis import given, settings, strategies as st

from engine import faults
from engine.readers import FileRefused, Limits, alike, objects
from tests.reader_parts import chunks, facts, resumed_everywhere, row, told

# JSON -------------------------------------------------------------------------------------------------------------------
OBJECTS = [
    ('{"a":1.50,"b":"x","c":null}', row("1.50", "x", None)),
    ('{"C": true, "a": 12345678901234567890123, "b": 1e400}', {"a": "12345678901234567890123", "b": "1e400", "c": "true"}),
    ('{"b":{"x": [1.0, "ä", {"y":null}]}}', {"b": '{"x":[1.0,"ä",{"y":null}]}'}),
    ('{"z":1}', {}),
    ("{}", {}),
    ('{"a":1,"a":2}', faults.INVALID_JSON_LINE),
    ('{"a":1,"A":2}', faults.INVALID_JSON_LINE),
    ('{"a":{"x":1,"x":2}}', faults.INVALID_JSON_LINE),
    ('{"a":NaN}', faults.INVALID_JSON_LINE),
    ("[1]", faults.NOT_AN_OBJECT),
    ("12", faults.NOT_AN_OBJECT),
    ('{"a":' + "[" * 600 + "]" * 600 + "}", faults.INVALID_JSON_LINE),
    ('{"a":' + "[" * 5000 + "]" * 5000 + "}", faults.INVALID_JSON_LINE),
    ('{"a":"]}\\"[{"}', {"a": ']}"[{'}),
    ('{"a": wrong}', faults.INVALID_JSON_LINE),
    ('{"b":2,"a":1}', {"a": "1", "b": "2"}),
]


@pytest.mark.parametrize("trickle", [None, 1, 7])
def test_json_lines(trickle):
    """Values are text as they stand in the file, members go by name, and a bad line costs only itself (T73)."""
    data = "\n".join(text for text, _ in OBJECTS) + '\n\n{"a":"x\n{"a":"\x00"}\n'
    number = len(OBJECTS)
    expected = [(line, said) for line, (_, said) in enumerate(OBJECTS, 1)]
    expected += [(number + 2, faults.INVALID_JSON_LINE), (number + 3, faults.NUL_CHARACTER)]
    assert told(chunks(data, "f.jsonl", trickle=trickle)) == expected


@pytest.mark.parametrize("trickle", [None, 1, 7])
@pytest.mark.parametrize("joint", [",", " ,\n "])
def test_json_arrays(trickle, joint):
    """An array's elements are numbered from 1; a bad one costs only itself (T73)."""
    data = (" [" + joint.join(text for text, _ in OBJECTS) + "] \n").encode()
    assert told(chunks(data, "f.json", trickle=trickle)) == [(line, said) for line, (_, said) in enumerate(OBJECTS, 1)]
    assert told(chunks(b'[{"a":"\xff"},{"a":"1"}]', "f.json", trickle=trickle)) == [(1, faults.INVALID_ENCODING), (2, {"a": "1"})]


@pytest.mark.parametrize("data", ["", "  \n", "[]", " [ ] "])
def test_empty_json_files(data):
    """A file without elements has no records."""
    assert told(chunks(data, "f.json")) == []


@pytest.mark.parametrize(("trickle", "size"), [(None, 1), (1, 1), (5, 5000)])
@pytest.mark.parametrize(
    ("data", "line"),
    [
        ('[{"a":1} x]', 2),
        ('[{"a":1}] {', 2),
        ('[{"a":1},{"b":[]} "x",]', 3),
        ("{}", 1),
        ('[{"a":1}', 2),
        ('[{"a":1} {"a":2}]', 2),
        ('[{"a":1},]', 2),
        ('[{"a":1}] x', 2),
        ('[{"a":1},{"a":"x}]', 2),
        ('[{"a":', 1),
    ],
)
def test_json_arrays_that_cannot_be_followed(data, line, trickle, size):
    """Where nobody can say where the next element begins the file is refused from there on, wherever reads end or a run was broken off."""
    reading = chunks(data, "f.json", trickle=trickle, chunk_records=size)
    last: list = []
    with pytest.raises(FileRefused) as caught:
        for chunk in reading:
            last = [chunk]
    assert caught.value.line == line
    for chunk in last:
        go_on = {"start_line": chunk.next_line, "first_record": len(chunk), "first_chunk_number": 1, "resume": chunk.resume}
        with pytest.raises(FileRefused) as again:
            list(chunks(data, "f.json", go_on=go_on))
        assert (again.value.code, again.value.message, again.value.line) == (caught.value.code, caught.value.message, line)


def test_json_arrays_give_what_came_before_a_break():
    """The records before the place where an array breaks off are not lost."""
    reading = chunks('[{"a":1},{"a":2},', "f.json")
    assert told([next(reading)]) == [(1, {"a": "1"}), (2, {"a": "2"})]
    with pytest.raises(FileRefused):
        next(reading)


def test_json_elements_are_bounded():
    """An element longer than a record may be is its own fault, or ends the file where it exceeds even that by far (T73)."""
    limits = Limits(line_bytes=1_000)
    for trickle in (None, 7):
        with pytest.raises(FileRefused, match="longer than the limit"):
            list(chunks('[{"a":"' + "x" * 2_500 + '"}]', "f.json", limits=limits, trickle=trickle))
    data = json.dumps([{"a": "x" * 1_200}, {"a": "1"}])
    assert told(chunks(data, "f.json", limits=limits)) == [(1, faults.LINE_TOO_LONG), (2, {"a": "1"})]
    with pytest.raises(FileRefused, match="longer than the limit"):
        list(chunks('[{"a":"' + "x" * 10_000_000, "f.json", limits=limits))
    assert told(chunks(json.dumps({"a": "x" * 60}), "f.jsonl", limits=Limits(field_chars=50))) == [(1, faults.FIELD_TOO_LONG)]


SHORT = [*(text for text, _ in OBJECTS if len(text) < 500), '{"a":"ä😀"}']


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([text for text, _ in OBJECTS if len(text) < 500] + ['{"a":"ä😀"}'])),
    st.integers(1, 3),
    st.sampled_from([None, 1, 5]),
)
def test_json_files_resume_anywhere(texts, chunk_records, trickle):
    """Readers of JSON go on behind any chunk."""
    resumed_everywhere("\n".join(texts), "f.jsonl", chunk_records=chunk_records, trickle=trickle)
    resumed_everywhere("[" + ", ".join(texts) + " ]", "f.json", chunk_records=chunk_records, trickle=trickle)


def test_two_values_on_one_line():
    """What follows a record on its line is told with its place and the likeliest cause; the next line counts."""
    [chunk] = chunks('{"a":1} {"a":2}\n{"a":3}\n', "f.jsonl")
    [fault] = chunk.faults[0]
    assert fault.kind == faults.INVALID_JSON_LINE and "at character 9 " in fault.message and "curl -d" in fault.message
    assert told([chunk])[1] == (2, {"a": "3"})


# Written alike ----------------------------------------------------------------------------------------------------------
TEXTS = st.text(max_size=3) | st.sampled_from(["", "null", '"', "\\", "{", "},", "x" * 60, "\n"])
SCALARS = TEXTS | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.none()
RECORDS = st.fixed_dictionaries({"a": SCALARS, "b": TEXTS}, optional={"c": SCALARS | st.just({"x": [1, None]}), "A": st.just(1)})
TAILS = st.sampled_from(["", " ", "\t", "}", ",", " x", "\x0b"])


@settings(max_examples=100, deadline=None)
@given(st.data(), st.lists(RECORDS, min_size=1, max_size=6), st.booleans())
def test_objects_written_alike_are_read_as_any_other(data: st.DataObject, records: list[dict[str, object]], is_array: bool) -> None:
    """Whatever the objects hold and whatever stands behind them, what is learned from some changes nothing of the others' chunks."""
    drawn = [records[0], *data.draw(st.lists(st.sampled_from(records), min_size=4, max_size=30))]
    texts = [json.dumps(record, ensure_ascii=data.draw(st.booleans())) for record in drawn]
    tails = data.draw(st.lists(TAILS, min_size=len(texts), max_size=len(texts)))
    lines = "".join(f"{text}{tail}\n" for text, tail in zip(texts, tails, strict=True))
    whole, name = (f"[{', '.join(texts)}]", "f.json") if is_array else (lines, "f.jsonl")
    trickle = data.draw(st.sampled_from([None, 40, 333]))
    options = {"chunk_records": 7, "limits": Limits(field_chars=50)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alike, "WORTH_LEARNING", 10**9)
        singly = [facts(chunk) for chunk in chunks(whole, name, trickle=trickle, **options)]
        patch.setattr(alike, "WORTH_LEARNING", 1)
        learned = [facts(chunk) for chunk in chunks(whole, name, trickle=trickle, **options)]
    assert learned == singly


@pytest.mark.parametrize("name", ["f.json", "f.jsonl"])
def test_most_objects_written_alike_are_not_decoded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a thousand objects of which some have an escape, only those and the first fifty are decoded one by one."""
    decoded, scan = [], objects.DECODER.raw_decode

    def counted(text: str, idx: int = 0) -> object:
        decoded.append(idx)
        return scan(text, idx)

    monkeypatch.setattr(objects.DECODER, "raw_decode", counted)
    texts = [json.dumps({"a": n, "b": "\n" if n % 10 == 9 else None if n % 7 == 3 else "x"}) for n in range(1_000)]
    data = "\n".join(texts) if name == "f.jsonl" else f"[{','.join(texts)}]"
    assert sum(len(chunk) for chunk in chunks(data, name)) == 1_000
    assert 100 < len(decoded) < 160
