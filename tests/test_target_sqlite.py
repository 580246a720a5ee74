"""What only the SQLite target must get right: its ids, its loose types, its silence about constraints."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine_parts import sql
from tests.sqlite_parts import control, ids, load


@pytest.fixture
def url(target_url_sqlite: str) -> str:
    """Give an empty target."""
    return target_url_sqlite


def test_ids_are_the_ones_that_sqlite_would_have_drawn(url: str, tmp_path: Path) -> None:
    """Ids go on behind the largest; a refused record uses none up."""
    sql(url, "CREATE TABLE t (id INTEGER PRIMARY KEY, code TEXT UNIQUE, n INT CHECK (n > 0)); INSERT INTO t VALUES (41, 'old', 1);")
    done = load(url, tmp_path, control("t", "code n", "code"), "code,n\na,1\nb,-1\nc,1\nd,0\ne,5\n")
    assert done.codes == ["RecordCreated", "CheckViolated", "RecordCreated", "CheckViolated", "RecordCreated"]
    assert ids(done) == ["42", "", "43", "", "44"]
    assert sql(url, "SELECT id, code FROM t WHERE id > 41") == [(42, "a"), (43, "c"), (44, "e")]


def test_ids_of_autoincrement_tables_are_never_used_again(url: str, tmp_path: Path) -> None:
    """A deleted row's id stays used, and SQLite's own counter goes on behind ours."""
    sql(
        url,
        "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, code TEXT UNIQUE); INSERT INTO t (id, code) VALUES (9, 'x'); DELETE FROM t;",
    )
    assert ids(load(url, tmp_path, control("t", "code", "code"), "code\na\nb\n")) == ["10", "11"]
    sql(url, "DELETE FROM t WHERE code = %s", "b")
    sql(url, "INSERT INTO t (code) VALUES (%s)", "c")
    assert sql(url, "SELECT max(id) FROM t") == [(12,)]


def test_given_ids_are_kept_and_missing_ones_drawn(url: str, tmp_path: Path) -> None:
    """A file that names some ids leaves the others to SQLite, in file order."""
    sql(url, "CREATE TABLE t (id INTEGER PRIMARY KEY, code TEXT UNIQUE);")
    done = load(url, tmp_path, control("t", "id code", "code"), "id,code\n,a\n70,b\n,c\n70,d\n")
    assert ids(done) == ["1", "70", "71", ""]
    assert done.codes[-1] == "DuplicateKey"
    assert done.properties[-1] == {"id": "70"}


def test_keys_made_by_a_default_are_receipted(url: str, tmp_path: Path) -> None:
    """A key that the database makes up is the one in the receipt."""
    sql(url, "CREATE TABLE t (key TEXT PRIMARY KEY DEFAULT (lower(hex(randomblob(8)))), code TEXT UNIQUE) WITHOUT ROWID;")
    done = load(url, tmp_path, control("t", "code", "code"), "code\na\nb\n")
    assert ids(done) == [key for (key,) in sql(url, "SELECT key FROM t ORDER BY code")]


def test_a_table_without_primary_key_is_addressed_by_its_row_id(url: str, tmp_path: Path) -> None:
    """Rows are found, changed and deleted although nothing names them; one with a column called rowid too."""
    sql(url, "CREATE TABLE t (rowid TEXT, code TEXT, n INT); INSERT INTO t VALUES ('r', 'a', 1), ('r', 'b', 2);")
    text = control("t", "code n", "code")
    assert load(url, tmp_path, text, "code,n\na,7\nb,2\nc,3\n").codes == ["RecordUpdated", "RecordUnchanged", "RecordCreated"]
    assert load(url, tmp_path, control("t", "code n", "code", "Delete"), "code,n\nb,\nz,\n").codes == ["RecordDeleted", "RecordNotFound"]
    assert sql(url, "SELECT code, n FROM t ORDER BY code") == [("a", 7), ("c", 3)]


def test_several_rows_with_one_key_are_ambiguous(url: str, tmp_path: Path) -> None:
    """Where no unique index keeps keys apart, a key of several rows is the record's fault."""
    sql(url, "CREATE TABLE t (code TEXT, n INT); INSERT INTO t VALUES ('a', 1), ('a', 2), ('b', 3);")
    assert load(url, tmp_path, control("t", "code n", "code"), "code,n\na,9\nb,9\n").codes == ["LookupAmbiguous", "RecordUpdated"]


