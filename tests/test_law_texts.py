"""The engine's one law where a key's text is its identity: keys made of references, of times, and of padded texts."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.flights import CONTROL, TABLES
from engine.identity import columns_as_sought, is_steady
from engine.plan import Action, Plan
from engine.writers import Footprint
from tests.engine_parts import footprint_of, made_ready, plan_of, run_import, sql
from tests.test_law import ddl

LINES = """
CREATE TABLE line(id SERIAL PRIMARY KEY, code varchar(9) NOT NULL UNIQUE, name varchar(9));
CREATE TABLE trip(id SERIAL PRIMARY KEY, line varchar(9) REFERENCES line(code), num integer, note varchar(9));
INSERT INTO line(code, name) VALUES ('a', 'ann'), ('b', 'bob'), ('c', 'a');
"""
TRIPS = """
entities:
- entity: Trip
  input: [line, to, num, note]
  mappings:
  - id: {converter: {type: ReferenceLookup, properties: {"Trip->line": line, "Trip->num": num}}}
  - line: {converter: {type: CodeReferenceLookup, %s}}
  - num:
  - note:
files: {f.csv: {entity: Trip, action: Merge}}
"""
SOUGHT = "input: line, column: code"
OTHERWISE = {
    "another input": "input: to, column: code",
    "another column": "input: line, column: name",
    "cleared": "input: line, column: code, missing: clear",
}
ROW = ("a", "b", "1", "x")


def _is_as_sought(plan: Plan, *rows: tuple[str, ...]) -> tuple[bool, bool]:
    trip = plan.entity("Trip")
    assert trip is not None
    _, ready = made_ready(plan, "Trip", Action.MERGE, *rows)
    return "line" in columns_as_sought(ready), is_steady(trip, Action.MERGE, ready)


def test_a_reference_sought_by_the_text_that_it_gets_is_as_sought(target_url: str) -> None:
    """Looked up by the column it refers to, it gets that very text; from another input or column, or where a miss clears it, it may not."""
    ddl(target_url, LINES)
    assert _is_as_sought(plan_of(target_url, TRIPS % SOUGHT), ROW, ("b", "a", "2", "y")) == (True, True)
    for how in OTHERWISE.values():
        assert _is_as_sought(plan_of(target_url, TRIPS % how), ROW) == (False, False), how


@pytest.mark.parametrize("how", ["sought", *OTHERWISE])
def test_chunks_make_no_difference_to_keys_of_references(target_url: str, tmp_path: Path, how: str) -> None:
    """Whatever fills a key's reference, records in chunks of every size find what those before them made."""
    made, changed, missed = "RecordCreated", "RecordUpdated", "ReferenceNotFound"
    codes = {
        "sought": [made, made, made, made, missed, changed, changed],
        "another input": [made, changed, changed, made, made, made, made],
        "another column": [made, missed, missed, made, missed, missed, made],
        "cleared": [made, made, made, made, made, changed, changed],
    }
    text = "line,to,num,note\na,b,1,x\nb,c,1,y\nc,a,1,y\na,b,2,x\nz,b,1,x\nc,c,1,x\na,a,2,y\n"
    seen = []
    for size in (1, 2, 5000):
        sql(target_url, "DROP TABLE IF EXISTS trip")
        sql(target_url, "DROP TABLE IF EXISTS line")
        ddl(target_url, LINES)
        control = TRIPS % (SOUGHT if how == "sought" else OTHERWISE[how])
        done = run_import(target_url, control, {"f.csv": text}, tmp_path, chunk_records=size)
        seen.append((done.codes, sql(target_url, "SELECT line, num, note FROM trip ORDER BY id")))
    assert seen[0] == seen[1] == seen[2]
    assert seen[0][0] == codes[how]


TIMES = """
entities:
- {entity: Slot, input: [c, at, zoned, clock, note], mappings: [{c: }, {at: }, {zoned: }, {clock: }, {note: }]}
files: {f.csv: {entity: Slot, action: Merge, trim: false}}
"""
SLOT = (
    "CREATE TABLE slot(c char(3), at timestamp, zoned timestamptz, clock time, note varchar(9),"
    " PRIMARY KEY (c, at, zoned, clock), CHECK (note <> 'bad'));"
)


