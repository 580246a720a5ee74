"""Compiling control files against real tables: what every option becomes."""

from __future__ import annotations

import statistics
import time

import pytest

from engine.control import accepts_file, compile, entity_names, file_names, required_files
from engine.plan import Action, Bookkeeping, Empty, FilePlan, KeyPart, Mapping, Missing
from schemas.control import parse
from tests import control_parts
from tests.control_parts import Made, one_entity
from tests.test_control_parse import ON_KEY

made = control_parts.made
FLIGHTS = """
files:
  airlines.csv: {entity: Airline, action: Merge, nulls: ["", NA]}
  flights.csv: {entity: Flight, action: Merge, order: 2, required: true}
  DEFAULT: {read: csv}
entities:
- entity: Airline
  table: airlines
  input: [carrier, name]
  mappings:
  - id: {converter: {type: CodeReferenceLookup, input: carrier}}
  - carrier:
  - name:
- entity: Flight
  table: flights
  input: [year, month, day, flight, carrier, tailnum, dep_delay, time_hour]
  mappings:
  - id:
      converter:
        type: ReferenceLookup
        properties: {"Flight->flight": flight, "Flight->carrier": carrier, "Flight->time_hour": time_hour}
  - flight:
  - carrier:
  - tailnum: {converter: {type: CodeReferenceLookup, input: tailnum, missing: clear}}
  - dep_delay:
  - time_hour: {converter: {type: DateTime, input: time_hour, format: iso}}
"""


def shown(part: KeyPart) -> tuple[str, str, str | None]:
    """Return a key part as its way, its column and its input."""
    steps = ".".join(",".join(step.foreign_key.columns) for step in part.path)
    return steps, part.column.name, part.source.input


def names(mapping: Mapping) -> list[str]:
    """Return the names of the columns that a mapping fills."""
    return [column.name for column in mapping.columns]


# Whole control files -----------------------------------------------------------------------------------------------------
def test_flights_compile(made: Made) -> None:
    """The flights' control file becomes the plan that it says."""
    plan = made.compile(FLIGHTS)
    assert [name for _, name in plan.tables] == ["airlines", "flights"]
    flight = plan.entity("FLIGHT")
    assert flight is not None and flight.identity is not None
    assert [names(mapping) for mapping in flight.mappings] == [["flight"], ["carrier"], ["tailnum"], ["dep_delay"], ["time_hour"]]
    assert list(map(shown, flight.identity.parts)) == [("", "flight", "flight"), ("", "carrier", "carrier"), ("", "time_hour", "time_hour")]
    assert [column.name for column in flight.identity.results] == ["id"]
    tailnum = flight.mappings[2].lookup
    assert tailnum is not None
    assert (tailnum.table.name, tailnum.missing, tailnum.entity) == ("planes", Missing.CLEAR, "row in planes")
    file = plan.file("flights.csv")
    assert file == FilePlan("flights.csv", entity=flight, action=Action.MERGE, order=2, is_required=True)
    assert plan.file("other.csv") == FilePlan("DEFAULT", read="csv")
    airlines = plan.files["airlines.csv"]
    assert (airlines.nulls, airlines.entity) == (("", "NA"), plan.entity("Airline"))


def test_flights_compile_fast(made: Made) -> None:
    """A control file is compiled in under three milliseconds when its tables are known."""
    document = parse(FLIGHTS.encode())
    times = []
    for _ in range(20):
        started = time.perf_counter()
        compile(document, made.tables, made.dialect)
        times.append(time.perf_counter() - started)
    assert statistics.median(times) < 0.003


def test_on_key_compiles(made: Made) -> None:
    """On Key's own schema compiles: camel-case names find columns and references find tables."""
    plan = made.compile(ON_KEY)
    commodity = plan.entity("commodity")
    assert commodity is not None and commodity.identity is not None
    assert list(map(shown, commodity.identity.parts)) == [("", "code", "code")]
    assert [names(m) for m in commodity.mappings] == [["code"], ["description"], ["permission_tree_id"], ["cost_element_id"], ["is_active"]]
    assert [m.lookup.table.name for m in commodity.mappings if m.lookup] == ["permission_tree", "cost_element"]
    assert [column.name for m in commodity.mappings if m.lookup for column in m.lookup.results] == ["id", "id"]
    assert plan.file("any name") == FilePlan("DEFAULT")