def test_the_columns_collation_decides_which_keys_are_equal(url: str, tmp_path: Path) -> None:
    """NOCASE keys that differ in case name one row; what the file writes is written byte for byte."""
    sql(url, "CREATE TABLE t (id INTEGER PRIMARY KEY, code TEXT COLLATE NOCASE UNIQUE, n INT); INSERT INTO t VALUES (1, 'abc', 1);")
    done = load(url, tmp_path, control("t", "code n", "code"), "code,n\nABC,1\nnew,1\nNEW,2\nabc,1\nABC,1\nabc,1\n")
    assert done.codes == ["RecordUpdated", "RecordCreated", "RecordUpdated", "RecordUpdated", "RecordUpdated", "RecordUpdated"]
    assert sql(url, "SELECT code, n FROM t ORDER BY id") == [("abc", 1), ("NEW", 2)]
    assert load(url, tmp_path, control("t", "code n", "code"), "code,n\nabc,1\nNEW,2\n").codes == ["RecordUnchanged"] * 2


def test_numbers_are_compared_as_numbers(url: str, tmp_path: Path) -> None:
    """An integer key has one row whatever its spelling; equal decimals are no change."""
    sql(url, "CREATE TABLE t (id INTEGER PRIMARY KEY, no INT UNIQUE, price DECIMAL(8,2)); INSERT INTO t VALUES (1, 7, 1.5);")
    text = control("t", "no price", "no")
    assert load(url, tmp_path, text, "no,price\n007,1.50\n8,2\n08,2.00\n").codes == ["RecordUnchanged", "RecordCreated", "RecordUnchanged"]
    assert sql(url, "SELECT no, price, typeof(price) FROM t") == [(7, 1.5, "real"), (8, 2, "integer")]


def test_text_keeps_its_zeros(url: str, tmp_path: Path) -> None:
    """`007` and `7` are two keys in a text column."""
    sql(url, "CREATE TABLE t (id INTEGER PRIMARY KEY, code TEXT UNIQUE);")
    assert load(url, tmp_path, control("t", "code", "code"), "code\n007\n7\n007\n").codes == [
        "RecordCreated",
        "RecordCreated",
        "RecordUnchanged",
    ]
    assert sql(url, "SELECT code FROM t") == [("007",), ("7",)]


def test_each_refusal_names_its_constraint_column_and_value(url: str, tmp_path: Path) -> None:
    """SQLite says little; the receipts say which foreign key, unique constraint, check or column it was."""
    sql(
        url,
        "CREATE TABLE colour (code TEXT PRIMARY KEY); INSERT INTO colour VALUES ('red'), ('blue');"
        "CREATE TABLE t (id INTEGER PRIMARY KEY, code TEXT NOT NULL UNIQUE, a INT, b INT,"
        " c TEXT REFERENCES colour, d TEXT REFERENCES colour,"
        " e INT CHECK (e < 10), f INT CONSTRAINT small_f CHECK (f < 10), g TEXT NOT NULL DEFAULT 'x', UNIQUE (a, b));"
        "CREATE UNIQUE INDEX t_lower ON t (lower(code)); INSERT INTO t (code, a, b) VALUES ('old', 1, 2);",
    )
    text = control("t", "code a b c d e f", "code")
    rows = "code,a,b,c,d,e,f\np,1,2,,,,\nq,,,red,green,,\nr,,,,,11,\ns,,,,,,12\nOLD,,,,,,\nu,,,blue,red,1,1\n"
    done = load(url, tmp_path, text, rows)
    assert done.codes == ["DuplicateKey", "ForeignKeyViolated", "CheckViolated", "CheckViolated", "DuplicateKey", "RecordCreated"]
    assert done.properties[:4] == [{"a, b": "1, 2"}, {"d": "green"}, {"e": "11"}, {}]
    messages = [r["Message"] for r in done.results]
    assert "does not exist in colour" in messages[1]
    assert "e < 10" in messages[2]
    assert "small_f" in messages[3]
    assert "t_lower" in messages[4]


