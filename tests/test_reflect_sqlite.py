"""Reflection of SQLite's tables, on real files."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from engine.tables import Column, ForeignKey, Kind, Unique, matches
from engine.target import open_target
from engine.target.sqlite.connect import connect
from engine.target.sqlite.reflect import SqliteTables

ZOO = """
CREATE TABLE lading_head (x);
CREATE TABLE parent (a INT, b INT, note TEXT, PRIMARY KEY (a, b));
CREATE TABLE zoo (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    n INT NOT NULL DEFAULT (1 + 1), big BIGINT, price DECIMAL(12, 2), whole NUMERIC(5), rough NUMERIC, r REAL, d DOUBLE PRECISION,
    t TEXT, v VARCHAR(30) COLLATE NOCASE, trimmed TEXT COLLATE RTRIM,
    flag BOOLEAN DEFAULT TRUE, day DATE, ts TIMESTAMP, tsz TIMESTAMP WITH TIME ZONE, tz TIMESTAMPTZ,
    clock TIME, u UUID, j JSON, bin BLOB, span INTERVAL, anything, place POINT, words STRING,
    twice INT GENERATED ALWAYS AS (n * 2) VIRTUAL, thrice INT AS (n * 3) STORED,
    me INTEGER REFERENCES ZOO (ID) DEFERRABLE INITIALLY DEFERRED, -- REFERENCES nothing
    soon INT REFERENCES zoo /* DEFERRABLE INITIALLY DEFERRED */,
    pa INT, pb INT,
    FOREIGN KEY (PA, pb) REFERENCES Parent NOT DEFERRABLE INITIALLY DEFERRED,
    UNIQUE (big, n)
);
CREATE UNIQUE INDEX zoo_partial ON zoo (t) WHERE flag;
CREATE UNIQUE INDEX zoo_lower ON zoo (lower(t));
CREATE UNIQUE INDEX zoo_loose ON zoo (t COLLATE NOCASE);
CREATE UNIQUE INDEX zoo_v ON zoo (v);
CREATE INDEX zoo_plain ON zoo (n);
CREATE TABLE natural (code VARCHAR(5) PRIMARY KEY, name TEXT, rowid TEXT, zoo_id INT REFERENCES zoo) WITHOUT ROWID;
CREATE TABLE uuids (u UUID PRIMARY KEY, RowId TEXT) ;
CREATE TABLE strictly (id INTEGER PRIMARY KEY, a ANY, t TEXT) STRICT;
CREATE TABLE quirk (id INTEGER PRIMARY KEY DESC);
CREATE TABLE "odd ""one"" x" ("Select" INT PRIMARY KEY, "a b" TEXT COLLATE "NOCASE");
CREATE TABLE plain (a TEXT, b TEXT);
CREATE TRIGGER watch AFTER INSERT ON NATURAL BEGIN SELECT 1; END;
CREATE VIEW read_only AS SELECT * FROM plain;
CREATE VIEW writable AS SELECT * FROM plain;
CREATE TRIGGER arrive INSTEAD OF INSERT ON writable BEGIN INSERT INTO plain VALUES (new.a, new.b); END;
CREATE TABLE unknowable (a TEXT COLLATE klingon);
"""


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Give a database that holds the zoo."""
    with closing(sqlite3.connect(tmp_path / "zoo.db")) as maker:
        maker.create_collation("klingon", lambda a, b: (a > b) - (a < b))
        maker.executescript(ZOO)
    with closing(connect(str(tmp_path / "zoo.db"))) as connection:
        yield connection


@pytest.fixture
def tables(db: sqlite3.Connection) -> SqliteTables:
    """Give the zoo's tables as the engine sees them."""
    return SqliteTables(lambda: db)


def column(tables: SqliteTables, name: str) -> Column:
    """Return one column of the zoo."""
    return tables.get(None, "zoo").columns[name]