def test_helpers_need_no_tables() -> None:
    """What routes ask of a control file is answered without the target."""
    document = parse(FLIGHTS.replace("- entity: Airline\n", "- entity: Airline\n  alias: Carrier\n").encode())
    assert entity_names(document) == ("Airline", "Carrier", "Flight")
    assert file_names(document) == ("airlines.csv", "flights.csv")
    assert required_files(document) == ("flights.csv",)
    assert accepts_file(document, "anything")
    assert not accepts_file(parse(FLIGHTS.replace("  DEFAULT: {read: csv}\n", "").encode()), "anything")
    assert accepts_file(parse(ON_KEY.encode()), "anything")


def test_aliases_tell_two_definitions_apart(made: Made) -> None:
    """Two entities of one name are told apart by an alias; the name means the one without."""
    plan = made.compile("""\
        entities:
        - {entity: Trade, input: [code], mappings: [{code: }]}
        - entity: Trade
          alias: TradeRename
          input: [code, newcode]
          mappings: [id: {converter: {type: CodeReferenceLookup, input: code}}, code: {input: newcode, fallbackInput: code}]
        """)
    assert set(plan.entities) == {"trade", "traderename"}
    rename = plan.entities["traderename"].mappings[0]
    assert (rename.source.input, rename.source.fallback_input) == ("newcode", "code")


# Mappings ------------------------------------------------------------------------------------------------------------------
def test_every_option_reaches_the_plan(made: Made) -> None:
    """The options of a mapping become its source and its rules."""
    mapping = made.mapping(
        "customer",
        "a, b",
        "name: {input: a, fallbackInput: b, filters: [trim, upper], map: {X: Y, Z: }, mapDefault: , default: D, masked: true}",
    )
    source = mapping.source
    assert (source.input, source.fallback_input, source.filters, source.map) == ("a", "b", ("trim", "upper"), {"X": "Y", "Z": None})
    assert (source.has_map_default, source.map_default, source.default, mapping.is_masked) == (True, None, "D", True)
    assert made.mapping("customer", "name", "name: {required: true}").is_required
    assert made.entity("customer", "name", "name: {required: true}").required_inputs == {"name"}
    assert made.mapping("customer", "name", "name: {empty: empty-string}").empty is Empty.EMPTY_STRING


@pytest.mark.parametrize(
    ("mapping", "constant", "bookkeeping"),
    [
        ("name: {constant: 012}", "012", None),
        ("name: {converter: {type: Constant, value: no}}", "no", None),
        ("seen: {converter: {type: Now}}", None, Bookkeeping.NOW),
        ("big: {converter: {type: BatchId}}", None, Bookkeeping.BATCH_ID),
        ("name: {converter: {type: LineNumber}}", None, Bookkeeping.LINE_NUMBER),
        ("name: {converter: {type: FileName}}", None, Bookkeeping.FILE_NAME),
    ],
)
def test_values_that_come_from_no_data(made: Made, mapping: str, constant: str | None, bookkeeping: Bookkeeping | None) -> None:
    """Constants and bookkeeping words need no input."""
    source = made.mapping("customer", "unused", mapping).source
    assert (source.input, source.constant, source.bookkeeping) == (None, constant, bookkeeping)


def test_a_batch_id_needs_a_wide_column(made: Made) -> None:
    """PostgreSQL's integer is too small for the ids of batches; SQLite's is not."""
    text = one_entity("planes", "tailnum", "year: {converter: {type: BatchId}}")
    if made.dialect == "sqlite":
        assert made.compile(text).entities["x"].mappings[0].source.bookkeeping is Bookkeeping.BATCH_ID
    else:
        assert made.problems(text)[0].message == "the column year, which is integer, cannot hold what BatchId gives"


def test_converters_get_their_options(made: Made) -> None:
    """A converter's options count, and text becomes what they say."""
    born = made.mapping("customer", "x", "born: {converter: {type: Date, input: x, format: '%d.%m.%Y'}}")
    assert born.convert is not None
    assert born.convert(["24.12.2024", None])[0] == ["2024-12-24", None]
    amount = made.mapping("customer", "amount", "amount: {converter: {decimal: ',', thousands: .}}")
    assert amount.convert is not None
    assert amount.convert(["1.234,50"])[0] == ["1234.50"]


