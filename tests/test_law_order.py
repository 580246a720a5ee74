"""The engine's one law where an earlier record decides what a later one finds: renamed keys, triggers, references, rules that differ."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest

from engine.faults import NOT_WRITTEN, fault
from engine.plan import Action, Plan
from engine.reading import Reading
from engine.run import RunFile, RunOrder
from tests.engine_parts import footprint_of, plan_of, run_import, sql
from tests.test_law import ITEM_TABLE, ddl, items

SIZES = (1, 5000)


def test_a_row_whose_key_is_renamed_is_found_by_its_new_key(target_url: str, tmp_path: Path) -> None:
    """The identity is sought by one input and written from another: later records see what earlier ones renamed."""
    ddl(target_url, "CREATE TABLE item(id SERIAL PRIMARY KEY, code varchar(9) NOT NULL, name varchar(9));")
    control = """
entities:
- entity: Item
  input: [old, new, name]
  mappings:
  - id: {converter: {type: CodeReferenceLookup, input: old}}
  - code: {input: new}
  - name:
files: {f.csv: {entity: Item, action: Merge}}
"""
    for size in SIZES:
        sql(target_url, "DELETE FROM item")
        sql(target_url, "INSERT INTO item(code, name) VALUES ('a', 'A')")
        done = run_import(target_url, control, {"f.csv": "old,new,name\na,b,A\nb,c,A\na,b,B\nb,b,B\n"}, tmp_path, chunk_records=size)
        assert done.codes == ["RecordUpdated", "RecordUpdated", "RecordCreated", "RecordUnchanged"]
        assert sorted(sql(target_url, "SELECT code, name FROM item")) == [("b", "B"), ("c", "A")]


def test_a_renamed_row_is_not_referred_to_by_its_old_key(target_url: str, tmp_path: Path) -> None:
    """A reference to a row that an earlier record of the same chunk renamed is missing, although the file writes that key nowhere."""
    ddl(target_url, "CREATE TABLE part(id SERIAL PRIMARY KEY, code varchar(9) NOT NULL, up_id bigint REFERENCES part(id));")
    control = """
entities:
- entity: Part
  input: [old, new, up]
  mappings:
  - id: {converter: {type: CodeReferenceLookup, input: old}}
  - code: {input: new}
  - up_id: {converter: {type: CodeReferenceLookup, input: up}}
files: {f.csv: {entity: Part, action: Merge}}
"""
    for size in SIZES:
        sql(target_url, "DELETE FROM part")
        sql(target_url, "INSERT INTO part(code) VALUES ('a')")
        done = run_import(target_url, control, {"f.csv": "old,new,up\na,b,a\nx,y,a\n"}, tmp_path, chunk_records=size)
        assert done.codes == ["RecordUpdated", "ReferenceNotFound"], size


def _renames(url: str) -> None:
    """Make a trigger that gives every new item the code `c`, whatever it came with."""
    if url.startswith("sqlite"):
        sql(url, "CREATE TRIGGER r AFTER INSERT ON item BEGIN UPDATE item SET code = 'c' WHERE id = NEW.id; END")
    else:
        sql(url, "CREATE FUNCTION r() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.code := 'c'; RETURN NEW; END $$")
        sql(url, "CREATE TRIGGER r BEFORE INSERT ON item FOR EACH ROW EXECUTE FUNCTION r()")


def test_a_row_whose_key_a_trigger_changes_is_found_by_what_it_became(target_url: str, tmp_path: Path) -> None:
    """The second record seeks the very code that a trigger gave the first one's row, for which no index is there to tell."""
    ddl(target_url, "CREATE TABLE item(id SERIAL PRIMARY KEY, code varchar(30), name varchar(20), seat integer);")
    _renames(target_url)
    done = items(target_url, "a,A,1\nc,C,2\n", tmp_path)
    assert done.codes == ["RecordCreated", "RecordUpdated"]
    assert sql(target_url, "SELECT code, name FROM item") == [("c", "C")]


