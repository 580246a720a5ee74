"""Reading control files: YAML's traps, the limits, the shape, and every fault at once with its line."""

from __future__ import annotations

import json
import textwrap
import time

import pytest
from hypothesis import given, settings, strategies as st

from engine import plan
from engine.pull import FILTERS
from errors import ControlFileInvalid
from schemas import control
from schemas.control import Document, control_file_name_is_good, parse

MINIMAL = """
entities:
- entity: Airline
  input: [carrier]
  mappings:
  - carrier:
"""
ON_KEY = """
entities:
- entity: Commodity
  alias:
  input:
  - code
  - description
  - permissionTreeCode
  - costElementCode
  - isActive
  mappings:
  - id:
      converter:
        type: CodeReferenceLookup
        input: code
  - code:
  - description:
  - permissionTreeId:
      converter:
        type: CodeReferenceLookup
        input: permissionTreeCode
  - costElementId:
      converter:
        type: CodeReferenceLookup
        input: costElementCode
  - isActive:
"""


def read(text: str) -> Document:
    """Parse a text."""
    return parse(text.encode())


def faults(text: str | bytes) -> list[str]:
    """Return the faults of a text as their lines of a reply, without the allowed names."""
    with pytest.raises(ControlFileInvalid) as caught:
        parse(text.encode() if isinstance(text, str) else text)
    return [str(problem).partition(" (allowed: ")[0] for problem in caught.value.problems]


def mapping(options: str) -> object:
    """Return what the options of a mapping are read as."""
    document = read(MINIMAL.replace("- carrier:", f"- carrier: {options}"))
    return document.data["entities"][0]["mappings"][0]["carrier"]


def test_a_minimal_control_file_is_read() -> None:
    """A control file needs no more than entities with their inputs and mappings."""
    assert read(MINIMAL).data == {"entities": [{"entity": "Airline", "input": ["carrier"], "mappings": [{"carrier": {}}]}]}


def test_a_control_file_of_on_key_is_read() -> None:
    """The import schema of On Key's documentation is a control file, its empty alias included."""
    entity = read(ON_KEY).data["entities"][0]
    assert "alias" not in entity
    assert entity["mappings"][3] == {"permissionTreeId": {"converter": {"type": "CodeReferenceLookup", "input": "permissionTreeCode"}}}


def test_json_is_read_like_yaml() -> None:
    """A control file in JSON gives the same document, also indented by tabs and with escapes."""
    data = {"name": "a\U0001f6eb\\ud83d", "description": "a/b", **dict(read(ON_KEY).data)}
    for text in (json.dumps(data), json.dumps(data, indent="\t"), json.dumps(data, ensure_ascii=False).replace("a/b", "a\\/b")):
        assert read(text).data == data


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("no", "no"), ("on", "on"), ("Yes", "Yes"), ("012", "012"), ("0x1F", "0x1F"), ("1_000", "1_000"), ("12:30:00", "12:30:00"),
        ("1.10", "1.10"), ("1e5", "1e5"), ("2024-02-30", "2024-02-30"), (".inf", ".inf"), ("true", "true"), ("=", "="),
        ("'null'", "null"), ('"a\\tb"', "a\tb"), ("!!str 012", "012"), ("''", ""), ("\\N", "\\N"), ("+1", "+1"),
    ],
)  # fmt: skip
def test_text_stays_the_text_it_is(written: str, meant: str) -> None:
    """No scalar becomes a number, date or truth value where text is expected (T78)."""
    assert mapping(f"{{constant: {written}}}") == {"constant": meant}


@pytest.mark.parametrize("key", ["no", "on", "12:30:00", "1.0", "null", "~", "true"])
def test_keys_are_text_too(key: str) -> None:
    """A key of a map is the text it is written as."""
    assert mapping(f"{{map: {{{key}: x}}}}") == {"map": {key: "x"}}


def test_nothing_is_nothing() -> None:
    """A key without a value is as if it were absent; in a map, and as mapDefault, null means null."""
    assert mapping("{input: , map: {a: , b: ~, c: null, d: 'null'}, mapDefault: }") == {
        "map": {"a": None, "b": None, "c": None, "d": "null"}, "mapDefault": None,
    }  # fmt: skip