def test_the_files_decimal_mark_reaches_the_numbers(made: Made) -> None:
    """An entity read from files with different decimal marks is compiled for each."""
    entity = one_entity("customer", "email, amount", "email:", "amount:")
    plan = made.compile(entity + "files: {a.csv: {entity: X, action: Merge, decimal: ','}, b.csv: {entity: X, action: Merge}}")
    for name, text in (("a.csv", "1,5"), ("b.csv", "1.5")):
        file = plan.files[name].entity
        assert file is not None
        convert = file.mappings[1].convert
        assert convert is not None
        values, faults = convert([text])
        assert (values, faults) == (["1.5"], {})
    shared = made.compile(entity + "files: {DEFAULT: {decimal: ','}}").entities["x"].mappings[1].convert
    assert shared is not None
    assert shared(["1,5"]) == (["1.5"], {})


def test_masked_inputs_stay_masked(made: Made) -> None:
    """What one mapping masks is shown by no other mapping, nor by the identity, that reads the same input."""
    entity = made.entity(
        "customer",
        "ssn, big",
        "id: {converter: {type: ReferenceLookup, properties: {X->ssn: ssn}}}",
        "ssn: {masked: true}",
        "name: {input: SSN}",
        "big:",
    )
    assert entity.is_identity_masked
    assert [mapping.is_masked for mapping in entity.mappings] == [True, True, False]
    number = made.entity("customer", "x", "big: {input: x, masked: true}").mappings[0].convert
    assert number is not None
    assert "secret" not in number(["secret"])[1][0].message


# Look-ups -------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("table", "mapping", "column", "filled"),
    [
        ("flights", "origin: {converter: {type: CodeReferenceLookup, column: name}}", "name", ["origin"]),
        ("flights", "tailnum: {converter: {type: CodeReferenceLookup}}", "tailnum", ["tailnum"]),
        ("commodity", "PermissionTreeId: {input: origin, converter: {type: CodeReferenceLookup}}", "code", ["permission_tree_id"]),
        ("commodity", "permissionTree: {input: origin, converter: {type: CodeReferenceLookup}}", "code", ["permission_tree_id"]),
        ("customer", "country: {input: origin, converter: {type: CodeReferenceLookup}}", "code", ["country", "region_code"]),
        ("customer", "region: {input: origin, converter: {type: CodeReferenceLookup, column: title}}", "title", ["country", "region_code"]),
        ("resource_trade", "trade_id: {constant: HAND, converter: {type: CodeReferenceLookup}}", "code", ["trade_id"]),
    ],
)
def test_look_ups_by_code(made: Made, table: str, mapping: str, column: str, filled: list[str]) -> None:
    """The foreign key says the table, and the table, if not the control file, the column of the code."""
    compiled = made.mapping(table, "origin, tailnum", mapping)
    assert compiled.lookup is not None
    assert [part.column.name for part in compiled.lookup.parts] == [column]
    assert names(compiled) == filled
    assert len(compiled.lookup.results) == len(filled)


@pytest.mark.parametrize(
    ("table", "mapping", "parts"),
    [
        ("resource_trade", "resource_id: {converter: {type: ReferenceLookup, properties: {Resource->Code: a}}}", [("", "code", "a")]),
        (
            "resource_trade", "id: {converter: {type: ReferenceLookup, properties: {ResourceTrade->Resource_Code: a, X->Trade_Code: b}}}",
            [("resource_id", "code", "a"), ("trade_id", "code", "b")],
        ),
        (
            "resource_trade", "id: {converter: {type: ReferenceLookup, properties: {X->trade_group_parent_code: a, X->resource_id: b}}}",
            [("trade_id.group_code.parent_id", "code", "a"), ("", "resource_id", "b")],
        ),
        (
            "customer", "region: {converter: {type: ReferenceLookup, properties: {Region->Country: a, Region->Code: b}}}",
            [("", "country", "a"), ("", "code", "b")],
        ),
        ("customer", "id: {converter: {type: ReferenceLookup, properties: {X->Region_Title: a}}}", [("country,region_code", "title", "a")]),
        ("flights", "id: {converter: {type: ReferenceLookup, properties: {X -> origin_name: a, X->dest_faa: b}}}",
         [("origin", "name", "a"), ("dest", "faa", "b")]),
        ("customer", "id: {converter: {type: ReferenceLookup, properties: {X->Region_Code: a}}}", [("", "region_code", "a")]),
    ],
)  # fmt: skip
def test_look_ups_by_properties(made: Made, table: str, mapping: str, parts: list[tuple[str, str, str]]) -> None:
    """A property names a column of the table, or of what it refers to, in several steps; a column of its own wins."""
    entity = made.entity(table, "a, b", mapping)
    lookup = entity.identity or entity.mappings[0].lookup
    assert lookup is not None
    assert list(map(shown, lookup.parts)) == parts