COLOURED = """
entities:
- {entity: Item, input: [code, colour], mappings: [{id: {converter: {type: CodeReferenceLookup, input: code}}}, {code: },
   {colour_id: {converter: {type: CodeReferenceLookup, input: colour}}}]}
- {entity: Tool, input: [code, colour], mappings: [{id: {converter: {type: CodeReferenceLookup, input: code}}}, {code: },
   {colour_id: {converter: {type: CodeReferenceLookup, input: colour}}}]}
files:
  1.csv: {entity: Tool, action: Merge}
  2.csv: {entity: Item, action: Merge}
  3.csv: {entity: Tool, action: Merge}
"""


def test_what_a_trigger_writes_is_looked_up_by_later_records(target_url: str, tmp_path: Path) -> None:
    """A trigger fills the table that look-ups read: they see it from the next record on, and nothing that was remembered hides it."""
    for size in SIZES:
        for table in ("tool", "item", "colour"):
            sql(target_url, f"DROP TABLE IF EXISTS {table}")
        ddl(
            target_url,
            "CREATE TABLE colour(id SERIAL PRIMARY KEY, code varchar(9) UNIQUE);"
            "CREATE TABLE item(id SERIAL PRIMARY KEY, code varchar(9) UNIQUE, colour_id bigint REFERENCES colour(id));"
            "CREATE TABLE tool(id SERIAL PRIMARY KEY, code varchar(9) UNIQUE, colour_id bigint REFERENCES colour(id));",
        )
        if target_url.startswith("sqlite"):
            sql(target_url, "CREATE TRIGGER o AFTER INSERT ON item BEGIN INSERT INTO colour(code) VALUES (NEW.code); END")
        else:
            sql(
                target_url,
                "CREATE OR REPLACE FUNCTION o() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN INSERT INTO colour(code) VALUES (NEW.code); RETURN NEW; END $$",
            )
            sql(target_url, "CREATE TRIGGER o AFTER INSERT ON item FOR EACH ROW EXECUTE FUNCTION o()")
        files = {"1.csv": "code,colour\nt,red\n", "2.csv": "code,colour\nred,\nx,red\n", "3.csv": "code,colour\nt,red\n"}
        done = run_import(target_url, COLOURED, files, tmp_path, chunk_records=size)
        assert done.codes == ["ReferenceNotFound", "RecordCreated", "RecordCreated", "RecordCreated"]


def test_each_file_keeps_its_own_rule_for_empty_cells(target_url: str, tmp_path: Path) -> None:
    """Two files of one entity in one run: in the first an empty cell clears, in the second it keeps."""
    ddl(target_url, ITEM_TABLE)
    items(target_url, "a,A,1\nb,B,2\n", tmp_path)
    control = """
entities:
- {entity: Item, input: [code, name, seat], mappings: [{id: {converter: {type: CodeReferenceLookup, input: code}}}, {code: }, {name: }]}
files:
  clear.csv: {entity: Item, action: Merge}
  keep.csv: {entity: Item, action: Merge, empty: keep}
"""
    done = run_import(target_url, control, {"clear.csv": "code,name\na,\n", "keep.csv": "code,name\nb,\n"}, tmp_path)
    assert done.codes == ["RecordUpdated", "RecordUnchanged"]
    assert sql(target_url, "SELECT code, name FROM item ORDER BY code") == [("a", None), ("b", "B")]


def test_a_later_row_is_not_referred_to_however_its_key_is_spelled(target_url: str, tmp_path: Path) -> None:
    """A reference to a later row is refused even where its number is written otherwise than that row's own."""
    ddl(target_url, "CREATE TABLE node(code numeric(5,2) PRIMARY KEY, up numeric(5,2) REFERENCES node(code));")
    control = "entities: [{entity: Node, input: [code, up], mappings: [{code: }, {up: }]}]\nfiles: {n.csv: {entity: Node, action: Insert}}"
    done = run_import(target_url, control, {"n.csv": "code,up\n1,2\n2.00,\n3,2.0\n"}, tmp_path)
    assert done.codes == ["ForeignKeyViolated", "RecordCreated", "RecordCreated"]


