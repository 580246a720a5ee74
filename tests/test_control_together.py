"""Faults of form and of meaning are told together, and no fault makes another one up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest

from engine.control import compile
from errors import ControlFileInvalid
from schemas.control import examine, parse
from tests import control_parts
from tests.control_parts import Made

made = control_parts.made

# Nothing is wrong with it, and a good deal of it depends on the rest.
GOOD: dict[str, Any] = {
    "name": "flights",
    "files": {
        "airlines.csv": {"entity": "Carrier", "action": "Merge", "order": "1", "decimal": ",", "encoding": "utf-8"},
        "trades.csv": {"entity": "Works", "action": "Update", "separator": ";", "required": "X", "empty": "keep"},
        "clients.csv": {"entity": "Client", "action": "Insert", "decimal": ","},
    },
    "entities": [
        {
            "entity": "Carrier", "table": "airlines", "input": ["code", "title"],
            "mappings": [
                {"id": {"converter": {"type": "CodeReferenceLookup", "input": "code", "column": "carrier"}}},
                {"carrier": {"input": "code", "filters": ["trim", "upper"]}},
                {"name": {"input": "title", "default": "none"}},
            ],
        },
        {
            "entity": "Works", "alias": "Work", "table": "resource_trade", "input": ["r", "t", "level"],
            "mappings": [
                {"id": {"converter": {"type": "ReferenceLookup", "properties": {"Works->Person_code": "r", "Works->Trade_code": "t"}}}},
                {"Person": {"converter": {"type": "CodeReferenceLookup", "input": "r"}}},
                {"Trade": {"converter": {"type": "CodeReferenceLookup", "input": "t", "missing": "error"}}},
                {"level": {"map": {"low": "1", "high": "2"}, "mapDefault": "0"}},
            ],
        },
        {"entity": "Person", "table": "resource", "input": ["code"], "mappings": [{"code": {}}]},
        {"entity": "Client", "table": "customer", "input": ["mail", "sum"], "mappings": [
            {"email": {"input": "mail"}}, {"amount": {"input": "sum", "default": "1,5"}},
        ]},
    ],
}  # fmt: skip
JUNK: list[Any] = [{"junk": "x"}, ["junk"], None, "X" * 300]


def text_of(document: Any) -> bytes:
    """Write a control file; what stands for a truth value or a number is written without quotes."""
    return json.dumps(document).replace('"required": "X"', '"required": true').replace('"order": "1"', '"order": 1').encode()


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of everything in a document but itself."""
    steps = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for step in steps:
        yield (*path, step)
        yield from paths(value[step], (*path, step))


def broken(path: tuple[Any, ...]) -> Iterator[bytes]:
    """Yield the good control file with something else at one place: junk, another name of the key, one key more, or nothing."""
    for junk in [*JUNK, "rename", "add", "drop"]:
        document = deepcopy(GOOD)
        around: Any = document
        for step in path[:-1]:
            around = around[step]
        last = path[-1]
        match junk:
            case "rename" if isinstance(last, str):
                around[f"{last}x"] = around.pop(last)
            case "add" if isinstance(around[last], dict):
                around[last]["junk"] = "x"
            case "drop":
                del around[last]
            case "rename" | "add":
                continue
            case _:
                around[last] = junk
        yield text_of(document)


def found(call: Any) -> list[str]:
    """Return the faults that a call raises."""
    try:
        call()
    except ControlFileInvalid as invalid:
        return list(map(str, invalid.problems))
    return []


def test_the_good_control_file_is_good(made: Made) -> None:
    """What is broken below has no fault of its own."""
    assert found(lambda: compile(parse(text_of(GOOD)), made.tables, made.dialect)) == []


def test_no_fault_of_form_makes_up_another(made: Made) -> None:
    """Wherever the form of a good control file is broken, only that is told: nothing that follows from not knowing what was meant."""
    tried = 0
    for path in paths(GOOD):
        for text in broken(path):
            of_form = found(lambda text=text: parse(text))
            if of_form:
                tried += 1
                assert found(lambda text=text: compile(examine(text), made.tables, made.dialect)) == of_form, text.decode()
    assert tried > 400


def test_all_that_is_wrong_elsewhere_is_told_too(made: Made) -> None:
    """A fault of meaning is told whatever form is broken in another file, mapping or entity; sorted by line, with what is allowed."""
    problems = made.together("""
        files:
          a.csv: {entity: Carrier, action: Mege}
          b.csv: {entity: Nobody, action: Merge}
          c.tsv: {entity: Carrier, action: Merge, separator: ";"}
        entities:
        - entity: Carrier
          table: airlines
          input: [carrier, title]
          mappings:
          - carrier: {fliters: [trim]}
          - nome: {input: title}
          - name: {input: titel}
        - entity: Plane
          table: plain
          input: [tailnum]
          mappings: [{tailnum: }, {anything: }]
        - entity: Airport
          table: airports
          mappings: [{nothing: }]
        """)
    assert [f"{p.line}: {p.path}: {p.message}: {', '.join(p.allowed[:2]).replace('public.', '')}" for p in problems] == [
        "3: files[\"a.csv\"].action: 'Mege' is not allowed here: Merge, Delete",
        "4: files[\"b.csv\"].entity: there is no entity 'Nobody': Plane, Airport",
        '5: files["c.tsv"].separator: a tsv file is separated by tabs; write `read: csv` for another separator: ',
        "11: entities[0].mappings[0].carrier.fliters: is no known key: filters, converter",
        "12: entities[0].mappings[1].nome: there is no column of airlines 'nome': name, carrier",
        "13: entities[0].mappings[2].name.input: there is no input 'titel': title, carrier",
        "15: entities[1].table: there is no table 'plain': planes, airlines",
        "18: entities[2].input: is missing: ",
    ]


@pytest.mark.parametrize(
    ("good", "bad", "expected"),
    [
        ("table: resource,", "table: resorce,", ["entities[1].table: there is no table 'resorce'"]),
        ("{entity: Person, table", "{entity: [Person], table", ["entities[1].entity: must be text, not a list"]),
        ("table: resource,", "tabel: resource,", ["entities[1].tabel: is no known key"]),
    ],
)
def test_a_fault_in_an_entitys_name_or_table_is_one_fault(made: Made, good: str, bad: str, expected: list[str]) -> None:
    """Whoever looks up by the name of an entity whose table is not known hears nothing of it: it may be right."""
    text = """
        files: {a.csv: {entity: Person, action: Merge}, b.csv: {entity: Works, action: Merge}}
        entities:
        - {entity: Works, table: resource_trade, input: [r, t], mappings: [
            {id: {converter: {type: ReferenceLookup, properties: {Works->Person_code: r, Works->trade_code: t}}}},
            {Person: {converter: {type: CodeReferenceLookup, input: r}}}, {trade: {converter: {type: CodeReferenceLookup, input: t}}}]}
        - {entity: Person, table: resource, input: [code], mappings: [
            {code: }, {id: {converter: {type: CodeReferenceLookup, input: code}}}]}
    """
    assert made.together(text) == []
    assert [f"{p.path}: {p.message}" for p in made.together(text.replace(good, bad))] == expected