def test_a_null_where_none_may_be_is_refused(url: str, tmp_path: Path) -> None:
    """An update that clears a NOT NULL column is that record's fault only."""
    sql(url, "CREATE TABLE t (code TEXT PRIMARY KEY, n INT NOT NULL DEFAULT 5); INSERT INTO t VALUES ('a', 1);")
    done = load(url, tmp_path, control("t", "code n", "code"), "code,n\na,\nb,\nc,3\n")
    assert done.results[0]["#Code"] == "Core_NotNullValidator"
    assert done.codes[1:] == ["RecordCreated", "RecordCreated"]
    assert sql(url, "SELECT * FROM t ORDER BY code") == [("a", 1), ("b", 5), ("c", 3)]


def test_empty_cells_take_every_kind_of_default(url: str, tmp_path: Path) -> None:
    """Literal defaults, expressions and none at all, mixed within one file, each with its id."""
    sql(
        url,
        "CREATE TABLE t (id INTEGER PRIMARY KEY, code TEXT UNIQUE, lit TEXT DEFAULT 'it''s', num INT DEFAULT -3,"
        " expr INT DEFAULT (2 + 5), bare TEXT);",
    )
    rows = "code,lit,num,expr,bare\na,,,,\nb,B,1,,\nc,,2,3,C\nd,,,,\n"
    done = load(url, tmp_path, control("t", "code lit num expr bare", "code"), rows)
    assert ids(done) == ["1", "2", "3", "4"]
    assert sql(url, "SELECT lit, num, expr, bare FROM t ORDER BY id") == [
        ("it's", -3, 7, None), ("B", 1, 7, None), ("it's", 2, 3, "C"), ("it's", -3, 7, None),
    ]  # fmt: skip


@pytest.mark.parametrize(("rule", "expected"), [("keep", ("old", 9)), ("clear", (None, None)), ("default", ("lit", 7))])
def test_empty_cells_follow_their_rule_on_update(url: str, tmp_path: Path, rule: str, expected: tuple) -> None:
    """An empty cell keeps, clears or resets what is there."""
    sql(
        url,
        "CREATE TABLE t (code TEXT PRIMARY KEY, a TEXT DEFAULT 'lit', b INT DEFAULT (3 + 4));"
        "INSERT INTO t VALUES ('k', 'old', 9), ('l', 'o', 1);",
    )
    text = control("t", "code a b", "code").replace("  x.csv: {", f"  x.csv: {{empty: {rule}, ")
    done = load(url, tmp_path, text, "code,a,b\nk,,\nl,new,2\n")
    assert done.codes == ["RecordUnchanged" if rule == "keep" else "RecordUpdated", "RecordUpdated"]
    assert sql(url, "SELECT a, b FROM t ORDER BY code") == [expected, ("new", 2)]


def test_the_tables_own_conflict_clauses_do_not_count(url: str, tmp_path: Path) -> None:
    """ON CONFLICT REPLACE in the table would drop another row behind our back; the record is refused instead."""
    sql(
        url,
        "CREATE TABLE t (id INTEGER PRIMARY KEY, code TEXT UNIQUE, seat INT UNIQUE ON CONFLICT REPLACE); INSERT INTO t VALUES (1, 'a', 1);",
    )
    assert load(url, tmp_path, control("t", "code seat", "code"), "code,seat\nb,1\nc,2\n").codes == ["DuplicateKey", "RecordCreated"]
    assert sql(url, "SELECT code, seat FROM t ORDER BY id") == [("a", 1), ("c", 2)]


def test_deleting_cascades_and_later_records_see_it(url: str, tmp_path: Path) -> None:
    """A row that an earlier deletion took along is not found at its turn."""
    sql(
        url,
        "CREATE TABLE t (code TEXT PRIMARY KEY, up TEXT REFERENCES t ON DELETE CASCADE);"
        "INSERT INTO t VALUES ('a', NULL), ('b', 'a'), ('c', NULL), ('d', 'c');",
    )
    done = load(url, tmp_path, control("t", "code", "code", "Delete"), "code\na\nb\nd\nc\n")
    assert done.codes == ["RecordDeleted", "RecordNotFound", "RecordDeleted", "RecordDeleted"]