@pytest.mark.parametrize(("written", "is_true"), [("true", True), ("TRUE", True), ("False", False)])
def test_truth_values_are_unquoted_true_and_false(written: str, is_true: bool) -> None:
    """The three spellings of YAML 1.2 are truth values where one is expected."""
    assert mapping(f"{{required: {written}}}") == {"required": is_true}


def test_the_line_of_everything_is_known() -> None:
    """Every value's line is that of its key or of its item's beginning; what is not there has the line of what is around it."""
    document = read(ON_KEY)
    for path, line in {
        (): 2, ("entities",): 2, ("entities", 0): 3, ("entities", 0, "alias"): 4, ("entities", 0, "input", 2): 8,
        ("entities", 0, "mappings", 0, "id"): 12, ("entities", 0, "mappings", 0, "id", "converter", "input"): 15,
        ("entities", 0, "mappings", 2, "description", "map"): 17, ("files",): 2,
    }.items():  # fmt: skip
        assert document.line_of(path) == line, path


def test_aliases_are_read_and_counted() -> None:
    """An alias stands for what was anchored; a hundred of them are allowed, one more is not (T78)."""
    aliased = MINIMAL.replace("- carrier:", "- carrier: &o {filters: [trim]}\n  - name: *o")
    assert read(aliased).data["entities"][0]["mappings"][1] == {"name": {"filters": ["trim"]}}
    many = "\n".join(f"  - c{n}: *o" for n in range(101))
    assert faults(MINIMAL.replace("- carrier:", f"- carrier: &o {{filters: [trim]}}\n{many}")) == ["line 107: more than 100 aliases"]


BAD = [
    ("", ["the control file is empty"]),
    ("# nothing\n", ["the control file is empty"]),
    ("~", ["line 1: must be a map of names to values, not nothing"]),
    ("- a", ["line 1: must be a map of names to values, not a list"]),
    ("just text", ["line 1: must be a map of names to values, not 'just text'"]),
    ("a: [1, 2", ["line 2: not valid YAML: while parsing a flow sequence, did not find expected ',' or ']'"]),
    ("a: b: c", ["line 1: not valid YAML: mapping values are not allowed in this context"]),
    ("a: 1\n---\nb: 2\n", [
        "line 1: entities: is missing", "line 1: a: is no known key", "line 2: only one document is allowed",
    ]),
    ("a: \x07", ["line 1: the character U+0007 is not allowed"]),
    (b"name: ok\ndescription: caf\xe9\n", ["line 2: not UTF-8: byte 0xE9 at offset 25"]),
    ("a: *b", ["line 1: entities: is missing", "line 1: a: is no known key", "line 1: the alias *b refers to nothing before it"]),
    ("a: &a [*a]", ["line 1: entities: is missing", "line 1: a: is no known key", "line 1: the alias *a refers to nothing before it"]),
    ("? [a]\n: b\nentities: []", ["line 1: a key must be text", "line 3: entities: must not be empty"]),
    ("<<: {a: b}", ["line 1: entities: is missing", 'line 1: ["<<"]: is no known key']),
    (
        """\
        name: a/b
        files:
          x.csv: {sheet: 1, hedar: no, order: "2", header: yes, action: merge, nulls: [null, ~, x]}
          DEFAULT: {decimal: ;, required: 1, empty: none}
          DEFAULT:
          "": {}
        entities:
        - entity: Airline
          inputs: [a]
          mappings:
          - carrier
          - {a: , b: }
          - name: foo
          - name: {converter: {type: !!python/name:os.system x, maxLength: 0, true: yes, thousands: ",."}, masked: 1}
          - name: {filters: [trim, uper], map: {}, mapDefault: [], constant: {a: b}}
          - name: []
          - {}
        -
        - x
        - {entity: '', alias: "a\\tb", input: [], mappings: x}
        """,
        [
            "line 1: name: a control file's name has 1 to 100 characters, no comma, slash or control character, no space at its ends, "
            "does not begin with ! or #, and is no digest",
            'line 3: files["x.csv"].header: must be true or false, without quotes, not \'yes\'',
            'line 3: files["x.csv"].nulls[0]: needs a value; the word null must stand in quotes',
            'line 3: files["x.csv"].nulls[1]: needs a value; the word null must stand in quotes',
            'line 3: files["x.csv"].action: \'merge\' is not allowed here',
            'line 3: files["x.csv"].order: must be a number, without quotes, not \'2\'',
            'line 3: files["x.csv"].hedar: is no known key',
            "line 4: files.DEFAULT.decimal: ';' is not allowed here",
            "line 4: files.DEFAULT.required: must be true or false, without quotes, not '1'",
            "line 4: files.DEFAULT.empty: 'none' is not allowed here",
            "line 5: the key 'DEFAULT' stands here twice, first at line 4",
            'line 6: files[""]: a name has 1 to 255 characters, not 0',
            "line 8: entities[0].input: is missing",
            "line 9: entities[0].inputs: is no known key",
            "line 11: entities[0].mappings[0]: a mapping needs a colon: write `carrier:`",
            "line 12: entities[0].mappings[1]: a mapping names one column, not 2; begin each with `- `, and indent its options",
            "line 13: entities[0].mappings[2].name: options are a map: to read another input write `{input: foo}`",
            "line 14: the tag !!python/name:os.system is not allowed",
            "line 14: entities[0].mappings[3].name.converter.maxLength: must be a whole number from 1 on, without quotes, not '0'",
            "line 14: entities[0].mappings[3].name.converter.thousands: must have 1 character, not 2",
            "line 14: entities[0].mappings[3].name.masked: must be true or false, without quotes, not '1'",
            "line 15: entities[0].mappings[4].name.filters[1]: 'uper' is not allowed here",
            "line 15: entities[0].mappings[4].name.map: must not be empty",
            "line 15: entities[0].mappings[4].name.mapDefault: must be text, not a list",
            "line 15: entities[0].mappings[4].name.constant: must be text, not a map",
            "line 16: entities[0].mappings[5].name: must be a map of names to values, not a list",
            "line 17: entities[0].mappings[6]: a mapping names one column, not 0; begin each with `- `, and indent its options",
            "line 18: entities[1]: needs a value",
            "line 19: entities[2]: must be a map of names to values, not 'x'",
            "line 20: entities[3].entity: must have 1 to 255 characters, not 0",
            "line 20: entities[3].alias: a name has no control characters",
            "line 20: entities[3].input: must not be empty",
            "line 20: entities[3].mappings: must be a list, not 'x'",
        ],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), BAD)
