"""Whole imports into PostgreSQL tables of every sort: types, keys, defaults, and all that may stand between a record and its row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.engine_parts import run_import, sql

pytestmark = pytest.mark.both_postgresql

ZOO = """
CREATE SCHEMA "my zoo";
CREATE TYPE "my zoo".mood AS ENUM ('sad', 'so so', 'happy');
CREATE DOMAIN "my zoo".percent AS numeric(5,2) CHECK (VALUE BETWEEN 0 AND 100);
CREATE TABLE "my zoo"."All ""types"" here" (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  "Code" varchar(10) NOT NULL UNIQUE,
  small smallint, big bigint, amount numeric(12,2), free numeric, ratio double precision, ok boolean,
  day date, at_time time, moment timestamp, instant timestamptz, span interval, uid uuid DEFAULT gen_random_uuid(),
  feeling "my zoo".mood DEFAULT 'so so', share "my zoo".percent, doc json, docb jsonb, tags text[], numbers integer[], raw bytea,
  fixed char(4),
  doubled numeric GENERATED ALWAYS AS (amount * 2) STORED,
  made timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT positive CHECK (amount >= 0)
);
"""
COLUMNS = [  # beside Code
    *("small", "big", "amount", "free", "ratio", "ok", "day", "at_time", "moment", "instant", "span"),
    *("uid", "feeling", "share", "doc", "docb", "tags", "numbers", "raw", "fixed"),
]
CONTROL = f"""
entities:
- entity: 'All "types" here'
  input: [Code, {", ".join(COLUMNS)}]
  mappings:
  - id: {{converter: {{type: CodeReferenceLookup, input: Code, column: Code}}}}
  - Code:
{chr(10).join(f"  - {name}:" for name in COLUMNS)}
files:
  zoo.csv: {{entity: 'All "types" here', action: Merge}}
"""

FULL = (
    "k1,32767,-9007199254740993,12345.60,0.1000000000000000000001,1.5e3,yes,2024-02-29,23:59:59.5,2024-01-02T03:04:05,"
    "2024-01-02T03:04:05+02:00,P1DT2H,A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11,happy,99.5,"
    '"{""b"": 1, ""a"": [1, 2.50]}","{""x"": ""é""}","{red,""a b""}","{1,2,3}",\\xDEADBEEF,ab'
)
HEADER = "Code," + ",".join(COLUMNS)
SELECT = 'SELECT {} FROM "my zoo"."All ""types"" here" ORDER BY "Code"'


def zoo(url: str, rows: str, tmp_path: Path, **options: Any) -> list[str]:
    """Import rows of the zoo; return the codes."""
    return run_import(url, CONTROL, {"zoo.csv": f"{HEADER}\n{rows}\n"}, tmp_path, **options).codes


def test_every_type_arrives_exactly(pg_database: str, tmp_path: Path) -> None:
    """Each value stands in the table as the file says it; a second load finds all of it unchanged."""
    sql(pg_database, ZOO)
    assert zoo(pg_database, FULL, tmp_path) == ["RecordCreated"]
    texts = ", ".join(f"{name}::text" for name in COLUMNS)
    sql(pg_database, "SET timezone = 'UTC'")
    row = sql(pg_database, SELECT.format(texts))[0]
    assert row[:9] == ("32767", "-9007199254740993", "12345.60", "0.1000000000000000000001", "1500", "true", "2024-02-29", "23:59:59.5",
                       "2024-01-02 03:04:05")  # fmt: skip
    assert sql(pg_database, SELECT.format("instant = '2024-01-02 01:04:05Z', span = '26 hours'")) == [(True, True)]
    assert row[11:] == ("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "happy", "99.50", '{"b": 1, "a": [1, 2.50]}', '{"x": "é"}', '{red,"a b"}',
                        "{1,2,3}", "\\xdeadbeef", "ab")  # fmt: skip
    assert zoo(pg_database, FULL, tmp_path) == ["RecordUnchanged"]


def test_empty_cells_take_defaults_when_created_and_clear_when_updated(pg_database: str, tmp_path: Path) -> None:
    """A new row gets its columns' defaults for empty cells; an update clears them."""
    sql(pg_database, ZOO)
    empty = "k1" + "," * len(COLUMNS)
    assert zoo(pg_database, empty, tmp_path) == ["RecordCreated"]
    assert sql(pg_database, SELECT.format("feeling::text, uid IS NOT NULL, small, doubled")) == [("so so", True, None, None)]
    assert zoo(pg_database, empty, tmp_path) == ["RecordUpdated"]
    assert sql(pg_database, SELECT.format("feeling::text, uid")) == [(None, None)]