# Identity ---------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("table", "mappings", "parts"),
    [
        ("airlines", ["carrier: {input: a}", "name: {input: b}"], [("", "carrier", "a")]),
        ("customer", ["id: {input: a}", "email: {input: b}"], [("", "id", "a")]),
        ("customer", ["email: {input: a}", "name: {input: b}"], [("", "email", "a")]),
        ("region", ["country: {constant: NZ}", "code: {input: a}"], [("", "country", None), ("", "code", "a")]),
        (
            "resource_trade",
            [
                f"{name}: {{input: {key}, converter: {{type: CodeReferenceLookup}}}}"
                for name, key in (("resourceId", "a"), ("tradeId", "b"))
            ],
            [("resource_id", "code", "a"), ("trade_id", "code", "b")],
        ),
        ("two_keys", ["a:", "b:"], None),
        ("part_key", ["a:", "b:"], None),
        ("keyless", ["a:", "b:"], None),
        ("customer", ["name: {input: a}"], None),
        ("customer", ["email: {converter: {type: FileName}}"], None),
        (
            "resource_trade",
            [
                "resource_id: {input: a, converter: {type: CodeReferenceLookup, missing: clear}}",
                "trade_id: {input: b, converter: {type: CodeReferenceLookup}}",
            ],
            None,
        ),
    ],
)
def test_identity_without_an_id_mapping(made: Made, table: str, mappings: list[str], parts: list[tuple[str, str, str]] | None) -> None:
    """The primary key, else the single other unique key, is the identity if all its columns are mapped; references count by their key."""
    identity = made.entity(table, "a, b", *mappings).identity
    assert (None if identity is None else list(map(shown, identity.parts))) == parts


def test_a_new_row_gets_the_key_by_which_it_is_found(made: Made) -> None:
    """A direct column of the identity that no mapping fills is filled all the same, else every import would create the row anew."""
    entity = made.entity(
        "airlines", "carrier, name", "id: {converter: {type: CodeReferenceLookup, input: carrier}, filters: [upper]}", "name:"
    )
    assert [names(mapping) for mapping in entity.mappings] == [["name"], ["carrier"]]
    assert entity.mappings[1].source.filters == ("upper",)
    assert entity.identity_inputs == {"carrier"}


# Files --------------------------------------------------------------------------------------------------------------------------
def test_every_file_option_reaches_the_plan(made: Made) -> None:
    """The options of a file become its plan."""
    text = (
        one_entity("airlines", "carrier", "carrier:")
        + """\
files:
  a.csv: {read: csv, separator: ";", quote: "'", encoding: windows-1252, header: false, nulls: ["", "-"], decimal: ",", trim: false,
    entity: X, action: Delete, order: 1.5, required: true, empty: keep}
  b.jsonl.gz: {entity: X, action: Insert}
  c.tsv:
"""
    )
    plan = made.compile(text)
    expected = FilePlan(
        "a.csv",
        "csv",
        ";",
        "'",
        "windows-1252",
        False,
        ("", "-"),
        ",",
        False,
        plan.files["a.csv"].entity,
        Action.DELETE,
        1.5,
        True,
        Empty.KEEP,
    )
    assert plan.files["a.csv"] == expected
    assert plan.files["b.jsonl.gz"].action is Action.INSERT
    assert plan.files["c.tsv"] == FilePlan("c.tsv")
    assert plan.default is None
    assert plan.file("d.csv") is None
