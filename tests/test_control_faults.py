"""Control files that the target cannot follow: every fault at once, with its line and the names that were allowed."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from engine.plan import Action
from errors import ControlFileInvalid
from schemas import control
from tests import control_parts
from tests.control_parts import Made, one_entity

made = control_parts.made

BAD_MAPPINGS = [  # table, mapping, and what is wrong with it
    ("airlines", "carier: {input: a}", ["there is no column of airlines 'carier'"]),
    ("airlines", "carier:", ["there is no column of airlines 'carier'", "there is no input 'carier'"]),
    ("airlines", "name: {input: c}", ["input: there is no input 'c'"]),
    ("airlines", "name: {input: a, fallbackInput: c}", ["fallbackInput: there is no input 'c'"]),
    ("airlines", "name: {input: a, converter: {type: Text, input: b}}",
     ["converter.input: the input is named twice, here and beside the converter"]),
    ("airlines", "name: {input: a, converter: {type: Txt}}", ["converter.type: there is no converter 'Txt'"]),
    ("customer", "upper_name: {input: a}", ["the column upper_name is computed by the database and cannot be written"]),
    ("airlines", "name: {input: a, mapDefault: x}", ["mapDefault: `mapDefault` needs a `map`"]),
    ("airlines", "name: {input: a, default: x, required: true, empty: keep}", [
        "empty: a required value is never empty", "empty: `empty` has no meaning here: with a `default` no value is empty",
        "required: `required` has no meaning here: with a `default` no value is empty",
    ]),
    ("airlines", "name: {constant: x, input: a, filters: [trim]}", [
        "filters: `filters` has no meaning here: a constant comes from no data",
        "input: `input` has no meaning here: a constant comes from no data",
    ]),
    ("airlines", "name: {constant: x, converter: {type: Now}}",
     ["constant: `constant` has no meaning here: the value of the converter Now comes from no data"]),
    ("airlines", "name: {converter: {type: Constant}}", ["converter: the converter Constant needs a `value`"]),
    ("airlines", "name: {converter: {type: FileName, format: x}}", ["converter.format: the converter FileName has no option `format`"]),
    ("airlines", "name: {input: a, empty: clear}", ["empty: the column name cannot be cleared: it is NOT NULL"]),
    ("customer", "big: {input: a, empty: empty-string}", ["empty: the column big is no text, so it cannot hold an empty one"]),
    ("customer", "big: {constant: x1}", ["constant: *"]),
    ("customer", "big: {input: a, default: x1, map: {a: 1, b: x2, c: }, mapDefault: 1}", ["default: *", "map: *"]),
    ("customer", "born: {converter: {type: LineNumber}}",
     ["converter.type: the column born, which is date, cannot hold what LineNumber gives"]),
    ("customer", "born: {converter: {type: Date, input: a, format: '%d', maxLength: 3}}", [
        "converter.format: the format '%d' does not tell the year and the month", "converter.maxLength: Date has no option 'maxLength'",
    ]),
    ("customer", "born: {converter: {type: Boolean, input: a}}", ["converter.type: *"]),
    ("customer", "amount: {converter: {input: a, decimal: ',', thousands: ','}}",
     ["converter.thousands: the thousands mark and the decimal mark are the same"]),
    ("customer", "name: {converter: {type: Text, input: a, pattern: '(a'}}", ["converter.pattern: *"]),
    ("customer", "name: {converter: {type: CodeReferenceLookup, input: a}}",
     ["the column 'name' of customer refers to no other table, so nothing can be looked up"]),
    ("customer", "nome: {converter: {type: CodeReferenceLookup, input: a}}", ["customer has no foreign key 'nome'"]),
    ("flights", "airports: {converter: {type: CodeReferenceLookup, input: a}}", ["'airports' may mean several foreign keys"]),
    ("flights", "origin: {converter: {type: CodeReferenceLookup, input: a}}", [
        "converter: airports has several unique text columns: say by `column` where the code stands",
    ]),
    ("flights", "origin: {converter: {type: CodeReferenceLookup, input: a, column: nam}}",
     ["converter.column: there is no column of airports 'nam'"]),
    ("customer", "id: {converter: {type: CodeReferenceLookup, input: a, column: details}}", ["converter: *"]),
    ("resource_trade", "id: {converter: {type: CodeReferenceLookup, input: a}}", [
        "converter: resource_trade has neither a column `code` nor a unique text column: say by `column` where the code stands",
    ]),
    ("airlines", "id: {required: true, empty: keep, converter: {type: CodeReferenceLookup, input: a, missing: skip}}", [
        "converter.missing: *", "empty: *", "required: *", "empty: a required value is never empty",
    ]),
    ("airlines", "id: {converter: {type: CodeReferenceLookup}}", ["there is no input 'id'"]),
    ("airlines", "id: {converter: {type: CodeReferenceLookup, input: a, properties: {X->carrier: a}}}", [
        "converter.properties: the converter CodeReferenceLookup has no option `properties`",
    ]),
    ("airlines", "id: {input: a, converter: {type: ReferenceLookup}}", [
        "input: `input` has no meaning here: a ReferenceLookup takes its inputs from `properties`",
    ]),
    ("airlines", "id: {converter: {type: ReferenceLookup}}", [
        "converter: a ReferenceLookup needs `properties`: a map of `Entity->Column` to the inputs with their values",
    ]),
    ("resource_trade", "id: {converter: {type: ReferenceLookup, properties: {code: a, Y->level: a, X->lvl: a, X->level: c}}}", [
        'converter.properties.code: a property is written `Entity->Column`, or `Entity->Reference_Column`',
        'converter.properties["X->level"]: there is no input \'c\'',
        "converter.properties[\"X->lvl\"]: there is no column 'lvl' of resource_trade, nor of what it refers to",
        "converter.properties[\"Y->level\"]: the row is looked up in resource_trade, not in 'Y'",
    ]),
    ("flights", "id: {converter: {type: ReferenceLookup, properties: {X->airports_name: a}}}", [
        "converter.properties[\"X->airports_name\"]: 'X->airports_name' may mean several columns; name the reference by its column",
    ]),
    ("customer", "id: {input: a, converter: {type: Integer}, masked: true, constant: 1}", [
        "input: `input` has no meaning here: a constant comes from no data",
    ]),
    ("airlines", "id: {input: a}", ["there is no column of airlines 'id'"]),
]  # fmt: skip


@pytest.mark.parametrize(("table", "mapping", "expected"), BAD_MAPPINGS)
def test_faults_of_one_mapping(made: Made, table: str, mapping: str, expected: list[str]) -> None:
    """Every fault of a mapping is said at once, with the line and the path of what is wrong (`*`: whatever the words)."""
    name = mapping.partition(":")[0]
    prefix = f"line 6: entities[0].mappings[0].{name}"
    found = [fault.removeprefix(prefix).removeprefix(": ").removeprefix(".") for fault in made.faults(one_entity(table, "a, b", mapping))]
    starred = {text.removesuffix("*") for text in expected if text.endswith("*")}
    assert sorted(
        next((f"{star}*" for star in starred if text.startswith(star) and text not in expected), text) for text in found
    ) == sorted(expected)


BAD_FILES = [  # the options of a file, and what is wrong with them
    ("a.csv: {entity: Y, action: Merge}", ["entity: there is no entity 'Y'"]),
    ("a.csv: {entity: X}", ["entity: a file with an `entity` needs an `action`"]),
    ("a.csv: {action: Merge}", ["action: an `action` needs an `entity`: without it each row names its own"]),
    ("a.csv: {header: false}", []),
    ("a.xlsx: {entity: X, action: Insert, sheet: 1, encoding: utf-8}", ["encoding: `encoding` has no meaning in an xlsx file"]),
    ("a.csv: {read: xlsx, decimal: ','}", ["decimal: `decimal` has no meaning in an xlsx file"]),
    ("a.csv: {sheet: One}", ["sheet: a csv file has no sheets"]),
    ("a.json: {separator: ';', quote: \"'\"}", [
        "separator: `separator` has no meaning in a json file", "quote: `quote` has no meaning in a json file",
        ": a json file needs an `entity` and an `action`: only csv, tsv and xlsx files have a form whose rows name their own",
    ]),
    ("a.tsv: {separator: ';'}", ["separator: a tsv file is separated by tabs; write `read: csv` for another separator"]),
    ("a.csv: {separator: '::', quote: \" \"}", [
        'separator: the separator is one character, no space and no line end (a tab is written "\\t")',
        'quote: the quote is one character, no space and no line end, or "" where nothing is quoted',
    ]),
    ("a.csv: {quote: '', separator: \"\\t\"}", []),
    ("a.csv: {separator: '\"'}", ["separator: the separator and the quote are the same"]),
    ("a.csv: {encoding: latin}", []),
    ("a.csv: {encoding: klingon}", ["encoding: 'klingon' is no known encoding"]),
    ("a.csv: {encoding: rot13}", ["encoding: 'rot13' is no known encoding"]),
    ("a.csv: {encoding: punycode}", ["encoding: 'punycode' is no known encoding"]),
    ("DEFAULT: {required: true}", ["required: only a file with a name can be required"]),
]  # fmt: skip


@pytest.mark.parametrize(("options", "expected"), BAD_FILES)
def test_faults_of_one_file(made: Made, options: str, expected: list[str]) -> None:
    """Every fault of a file is said at once."""
    text = one_entity("airlines", "carrier", "carrier:") + f"files:\n  {options}\n"
    name = options.partition(":")[0]
    prefix = f'line 8: files["{name}"]' if "." in name else f"line 8: files.{name}"
    if expected:
        assert sorted(fault.removeprefix(prefix).removeprefix(".") for fault in made.faults(text)) == sorted(expected)
    else:
        made.compile(text)


def test_faults_of_many_places_come_at_once(made: Made) -> None:
    """The faults of all parts of a control file are said at once, in the order of their lines."""
    assert made.faults("""\
        files:
          a.csv: {entity: Keyless, action: Merge}
          b.csv: {entity: Flite, action: Insert}
          c.csv: {decimal: ","}
          d.csv:
        entities:
        - entity: Keyless
          input: [a, b, a]
          mappings:
          - a:
          - A: {input: b}
        - {entity: Nowhere, input: [a], mappings: [a: ]}
        - {entity: OrderLine, input: [id], mappings: [id: ]}
        - entity: keyless
          input: [a]
          mappings: [a: ]
        - entity: Airline
          table: airlines
          input: [code]
          mappings:
          - id: {converter: {type: CodeReferenceLookup, input: code}}
          - id: {converter: {type: CodeReferenceLookup, input: code}}
        """) == [
        "line 3: files[\"b.csv\"].entity: there is no entity 'Flite'",
        'line 4: files["c.csv"].decimal: all files without an `entity` must have the same decimal mark; '
        "name it at the mappings' converters instead",
        "line 8: entities[0].input[2]: the input 'a' is there already, at line 8",
        "line 11: entities[0].mappings[1].A: the column a is filled already, by the mapping at line 10",
        "line 12: entities[1].entity: there is no table 'Nowhere'",
        "line 13: entities[2].entity: 'OrderLine' may mean several tables; name one of them by `table`",
        "line 14: entities[3].entity: the entity 'keyless' is there already, at line 7: give one of them an `alias` of its own",
        "line 22: entities[4].mappings[1].id: a record has one identity, and this is the second `id`",
    ]


@pytest.mark.parametrize("action", ["Update", "Delete", "Merge"])
def test_actions_that_find_rows_need_an_identity(made: Made, action: str) -> None:
    """A file whose action must find rows is refused where nothing tells them apart; Insert is not."""
    text = one_entity("keyless", "a, b", "a:", "b:") + "files:\n  a.csv: {entity: X, action: ACTION}\n"
    [problem] = made.problems(text.replace("ACTION", action))
    assert problem.message.startswith(f"{action} needs to find the rows of keyless, but the entity X has no `id` mapping")
    assert (problem.line, problem.path, problem.allowed) == (9, 'files["a.csv"].action', ("Insert",))
    assert made.compile(text.replace("ACTION", "Insert")).files["a.csv"].action is Action.INSERT


@pytest.mark.parametrize(
    ("text", "first", "most"),
    [
        (one_entity("airline", "carrier", "carrier:"), "airlines", 10),
        (one_entity("airlines", "carrier", "carrier: {input: carier}"), "carrier", 1),
        (one_entity("airlines", "carrier", "nam: {input: carrier}"), "name", 2),
        (one_entity("customer", "a", "emial: {input: a}"), "email", 10),
        (one_entity("commodity", "a", "permission: {converter: {type: CodeReferenceLookup, input: a}}"), "permission_tree_id", 2),
        (
            one_entity("resource_trade", "a", "id: {converter: {type: ReferenceLookup, properties: {X->Resource_Cod: a}}}"),
            "X->resource_code",
            10,
        ),
        (one_entity("airlines", "a", "name: {converter: {type: Intger, input: a}}"), "Integer", 10),
    ],
)
def test_faults_name_what_is_allowed(made: Made, text: str, first: str, most: int) -> None:
    """A wrong name is answered with the right ones, the nearest first, at most ten."""
    problem = made.problems(text)[0]
    assert problem.allowed[0].endswith(first)
    assert len(problem.allowed) <= most


def test_many_faults_take_bounded_time(made: Made) -> None:
    """Thousands of wrong names are answered within seconds."""
    started = time.process_time()
    problems = made.problems(one_entity("customer", "a", *[f"c{n}: {{input: a}}" for n in range(5_000)]))
    assert len(problems) == ControlFileInvalid.MOST + 1
    assert time.process_time() - started < 5


NAMES = """id a b c code name email country region_code region born big details raw upper_name trade_id resource trade X->code
    X->Resource_Code X->trade_group_code Trade->code -> X->"""
TYPES = "CodeReferenceLookup ReferenceLookup Constant Now BatchId Integer Date Json Txt"
WORDS = st.sampled_from(NAMES.split())
CONVERTER = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("input", "column", "format", "timezone", "pattern", "value", "true", "false"), WORDS)
    | {"type": st.sampled_from(TYPES.split()), "missing": st.sampled_from(control.MISSING_WORDS), "maxLength": st.integers(1, 9)}
    | {"properties": st.dictionaries(WORDS, WORDS, min_size=1, max_size=3), "thousands": st.sampled_from(".,x")},
)
OPTIONS = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("input", "fallbackInput", "constant", "default", "mapDefault"), WORDS)
    | {"required": st.booleans(), "masked": st.booleans(), "empty": st.sampled_from(control.EMPTY_WORDS)}
    | {"converter": CONVERTER, "map": st.dictionaries(WORDS, st.none() | WORDS, min_size=1, max_size=2)},
)
MAPPINGS = st.lists(st.dictionaries(WORDS, st.none() | OPTIONS, min_size=1, max_size=1), min_size=1, max_size=4)


@settings(max_examples=200, deadline=2_000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=st.sampled_from(["customer", "resource_trade", "flights", "commodity", "keyless", "region"]), mappings=MAPPINGS)
def test_any_mappings_compile_or_have_faults(made: Made, table: str, mappings: list[dict[str, object]]) -> None:
    """Whatever options are put together, the control file compiles, or is refused with at least one fault."""
    text = json.dumps({"entities": [{"entity": "X", "table": table, "input": ["a", "b", "code"], "mappings": mappings}]})
    try:
        plan = made.compile(text)
    except ControlFileInvalid as invalid:
        assert invalid.problems
        assert all(problem.line == 1 for problem in invalid.problems)
    else:
        assert plan.entities["x"].table.name == table
