"""What a dry run tells of rows that would be updated: the columns that change, old and new, whichever way the rows are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.apply import Verdicts
from engine.chunk import Chunk
from engine.ops import UPDATED
from engine.results import render, taken_back
from tests.engine_parts import Imported, run_import, sql
from tests.test_law import ITEM_TABLE, ITEMS, ddl, items, stored

Told = list[dict[str, tuple[Any, Any]]]


def changed(done: Imported) -> Told:
    """Return of each result what it tells to change: by column the old and the new value."""
    return [{name: (cell["old"], cell["new"]) for name, cell in p.get("changed", {}).items()} for p in done.properties]


def tried(url: str, rows: str, tmp_path: Path, action: str = "Merge", **options: Any) -> Imported:
    """Try rows of code,name,seat: the dry run says of each record what the import says then, and only it tells what changes."""
    dry = items(url, rows, tmp_path, action, mode="dry-run", **options)
    real = items(url, rows, tmp_path, action, **options)
    assert (dry.codes, dry.counts) == (real.codes, real.counts)
    assert changed(real) == [{}] * len(real.results)
    assert all(bool(told) == (code == "RecordUpdated") for code, told in zip(dry.codes, changed(dry), strict=True))
    return dry


def test_updated_rows_tell_what_changes(target_url: str, tmp_path: Path) -> None:
    """Old and new value of every changed column, null as null; nothing of any other record."""
    ddl(target_url, ITEM_TABLE)
    items(target_url, "a,Apple,1\nb,Bean,2\nc,Corn,3\nd,,4\n", tmp_path)
    before = stored(target_url)
    rows = 'a,Apfel,1\nb,Bean,2\nc,,30\nd,"Du""e\ttwo",4\ne,New,5\nf,New,x\n'
    done = items(target_url, rows, tmp_path, mode="dry-run")
    assert stored(target_url) == before
    assert changed(done) == [
        {"name": ("Apple", "Apfel")}, {}, {"name": ("Corn", None), "seat": ("3", "30")}, {"name": (None, 'Du"e\ttwo')}, {}, {},
    ]  # fmt: skip
    assert done.properties[5] == {"seat": "x"}
    tried(target_url, rows, tmp_path)


def test_the_same_row_twice(target_url: str, tmp_path: Path) -> None:
    """Where a file has a row more than once, the old value is what the record before has made of it."""
    ddl(target_url, ITEM_TABLE)
    items(target_url, "a,Apple,1\n", tmp_path)
    done = tried(target_url, "a,Two,1\na,Three,1\na,Three,1\nb,New,2\nb,Newer,2\n", tmp_path)
    assert changed(done) == [{"name": ("Apple", "Two")}, {"name": ("Two", "Three")}, {}, {}, {"name": ("New", "Newer")}]


def test_beside_refused_rows(target_url: str, tmp_path: Path) -> None:
    """What is taken one by one because of a refusal tells its changes all the same; what is refused tells its fault alone."""
    ddl(target_url, ITEM_TABLE)
    items(target_url, "a,Apple,1\nb,Bean,2\nc,Corn,3\n", tmp_path)
    done = tried(target_url, "a,Apfel,1\nb,Bean,1\nc,Mais,3\n", tmp_path)
    assert done.codes == ["RecordUpdated", "DuplicateKey", "RecordUpdated"]
    assert changed(done) == [{"name": ("Apple", "Apfel")}, {}, {"name": ("Corn", "Mais")}]
    none = items(target_url, "a,Anders,1\nb,Bean,1\n", tmp_path, mode="dry-run", execution="AllOrNone")
    assert none.codes == ["RolledBack", "DuplicateKey"] and changed(none) == [{}, {}]


def test_empty_cells_keep_or_clear(target_url: str, tmp_path: Path) -> None:
    """An empty cell changes what its rule says: nothing, the default, or all to null; an Update tells no less than a Merge."""
    ddl(target_url, "CREATE TABLE item(id SERIAL PRIMARY KEY, code varchar(9) UNIQUE, name varchar(9), seat integer DEFAULT 7);")
    items(target_url, "a,Apple,1\nb,Bean,2\n", tmp_path)
    control = ITEMS.replace("  - name:\n  - seat:", "  - name: {empty: keep}\n  - seat: {empty: default}") % "Update"
    data = {"items.csv": "code,name,seat\na,,\nb,Brot,2\n"}
    done = run_import(target_url, control, data, tmp_path, mode="dry-run")
    assert changed(done) == [{"seat": ("1", "7")}, {"name": ("Bean", "Brot")}]


def test_with_triggers(target_url: str, tmp_path: Path) -> None:
    """Rows of a table with triggers tell their changes too."""
    ddl(target_url, ITEM_TABLE)
    if target_url.startswith("sqlite"):
        sql(target_url, "CREATE TRIGGER up AFTER INSERT ON item BEGIN SELECT 1; END")
    else:
        sql(
            target_url,
            "CREATE FUNCTION up() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.name := upper(NEW.name); RETURN NEW; END';"
            "CREATE TRIGGER up BEFORE UPDATE ON item FOR EACH ROW EXECUTE FUNCTION up()",
        )
    items(target_url, "a,Apple,1\nb,BEAN,2\n", tmp_path)
    done = items(target_url, "a,Apfel,1\nb,bean,3\n", tmp_path, mode="dry-run")
    is_plain = target_url.startswith("sqlite")
    assert changed(done)[0] == {"name": ("Apple", "Apfel" if is_plain else "APFEL")}
    assert changed(done)[1] == {"seat": ("2", "3")} | ({"name": ("BEAN", "bean")} if is_plain else {})


def test_rows_without_a_key_and_of_views(target_url: str, tmp_path: Path) -> None:
    """Rows that have no primary key, and rows of a view that can be written, tell their changes."""
    ddl(target_url, "CREATE TABLE item(code varchar(9), name varchar(9), seat integer);")
    sql(target_url, "INSERT INTO item VALUES ('a', 'Apple', 1)")
    sql(target_url, "CREATE VIEW seen AS SELECT * FROM item")
    if target_url.startswith("sqlite"):
        sql(target_url, "CREATE TRIGGER up INSTEAD OF UPDATE ON seen BEGIN UPDATE item SET name = NEW.name WHERE code = NEW.code; END")
    for text in (ITEMS % "Merge", ITEMS.replace("table: item", "table: seen") % "Merge"):
        done = run_import(target_url, text, {"items.csv": "code,name,seat\na,Apfel,1\n"}, tmp_path, mode="dry-run")
        assert changed(done) == [{"name": ("Apple", "Apfel")}]


def test_masked_columns_are_not_told(target_url: str, tmp_path: Path) -> None:
    """A masked column tells that it changes, and neither value; where a trigger may have copied it, no column tells any (T82)."""
    ddl(target_url, ITEM_TABLE)
    control = ITEMS.replace("  - name:", "  - name: {masked: true}") % "Merge"
    run_import(target_url, control, {"items.csv": "code,name,seat\na,first-secret,1\n"}, tmp_path)
    second = {"items.csv": "code,name,seat\na,second-secret,2\n"}
    done = run_import(target_url, control, second, tmp_path, mode="dry-run")
    assert changed(done) == [{"name": ("***", "***"), "seat": ("1", "2")}] and b"secret" not in done.raw
    if target_url.startswith("sqlite"):
        sql(target_url, "CREATE TRIGGER copy AFTER UPDATE ON item BEGIN SELECT 1; END")
        done = run_import(target_url, control, second, tmp_path, mode="dry-run")
        assert changed(done) == [{"name": ("***", "***"), "seat": ("***", "***")}]


def test_long_values_are_cut(target_url: str, tmp_path: Path) -> None:
    """Of a value 200 characters are told, of a record 4,000, and how many columns change besides."""
    names = [f"c{n}" for n in range(30)]
    ddl(target_url, f"CREATE TABLE wide(code varchar(9) PRIMARY KEY, {', '.join(f'{n} text' for n in names)});")
    mappings = "".join(f"  - {name}:\n" for name in ("code", *names))
    control = f"entities:\n- entity: Wide\n  table: wide\n  input: [code, {', '.join(names)}]\n  mappings:\n{mappings}"
    control += "files: {wide.csv: {entity: Wide, action: Merge}}\n"
    head = f"code,{','.join(names)}\n"
    for mode, end in (("import", "1"), ("dry-run", "2")):
        rows = "".join(f"{code},{','.join(['x' * 250 + end] * 30)}\n" for code in "ab")
        done = run_import(target_url, control, {"wide.csv": head + rows}, tmp_path, mode=mode)
    (told, _), (properties, _) = changed(done), done.properties
    assert done.codes == ["RecordUpdated"] * 2
    assert list(told) == names[: len(told)] and told["c0"] == ("x" * 200 + "...",) * 2
    assert len(told) + properties["changedBesides"] == 30 and 9 <= len(told) <= 10


def test_what_a_record_is_called_stands_beside(tmp_path: Path) -> None:
    """What a record of a collection is called stands beside what changes, and is all that is left where everything is taken back."""
    line = b'Core_Data_RecordUpdated,m,Information,1,"{""changed"": {""a"": {""old"": null, ""new"": ""1""}}, ""entityType"": ""T""}",,f\n'
    assert b'"{""entityType"": ""T""}"' in taken_back(line) and b"changed" not in taken_back(line)
    chunk = Chunk(0, 0, "f", [1, 2], told=['"entityType": "T"', '"entityType": "T"'])
    rows = render(chunk, Verdicts([UPDATED, UPDATED], ["", ""], changes={0: '"changed": {}'})).decode().splitlines()
    assert '"{""changed"": {}, ""entityType"": ""T""}"' in rows[0] and '"{""entityType"": ""T""}"' in rows[1]