def test_the_fault_that_comes_first_does_so_in_chunks_of_every_size(target_url: str, tmp_path: Path) -> None:
    """References come before the identity, and a fault before a skip, also where a look-up has to wait for its record's turn."""
    ddl(
        target_url,
        "CREATE TABLE kind(id SERIAL PRIMARY KEY, code varchar(9) UNIQUE);"
        "CREATE TABLE part(id SERIAL PRIMARY KEY, code varchar(9) UNIQUE,"
        " up_id bigint REFERENCES part(id), kind_id bigint REFERENCES kind(id));",
    )
    control = """
entities:
- entity: Part
  input: [code, up, kind]
  mappings:
  - id: {converter: {type: CodeReferenceLookup, input: code}}
  - code:
  - kind_id: {converter: {type: CodeReferenceLookup, input: kind, missing: skip}}
  - up_id: {converter: {type: CodeReferenceLookup, input: up}}
files: {f.csv: {entity: Part, action: %s}}
"""
    file = {"f.csv": "code,up,kind\na,,\nb,zz,none\nc,a,none\nd,zz,\n"}
    for size in SIZES:
        sql(target_url, "DELETE FROM part")
        done = run_import(target_url, control % "Merge", file, tmp_path, chunk_records=size)
        assert done.codes == ["RecordCreated", "ReferenceNotFound", "RecordSkipped", "ReferenceNotFound"]
        done = run_import(target_url, control % "Update", {"f.csv": "code,up,kind\na,a,\nb,zz,\n"}, tmp_path, chunk_records=size)
        assert done.codes == ["RecordUpdated", "ReferenceNotFound"]


TURNS = """
entities:
- {entity: Colour, input: [code], mappings: [{id: {converter: {type: CodeReferenceLookup, input: code}}}, {code: }]}
- {entity: Item, input: [code, colour], mappings: [{id: {converter: {type: CodeReferenceLookup, input: code}}}, {code: },
   {colour_id: {converter: {type: CodeReferenceLookup, input: colour}}}]}
files:
  items.csv: {entity: Item, action: Merge}
  all.txt: {}
  DEFAULT: {entity: Colour, action: Merge}
"""


@pytest.mark.parametrize("size", [1, 2, 5000])
def test_what_is_looked_up_is_remembered_only_once_no_file_writes_it_any_more(target_url: str, tmp_path: Path, size: int) -> None:
    """Files write and look up the same table in turns: each record finds what those before it made, whatever was sought in vain earlier."""
    ddl(
        target_url,
        "CREATE TABLE colour(id SERIAL PRIMARY KEY, code varchar(9) UNIQUE);"
        "CREATE TABLE item(id SERIAL PRIMARY KEY, code varchar(9) UNIQUE, colour_id bigint REFERENCES colour(id));",
    )
    items = "code,colour\n{0}1,red\n{0}2,blue\n{0}3,red\n{0}4,green\n"
    found, missed = "RecordCreated", "ReferenceNotFound"
    turns = [
        ("red.csv", "code\nred\n", [found]),
        ("items.csv", items.format("a"), [found, missed, found, missed]),
        ("blue.csv", "code\nblue\n", [found]),
        ("all.txt", "Item,Merge,b1,blue\nItem,Merge,b2,green\nColour,Merge,green\nItem,Merge,b3,green\n", [found, missed, found, found]),
    ]
    for number in range(1, len(turns) + 1):
        sql(target_url, "DELETE FROM item")
        sql(target_url, "DELETE FROM colour")
        chosen = turns[:number]
        files = {name: text for name, text, _ in chosen}
        done = run_import(target_url, TURNS, files, tmp_path, chunk_records=size)
        assert done.codes == [code for *_, codes in chosen for code in codes]