@pytest.mark.parametrize("size", [1, 2, 5000])
def test_times_and_padded_texts_name_one_row_however_they_are_spelled(target_url: str, tmp_path: Path, size: int) -> None:
    """Keys of times are equal in every zone and with every number of zeros; on PostgreSQL blanks at the end of a char(n) do not count."""
    ddl(target_url, SLOT)
    blank = "" if target_url.startswith("sqlite") else " "
    spelled = [
        "ab,2013-01-01 10:00:00.50,2013-01-01T10:00:00.5Z,10:00:00.500,%s",
        f"ab{blank},2013-01-01T10:00:00.5,2013-01-01 12:00:00.500000+02:00,10:00:00.5,%s",
    ]
    rows = [spelled[0] % "bad", spelled[0] % "x", spelled[1] % "y", spelled[0] % "y", "ab,2013-01-01,2013-01-01T10:00Z,10:00,z"]
    other = "b b,2013-01-01 10:00,2013-01-01T10:00:00Z,10:00,z"
    done = run_import(target_url, TIMES, {"f.csv": "\n".join(["c,at,zoned,clock,note", *rows, other, ""])}, tmp_path, chunk_records=size)
    assert done.codes == [
        "CheckViolated", "RecordCreated", "RecordUpdated", "RecordUnchanged", "InvalidDateTime", "RecordCreated",
    ]  # fmt: skip
    assert len({r["EntityId"] for r in done.results[1:4]}) == 1
    again = run_import(target_url, TIMES, {"f.csv": f"c,at,zoned,clock,note\n{spelled[1] % 'y'}\n{other}\n"}, tmp_path, chunk_records=size)
    assert again.codes == ["RecordUnchanged", "RecordUnchanged"]
    assert [r["EntityId"] for r in again.results] == [done.results[1]["EntityId"], done.results[5]["EntityId"]]


def test_a_padded_text_is_not_longer_for_its_blanks_in_an_index(target_url_pg: str, tmp_path: Path) -> None:
    """A look-up of a char(n) by a text with blanks at its end finds the row, and what is written refers to it."""
    ddl(target_url_pg, "CREATE TABLE port(faa char(3) PRIMARY KEY); CREATE TABLE leg(n integer PRIMARY KEY, port char(3) REFERENCES port);")
    sql(target_url_pg, "INSERT INTO port VALUES ('AB'), ('XYZ')")
    control = """
entities:
- {entity: Leg, input: [n, port], mappings: [{n: }, {port: {converter: {type: CodeReferenceLookup, input: port, column: faa}}}]}
files: {f.csv: {entity: Leg, action: Merge, trim: false}}
"""
    done = run_import(target_url_pg, control, {"f.csv": "n,port\n1,AB\n2,AB \n3,XYZ\n4,A\n5,WXYZ\n"}, tmp_path)
    assert done.codes == ["RecordCreated", "RecordCreated", "RecordCreated", "ReferenceNotFound", "TooLong"]
    assert sql(target_url_pg, "SELECT n, port FROM leg ORDER BY n") == [(1, "AB "), (2, "AB "), (3, "XYZ")]


def test_flights_go_beside_one_another(target_url_pg: str) -> None:
    """A key of a time, two references and a number tells flights apart by its texts, so that two writers share their table."""
    sql(target_url_pg, TABLES["postgresql"])
    plan = plan_of(target_url_pg, CONTROL)

    def flight(at: str) -> Footprint:
        row = {"carrier": "UA", "flight": "1545", "tailnum": "N14228", "origin": "EWR", "dest": "IAH", "time_hour": at, "distance": "1"}
        entity = plan.entity("Flight")
        assert entity is not None
        return footprint_of(plan, "Flight", Action.MERGE, tuple(row.get(name, "5") for name in entity.inputs))

    first = flight("2013-01-01T10:00:00Z")
    assert first.can_go_beside(flight("2013-01-01T11:00:00Z"))
    assert not first.can_go_beside(flight("2013-01-01 12:00:00.0+02:00"))


def test_what_is_key_and_value_is_converted_once(target_url: str) -> None:
    """A time that is part of the key and of the row comes to one and the same column, not to two that are equal."""
    ddl(target_url, SLOT)
    _, ready = made_ready(plan_of(target_url, TIMES), "Slot", Action.MERGE, ("ab", "2013-01-01 10:00", "2013-01-01 10:00Z", "10:00", "x"))
    [wanted] = ready.lookups
    written = {cells.column.name: cells.values for cells in ready.cells}
    for part, key in zip(wanted.lookup.parts, wanted.keys, strict=True):
        assert written[part.column.name] is key or part.column.name == "c"