def test_names_are_those_of_tables_and_writable_views(tables: SqliteTables) -> None:
    """Ours, SQLite's own and views without triggers are left out."""
    assert [name for _, name in tables.names()] == [
        "natural", 'odd "one" x', "parent", "plain", "quirk", "strictly", "unknowable", "uuids", "writable", "zoo",
    ]  # fmt: skip
    assert matches(tables, "Zoo") == [(None, "zoo")]


def test_kinds(tables: SqliteTables) -> None:
    """A declared name tells the kind; a name that means nothing to us leaves the affinity."""
    for kind, names in {
        Kind.INTEGER: "id n big twice", Kind.DECIMAL: "price whole rough", Kind.FLOAT: "r d", Kind.TEXT: "t v trimmed",
        Kind.BOOLEAN: "flag",
        Kind.DATE: "day", Kind.TIMESTAMP: "ts", Kind.TIMESTAMP_TZ: "tsz tz", Kind.TIME: "clock", Kind.UUID: "u", Kind.JSON: "j",
        Kind.BINARY: "bin",
        Kind.INTERVAL: "span", Kind.OTHER: "anything place words",
    }.items():  # fmt: skip
        assert {column(tables, n).kind for n in names.split()} == {kind}, names
    assert [column(tables, n).affinity for n in ("t", "n", "flag", "r", "anything", "place", "words")] == [
        "TEXT", "INTEGER", "NUMERIC", "REAL", "BLOB", "INTEGER", "NUMERIC",
    ]  # fmt: skip


def test_affinities_are_those_that_sqlite_gives(tables: SqliteTables, db: sqlite3.Connection) -> None:
    """The text 1.50 is kept by TEXT and BLOB, and becomes a number under the numeric affinities."""
    db.execute("PRAGMA foreign_keys = OFF")
    for c in tables.get(None, "zoo").columns.values():
        if not c.is_generated and c.name not in ("id", "n"):
            (stored,) = db.execute(f'INSERT INTO zoo ("{c.name}") VALUES (?) RETURNING typeof("{c.name}")', ("1.50",)).fetchone()
            assert (stored == "text") == (c.affinity in ("TEXT", "BLOB")), c.name
            db.execute("DELETE FROM zoo")


def test_limits(tables: SqliteTables) -> None:
    """Lengths and digits are those declared, although SQLite does not heed them."""
    assert (column(tables, "v").max_length, column(tables, "t").max_length) == (30, None)
    assert [(column(tables, n).precision, column(tables, n).scale) for n in ("price", "whole", "rough")] == [(12, 2), (5, 0), (None, None)]
    assert column(tables, "n").bits == 64


def test_nulls_defaults_and_generated_columns(tables: SqliteTables) -> None:
    """The row id draws itself; generated columns are known as such."""
    assert (column(tables, "id").is_nullable, column(tables, "id").default) == (False, "NULL")
    assert (column(tables, "n").is_nullable, column(tables, "n").default) == (False, "1 + 1")
    assert column(tables, "flag").default == "TRUE"
    assert [column(tables, n).is_generated for n in ("twice", "thrice", "n")] == [True, True, False]
    assert not tables.get(None, "natural").columns["code"].is_nullable
    assert tables.get(None, "uuids").columns["u"].is_nullable


def test_equality(tables: SqliteTables) -> None:
    """Collations, and affinities that turn text into numbers, decide how keys are grouped."""
    both = {"id", "n", "t", "flag", "day", "ts", "tsz", "clock", "u", "bin"}
    exact = both | {"price", "rough", "r", "j", "place", "words"}
    neither = {"v", "trimmed", "anything"}
    columns = tables.get(None, "zoo").columns
    assert {n for n in exact | neither if columns[n].is_text_identity} == both
    assert {n for n in exact | neither if columns[n].is_exact} == exact
    assert [columns[n].collation for n in ("t", "v", "trimmed")] == [None, "NOCASE", "RTRIM"]
    assert tables.get(None, 'odd "one" x').columns["a b"].collation == "NOCASE"
    assert not tables.get(None, "unknowable").columns["a"].is_text_identity