def test_triggers_see_one_record_at_a_time(url: str, tmp_path: Path) -> None:
    """A trigger may refuse, drop, or add rows: each receipt tells what became of its own record."""
    sql(url, "CREATE TABLE t (id INTEGER PRIMARY KEY, code TEXT UNIQUE, n INT); CREATE TABLE log (id INTEGER PRIMARY KEY, what TEXT);")
    for trigger in (
        "CREATE TRIGGER no BEFORE INSERT ON t WHEN new.n = 13 BEGIN SELECT RAISE(ABORT, 'no thirteens'); END",
        "CREATE TRIGGER drops BEFORE INSERT ON t WHEN new.n = 0 BEGIN SELECT RAISE(IGNORE); END",
        "CREATE TRIGGER fails AFTER INSERT ON t WHEN new.n = 99 BEGIN"
        " INSERT INTO log (what) VALUES ('fail'); SELECT RAISE(FAIL, 'half done'); END",
        "CREATE TRIGGER writes AFTER INSERT ON t WHEN new.n = 5 BEGIN INSERT INTO t (code, n) VALUES (new.code || '+', 1); END",
    ):
        sql(url, trigger)
    done = load(url, tmp_path, control("t", "code n", "code"), "code,n\na,1\nb,13\nc,0\nd,99\ne,5\nf,2\n")
    assert done.codes == ["RecordCreated", "DatabaseRefused", "NotWritten", "DatabaseRefused", "RecordCreated", "RecordCreated"]
    assert sql(url, "SELECT id, code FROM t ORDER BY id") == [(1, "a"), (2, "e"), (3, "e+"), (4, "f")]
    assert ids(done) == ["1", "", "", "", "2", "4"]
    assert "no thirteens" in done.results[1]["Message"]
    assert sql(url, "SELECT * FROM log") == []


def test_a_view_is_written_through_its_triggers(url: str, tmp_path: Path) -> None:
    """Rows sent to a view arrive where its INSTEAD OF triggers put them, and are found again."""
    sql(url, "CREATE TABLE base (code TEXT PRIMARY KEY, n INT); CREATE VIEW v AS SELECT code, n FROM base;")
    sql(url, "CREATE TRIGGER i INSTEAD OF INSERT ON v BEGIN INSERT INTO base VALUES (new.code, new.n); END")
    sql(url, "CREATE TRIGGER u INSTEAD OF UPDATE ON v BEGIN UPDATE base SET n = new.n WHERE code = old.code; END")
    text = control("v", "code n", "code")
    assert load(url, tmp_path, text, "code,n\na,1\nb,2\n").codes == ["RecordCreated"] * 2
    assert load(url, tmp_path, text, "code,n\na,1\nb,3\n").codes == ["RecordUnchanged", "RecordUpdated"]
    assert sql(url, "SELECT * FROM base ORDER BY code") == [("a", 1), ("b", 3)]


DEFERRED = (
    "CREATE TABLE t (code TEXT PRIMARY KEY, up TEXT REFERENCES t DEFERRABLE INITIALLY DEFERRED);"
    "CREATE TABLE user (id INTEGER PRIMARY KEY, t TEXT REFERENCES t DEFERRABLE INITIALLY DEFERRED);"
)


def test_deferred_keys_count_for_each_record(url: str, tmp_path: Path) -> None:
    """A row may refer to itself and to earlier ones; a later parent comes too late, and what is referred to stays."""
    sql(url, DEFERRED + "INSERT INTO t VALUES ('used', NULL), ('free', NULL); INSERT INTO user VALUES (1, 'used');")
    assert load(url, tmp_path, control("t", "code up", "code"), "code,up\na,a\nb,a\nc,d\nd,\n").codes == [
        "RecordCreated", "RecordCreated", "ForeignKeyViolated", "RecordCreated",
    ]  # fmt: skip
    assert load(url, tmp_path, control("t", "code", "code", "Delete"), "code\nused\nfree\n").codes == [
        "ForeignKeyViolated",
        "RecordDeleted",
    ]