def test_all_faults_are_said_with_their_lines(text: str | bytes, expected: list[str]) -> None:
    """Every fault that can be seen is said at once, with its line and path (T78)."""
    found = faults(textwrap.dedent(text) if isinstance(text, str) else text)
    assert sorted(found) == sorted(expected)


def test_the_allowed_names_come_nearest_first() -> None:
    """A wrong key or word is answered with the right ones, at most ten, the most alike first."""
    with pytest.raises(ControlFileInvalid) as caught:
        read(MINIMAL.replace("- carrier:", "- carrier: {fallbackinput: x, empty: emptystring, converter: {tpye: x}}"))
    allowed = {problem.path.rpartition(".")[2]: problem.allowed for problem in caught.value.problems}
    assert allowed["fallbackinput"][0] == "fallbackInput"
    assert allowed["tpye"][0] == "type"
    assert allowed["empty"][0] == "empty-string"
    assert max(map(len, allowed.values())) == 10


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "a: " + "{b: " * 100_000,
        "- " * 100_000,
        "entities: &a [&b [&c [&d [&e [&f [&g [&h [&i [&j [&k [&l [&m [&n [&o [&p [&q [&r [&s [&t [x]]]]]]]]]]]]]]]]]]]]",
    ],
)
def test_depth_is_limited(text: str) -> None:
    """Nesting beyond twenty levels is refused before it can cost anything (T78)."""
    started = time.process_time()
    assert faults(text)[0].endswith("nested deeper than 20 levels")
    assert time.process_time() - started < 1


def test_a_thousand_faults_are_enough() -> None:
    """Of more than a thousand faults the first are said, and how many there are."""
    found = faults("entities:\n" + "- x\n" * 1_500)
    assert len(found) == 1_001
    assert found[-1] == "and 500 faults more"


def test_depth_is_limited_through_aliases() -> None:
    """What an alias repeats counts at the depth where it is repeated."""
    ten = "[" * 10 + "]" * 10
    assert faults(f"a: &a {ten}\nb: [[[[[[[[[[*a]]]]]]]]]]") == ["line 2: nested deeper than 20 levels"]