def test_a_run_knows_which_tables_it_writes_from_a_file_on(target_url: str, tmp_path: Path) -> None:
    """A plain file writes its entity's table, another may write all; an ordered run takes its files as one; named control files join."""
    ddl(target_url, "CREATE TABLE colour(code varchar(9) PRIMARY KEY); CREATE TABLE item(code varchar(9) PRIMARY KEY, colour_id integer);")
    schema = None if target_url.startswith("sqlite") else "public"
    colour, item, other = (schema, "colour"), (schema, "item"), (schema, "other")
    control = TURNS.replace("{colour_id: {converter: {type: CodeReferenceLookup, input: colour}}}", "{colour_id: {input: colour}}")
    plan = plan_of(target_url, control)

    def reading(*names: str, is_ordered: bool = False) -> Reading:
        files = [RunFile(name, BytesIO, lambda: None) for name in names]
        order = RunOrder("r", 1, files, plan, "import", "PerRecord", is_ordered, datetime.now(UTC), tmp_path)
        return Reading(order, {}, lambda name: replace(plan, tables=(other,)), lambda shape: fault(NOT_WRITTEN))

    three = reading("red.csv", "all.txt", "items.csv")
    assert [three.written_from(file) for file in range(3)] == [{colour, item}, {colour, item}, {item}]
    two = reading("red.csv", "items.csv")
    assert [two.written_from(file) for file in range(2)] == [{colour, item}, {item}]
    assert reading("red.csv", "items.csv", is_ordered=True).written_from(1) == {colour, item}
    two.resolve_name("Other")
    assert two.written_from(1) == {item, other}


TWO_KEYS = """
entities:
- {entity: ByCode, table: thing, input: [code, name], mappings: [{id: {converter: {type: CodeReferenceLookup, input: code}}}, {code: }]}
- {entity: ByName, table: thing, input: [code, name], mappings: [
   {id: {converter: {type: CodeReferenceLookup, input: name, column: name}}}, {name: }]}
- {entity: Renamed, table: thing, input: [code, name], mappings: [
   {id: {converter: {type: CodeReferenceLookup, input: code}}}, {code: {input: name}}]}
- {entity: Other, table: other, input: [code, name], mappings: [{id: {converter: {type: CodeReferenceLookup, input: code}}}, {code: }]}
- {entity: Watched, table: watched, input: [code, name], mappings: [{id: {converter: {type: CodeReferenceLookup, input: code}}}, {code: }]}
"""


@pytest.fixture
def two_keys(target_url_pg: str) -> Plan:
    """Give a plan whose entities share tables in several ways."""
    for table in ("thing", "other", "watched"):
        ddl(target_url_pg, f"CREATE TABLE {table}(id SERIAL PRIMARY KEY, code varchar(9), name varchar(9));")
    sql(
        target_url_pg,
        "CREATE FUNCTION w() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;"
        "CREATE TRIGGER w BEFORE INSERT ON watched FOR EACH ROW EXECUTE FUNCTION w()",
    )
    return plan_of(target_url_pg, TWO_KEYS)


def test_two_writers_go_beside_each_other_under_different_keys_only(two_keys: Plan) -> None:
    """Chunks of one table share it under different keys of the same columns; of different columns, or renaming, they do not."""
    a = footprint_of(two_keys, "ByCode", Action.MERGE, ("a", "n"))
    assert a.can_go_beside(footprint_of(two_keys, "ByCode", Action.MERGE, ("b", "n")))
    assert not a.can_go_beside(footprint_of(two_keys, "ByCode", Action.MERGE, ("b", "n"), ("a", "n")))
    assert not a.can_go_beside(footprint_of(two_keys, "ByName", Action.MERGE, ("b", "n")))
    assert not a.can_go_beside(footprint_of(two_keys, "Renamed", Action.MERGE, ("b", "a")))
    assert a.can_go_beside(footprint_of(two_keys, "Other", Action.MERGE, ("a", "n")))


def test_a_chunk_with_triggers_is_written_alone(two_keys: Plan) -> None:
    """A trigger may read and write any table, so that nothing goes beside it."""
    watched = footprint_of(two_keys, "Watched", Action.MERGE, ("a", "n"))
    assert not watched.can_go_beside(footprint_of(two_keys, "Other", Action.MERGE, ("b", "n")))