@pytest.mark.parametrize(
    ("column", "value", "code"),
    [
        ("small", "32768", "OutOfRange"),
        ("amount", "-1", "CheckViolated"),
        ("amount", "1.005", "TooManyDecimals"),
        ("share", "101", "CheckViolated"),
        ("ratio", "NaN", "InvalidNumber"),
        ("ok", "maybe", "InvalidBoolean"),
        ("day", "2024-02-30", "InvalidDate"),
        ("moment", "2024-01-01T00:00:00Z", "ZoneUnexpected"),
        ("instant", "2024-01-01T00:00:00", "ZoneMissing"),
        ("uid", "xyz", "InvalidUuid"),
        ("feeling", "angry", "NotInEnum"),
        ("doc", "{", "InvalidJson"),
        ("numbers", "{1,x}", None),
        ("span", "three days or so", None),
        ("fixed", "abcde", "TooLong"),
    ],
)
def test_a_bad_value_costs_only_its_record(pg_database: str, tmp_path: Path, column: str, value: str, code: str | None) -> None:
    """Whatever is wrong with one value, the records around it are applied, and its receipt is an error."""
    sql(pg_database, ZOO)
    bad = ["k2"] + ['"' + value + '"' if name == column else "" for name in COLUMNS]
    rows = "\n".join(["k1" + "," * len(COLUMNS), ",".join(bad), "k3" + "," * len(COLUMNS)])
    codes = zoo(pg_database, rows, tmp_path)
    assert (codes[0], codes[2]) == ("RecordCreated", "RecordCreated")
    assert codes[1] == code if code else codes[1] not in ("RecordCreated", "RecordUnchanged")


PLAIN = """
entities:
- {entity: thing, input: [code, name], mappings: [{id: {converter: {type: CodeReferenceLookup, input: code}}}, {code: }, {name: }]}
files: {t.csv: {entity: thing, action: Merge}}
"""
FILE = {"t.csv": "code,name\na,A\nb,B\n"}


def test_a_view_is_written_through(pg_database: str, tmp_path: Path) -> None:
    """A simple view takes records as its table would."""
    sql(pg_database, "CREATE TABLE base(id serial PRIMARY KEY, code text UNIQUE, name text)")
    sql(pg_database, "CREATE VIEW thing AS SELECT id, code, name FROM base")
    assert run_import(pg_database, PLAIN, FILE, tmp_path).codes == ["RecordCreated"] * 2
    assert run_import(pg_database, PLAIN, {"t.csv": "code,name\na,A\nb,Bee\n"}, tmp_path).codes == ["RecordUnchanged", "RecordUpdated"]
    assert sql(pg_database, "SELECT code, name FROM base ORDER BY 1") == [("a", "A"), ("b", "Bee")]


def test_partitioned_and_keyless_tables(pg_database: str, tmp_path: Path) -> None:
    """Rows go to their partitions; a table without a primary key is addressed by its rows' places."""
    sql(pg_database, "CREATE TABLE thing(code text, name text) PARTITION BY LIST (code)")
    sql(pg_database, "CREATE TABLE thing_a PARTITION OF thing FOR VALUES IN ('a')")
    sql(pg_database, "CREATE TABLE thing_b PARTITION OF thing FOR VALUES IN ('b')")
    assert run_import(pg_database, PLAIN, FILE, tmp_path).codes == ["RecordCreated"] * 2
    assert run_import(pg_database, PLAIN, {"t.csv": "code,name\na,x\nb,B\nc,C\n"}, tmp_path).codes[:2] == [
        "RecordUpdated",
        "RecordUnchanged",
    ]
    assert sql(pg_database, "SELECT * FROM thing ORDER BY 1") == [("a", "x"), ("b", "B")]