def test_keys(tables: SqliteTables) -> None:
    """Primary keys, row ids by whatever name, AUTOINCREMENT and tables without a row id are told apart."""
    found = {n: tables.get(None, n) for n in ("zoo", "natural", "uuids", "strictly", "quirk", "plain", "parent")}
    assert {n: (t.primary_key, t.rowid_alias, t.rowid_name, t.is_autoincrement) for n, t in found.items()} == {
        "zoo": (("id",), "id", "rowid", True),
        "natural": (("code",), None, None, False),
        "uuids": (("u",), None, "_rowid_", False),
        "strictly": (("id",), "id", "rowid", False),
        "quirk": (("id",), None, "rowid", False),
        "plain": ((), None, "rowid", False),
        "parent": (("a", "b"), None, "rowid", False),
    }


def test_uniques(tables: SqliteTables) -> None:
    """Every unique constraint and index is there with what makes it weaker than a plain key."""
    assert set(tables.get(None, "zoo").uniques) == {
        Unique("", ("id",), is_primary=True),
        Unique("sqlite_autoindex_zoo_1", ("big", "n")),
        Unique("zoo_partial", ("t",), is_partial=True),
        Unique("zoo_lower", (), has_expressions=True),
        Unique("zoo_loose", (), has_expressions=True),
        Unique("zoo_v", ("v",)),
    }
    assert tables.get(None, "natural").uniques == (Unique("sqlite_autoindex_natural_1", ("code",), is_primary=True),)


def test_foreign_keys(tables: SqliteTables) -> None:
    """Names are as declared where they lead to, missing columns are the parent's key, and only what really waits is deferred."""
    assert tables.get(None, "zoo").foreign_keys == (
        ForeignKey("zoo_me_fkey", ("me",), None, "zoo", ("id",), is_deferred=True),
        ForeignKey("zoo_soon_fkey", ("soon",), None, "zoo", ("id",)),
        ForeignKey("zoo_pa_pb_fkey", ("pa", "pb"), None, "parent", ("a", "b")),
    )
    assert tables.get(None, "zoo").referenced_by == ((None, "natural"), (None, "zoo"))


def test_what_may_change_rows(tables: SqliteTables) -> None:
    """Triggers are found whatever the case of their table's name; a view is no table."""
    assert [tables.get(None, n).has_triggers for n in ("natural", "plain", "writable")] == [True, False, True]
    assert [tables.get(None, n).has_rewrites for n in ("natural", "plain", "writable")] == [False, False, True]


def test_unknown_tables_and_ours_are_refused(tables: SqliteTables) -> None:
    """What is not there, and what is ours or SQLite's own, is a KeyError."""
    for name in ("nothing", "lading_head", "LADING_head", "sqlite_schema", "sqlite_sequence"):
        with pytest.raises(KeyError):
            tables.get(None, name)


def test_changes_show(tables: SqliteTables, db: sqlite3.Connection) -> None:
    """After a change of the schema a refresh reflects anew; rows are no change."""
    plain = tables.get(None, "plain")
    db.execute("INSERT INTO plain VALUES (1, 2)")
    assert tables.changed([plain]) == []
    db.execute("ALTER TABLE plain ADD c INT")
    assert tables.changed([plain]) == [plain]
    tables.refresh()
    assert list(tables.get(None, "plain").columns) == ["a", "b", "c"]


def test_a_target_sees_new_tables(tmp_path: Path) -> None:
    """Asked for its tables again, a target shows what has been made since, by whomever."""
    target = open_target(f"sqlite:///{tmp_path / 'x.db'}")
    assert target.tables().names() == []
    with closing(sqlite3.connect(tmp_path / "x.db")) as other:
        other.execute("CREATE TABLE t (a)")
    assert target.tables().names() == [(None, "t")]
    target.close()


def test_reflection_is_fast(tables: SqliteTables) -> None:
    """A table is reflected within a few milliseconds."""
    started = time.perf_counter()
    for _, name in tables.names():
        tables.get(None, name)
    assert time.perf_counter() - started < 0.1