def test_deferred_keys_wait_for_the_end_of_all_or_none(url: str, tmp_path: Path) -> None:
    """A parent may come later in the file; one that never comes fails the import, but what was broken before does not."""
    sql(url, "PRAGMA foreign_keys = OFF; " + DEFERRED + "INSERT INTO t VALUES ('broken long ago', 'nowhere');")
    text = control("t", "code up", "code")
    done = load(url, tmp_path, text, "code,up\nc,d\nd,\n", execution="AllOrNone")
    assert (done.state, done.codes) == ("completed", ["RecordCreated", "RecordCreated"])
    done = load(url, tmp_path, text, "code,up\ne,f\ng,\n", execution="AllOrNone")
    assert (done.state, done.code) == ("failed", "constraint_violated")
    assert "does not exist in t" in done.status_msg
    assert sql(url, "SELECT count(*) FROM t") == [(3,)]


def test_strict_tables_refuse_what_does_not_fit(url: str, tmp_path: Path) -> None:
    """A value that a STRICT table will not store is the record's fault, told by its column."""
    sql(
        url,
        "CREATE TABLE colour (id TEXT PRIMARY KEY, code TEXT UNIQUE) STRICT; INSERT INTO colour VALUES ('7', 'red'), ('b', 'blue');"
        "CREATE TABLE t (code TEXT PRIMARY KEY, colour INT REFERENCES colour) STRICT;",
    )
    text = control("t", "code colour", "code").replace(
        "  - colour: ", "  - colour: {converter: {type: CodeReferenceLookup, input: colour}}"
    )
    done = load(url, tmp_path, text, "code,colour\na,blue\nb,red\n")
    assert done.codes == ["DatabaseRefused", "RecordCreated"]
    assert done.properties[0] == {"colour": "b"}


def test_a_file_without_identity_inserts_only(url: str, tmp_path: Path) -> None:
    """A table with neither key nor identity takes every record as a new row."""
    sql(url, "CREATE TABLE t (a TEXT, b INT CHECK (b <> 3));")
    done = load(url, tmp_path, control("t", "a b", action="Insert"), "a,b\nx,1\nx,1\ny,3\nz,4\n")
    assert done.codes == ["RecordCreated", "RecordCreated", "CheckViolated", "RecordCreated"]


def test_look_ups_through_references_use_the_databases_equality(url: str, tmp_path: Path) -> None:
    """A key part behind a reference is compared in the table where it lies."""
    sql(
        url,
        "CREATE TABLE site (id INTEGER PRIMARY KEY, code TEXT COLLATE NOCASE UNIQUE); INSERT INTO site VALUES (1, 'North'), (2, 'South');"
        "CREATE TABLE room (id INTEGER PRIMARY KEY, site_id INT REFERENCES site, no INT, name TEXT);"
        "INSERT INTO room VALUES (5, 1, 7, 'old'), (6, 2, 7, 'old');",
    )
    text = """
entities:
- entity: Room
  table: room
  input: [site, no, name]
  mappings:
  - id: {converter: {type: ReferenceLookup, properties: {"Room->site_id_code": site, "Room->no": no}}}
  - site_id: {converter: {type: CodeReferenceLookup, input: site}}
  - no:
  - name:
files:
  x.csv: {entity: Room, action: Merge}
"""
    done = load(url, tmp_path, text, "site,no,name\nNORTH,7,new\nsouth,07,old\nsouth,8,x\nSouth,8,x\nWest,1,x\n")
    assert done.codes == ["RecordUpdated", "RecordUnchanged", "RecordCreated", "RecordUnchanged", "ReferenceNotFound"]
    assert sql(url, "SELECT site_id, no, name FROM room ORDER BY id") == [(1, 7, "new"), (2, 7, "old"), (2, 8, "x")]


def test_masked_values_stay_out_of_the_databases_words(url: str, tmp_path: Path) -> None:
    """A trigger that repeats a masked value is not quoted."""
    sql(url, "CREATE TABLE t (code TEXT PRIMARY KEY, pin TEXT);")
    sql(url, "CREATE TRIGGER no BEFORE INSERT ON t BEGIN SELECT RAISE(ABORT, 'bad pin 4711'); END")
    text = control("t", "code pin", "code").replace("  - pin: ", "  - pin: {masked: true}")
    done = load(url, tmp_path, text, "code,pin\na,4711\n")
    assert done.codes == ["DatabaseRefused"]
    assert "bad pin" not in done.results[0]["Message"]
    assert b"4711" not in done.raw