def test_an_after_trigger_sees_each_record_by_itself(pg_database: str, tmp_path: Path) -> None:
    """A trigger that counts rows finds as many as there would be one by one."""
    sql(pg_database, "CREATE TABLE thing(id serial PRIMARY KEY, code text UNIQUE, name text); CREATE TABLE seen(n bigint)")
    body = "BEGIN INSERT INTO seen SELECT count(*) FROM thing; RETURN NULL; END"
    sql(pg_database, f"CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$")
    sql(pg_database, "CREATE TRIGGER look AFTER INSERT ON thing FOR EACH ROW EXECUTE FUNCTION look()")
    run_import(pg_database, PLAIN, FILE, tmp_path)
    assert sql(pg_database, "SELECT n FROM seen ORDER BY 1") == [(1,), (2,)]


def test_row_security_refuses_single_rows(pg_database: str, tmp_path: Path) -> None:
    """A policy refuses the rows that it forbids, and no others; the sequence need not be ours to use."""
    sql(
        pg_database,
        "CREATE TABLE thing(id integer GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, code text UNIQUE, name text);"
        "ALTER TABLE thing ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON thing USING (true) WITH CHECK (code <> 'b');"
        "DROP ROLE IF EXISTS lading_test; CREATE ROLE lading_test LOGIN; GRANT ALL ON thing TO lading_test;"
        "GRANT CREATE, CONNECT, TEMP ON DATABASE " + pg_database.rpartition("/")[2] + " TO lading_test",
    )
    try:
        as_role = pg_database.replace("//postgres@", "//lading_test@")
        done = run_import(as_role, PLAIN, {"t.csv": "code,name\na,A\nb,B\nc,C\n"}, tmp_path)
        assert done.codes == ["RecordCreated", "NotAllowed", "RecordCreated"]
        assert [r["EntityId"] for r in done.results] == [str(i) if i else "" for i in (1, None, 3)] or done.results[0]["EntityId"] == "1"
    finally:
        sql(pg_database, "DROP OWNED BY lading_test CASCADE; DROP ROLE lading_test")


def test_a_partial_unique_index_counts(pg_database: str, tmp_path: Path) -> None:
    """A unique index over some rows refuses what collides there, in file order."""
    sql(pg_database, "CREATE TABLE thing(id serial PRIMARY KEY, code text UNIQUE, name text, live boolean NOT NULL DEFAULT true)")
    sql(pg_database, "CREATE UNIQUE INDEX one_name ON thing(name) WHERE live")
    control = PLAIN.replace("[code, name]", "[code, name, live]").replace("{name: }", "{name: }, {live: }")
    done = run_import(pg_database, control, {"t.csv": "code,name,live\na,N,yes\nb,N,no\nc,N,yes\na,N,no\nc,N,yes\n"}, tmp_path)
    assert done.codes == ["RecordCreated", "RecordCreated", "DuplicateKey", "RecordUpdated", "RecordCreated"]


def test_an_exclusion_constraint_counts(pg_database: str, tmp_path: Path) -> None:
    """Overlapping ranges are refused one by one."""
    sql(pg_database, "CREATE TABLE thing(code text PRIMARY KEY, name int4range, EXCLUDE USING gist (name WITH &&))")
    done = run_import(pg_database, PLAIN, {"t.csv": 'code,name\na,"[1,5)"\nb,"[3,7)"\na,"[9,10)"\nb,"[3,7)"\nc,nonsense\n'}, tmp_path)
    assert done.codes[:4] == ["RecordCreated", "ExclusionViolated", "RecordUpdated", "RecordCreated"]
    assert done.results[4]["Severity"] == "Error"


def test_a_trigger_may_fill_a_required_column(pg_database: str, tmp_path: Path) -> None:
    """NOT NULL is the database's to check where a trigger may give the value."""
    sql(pg_database, "CREATE TABLE thing(id serial PRIMARY KEY, code text UNIQUE, name text NOT NULL)")
    body = "BEGIN NEW.name := coalesce(NEW.name, upper(NEW.code)); RETURN NEW; END"
    sql(pg_database, f"CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$")
    sql(pg_database, "CREATE TRIGGER fill BEFORE INSERT ON thing FOR EACH ROW EXECUTE FUNCTION fill()")
    assert run_import(pg_database, PLAIN, {"t.csv": "code,name\na,\n"}, tmp_path).codes == ["RecordCreated"]
    assert sql(pg_database, "SELECT name FROM thing") == [("A",)]