def test_an_alias_bomb_is_refused_at_once() -> None:
    """Aliases of aliases cannot grow beyond the limit of values (T78)."""
    levels = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 11)]
    started = time.process_time()
    assert "more than 100000 values" in faults("\n".join(["l0: &l0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]", *levels]))[0]
    assert time.process_time() - started < 1


def test_a_large_control_file_is_refused_unread() -> None:
    """Ten megabytes are refused by their size alone (T78)."""
    started = time.process_time()
    assert faults(b"[" * 10_000_000) == ["a control file has at most 1048576 bytes, this one has 10000000"]
    assert time.process_time() - started < 0.1


@pytest.mark.parametrize(
    "text",
    [
        "entities:\n" + "- x\n" * 99_000,
        "entities:\n- {entity: A, input: [a], mappings: [" + "a: {input: x}, " * 19_000 + "]}",
        MINIMAL + "  - b: {map: {" + ", ".join(f"{n}: {n}" for n in range(49_000)) + "}}\n",
        "".join(f"a{n}: b\n" for n in range(49_000)),
        "a: b\n" * 49_000,
    ],
)
def test_the_largest_control_files_are_read_in_bounded_time(text: str) -> None:
    """A file of as many values as are allowed is read, or refused, within seconds."""
    started = time.process_time()
    try:
        read(text)
    except ControlFileInvalid as invalid:
        assert invalid.problems
    assert time.process_time() - started < 5


WORDS = "entities entity input mappings files DEFAULT id converter map filters null true no 012 a b"
MARKS = [
    "\n",
    "\n  ",
    "\n- ",
    ": ",
    "\n  - ",
    "[",
    "]",
    "{",
    "}",
    ",",
    "&a ",
    "*a",
    "? ",
    "---\n",
    "%YAML 1.1\n",
    "!",
    "!!x ",
    "|",
    "'",
    '"',
    "#",
]
YAMLISH = st.lists(st.sampled_from([*WORDS.split(), *MARKS, *MARKS, "\t", "\u2028", "\ufeff", "\x85"]), max_size=60).map("".join)


@settings(max_examples=300, deadline=2_000)
@given(st.one_of(YAMLISH, st.text(), st.binary().map(lambda data: data.decode("latin-1"))))
def test_any_text_is_a_document_or_has_faults(text: str) -> None:
    """Whatever the text, it is read, or refused with at least one fault."""
    try:
        document = parse(text.encode("utf-8", "surrogatepass"))
    except ControlFileInvalid as invalid:
        assert invalid.problems
    else:
        assert document.data["entities"]


@settings(max_examples=200, deadline=2_000)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_document_or_have_faults(data: bytes) -> None:
    """Whatever the bytes, nothing but ControlFileInvalid is raised (T78)."""
    try:
        parse(data)
    except ControlFileInvalid as invalid:
        assert invalid.problems


def test_the_words_are_those_of_the_plan() -> None:
    """The words that the shape allows are those that the engine knows."""
    assert tuple(action.value for action in plan.Action) == control.ACTIONS
    assert set(control.EMPTY_WORDS) == {word.value for word in plan.Empty}
    assert set(control.MISSING_WORDS) == {word.value for word in plan.Missing}
    assert set(control.FILTERS) == set(FILTERS)


@pytest.mark.parametrize("name", ["nightly-flights", "My Commodity Import", "a", "Größen", "x" * 100, "a.b_c-d", "a" * 63])
def test_good_names(name: str) -> None:
    """These can be names of control files."""
    assert control_file_name_is_good(name)


@pytest.mark.parametrize("name", ["", " a", "a ", "a/b", "a,b", "!a", "#a", "a\nb", "x" * 101, "0" * 64])
def test_bad_names(name: str) -> None:
    """These would not fit into a URL or a `!` line, or would be taken for a digest."""
    assert not control_file_name_is_good(name)


def test_a_control_file_of_collections_needs_no_entities() -> None:
    """A document whose files are all entity collections names none; faults of it are told as ever."""
    assert parse(b"files: {a.json: {read: collection}}").data["entities"] == []
    for text, said in (
        ("files: {a.json: {read: collection}, b.csv: }", "entities: is missing"),
        ("files: {a.json: {read: collection, sepp: 1}}", 'files["a.json"].sepp: is no known key'),
    ):
        with pytest.raises(ControlFileInvalid) as caught:
            parse(text.encode())
        assert said in str(caught.value)
