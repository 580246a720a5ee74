"""A session of the SQLite target: its keys, its locks, and whatever size its chunks have."""

from __future__ import annotations

import random
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from engine import ledger
from engine.plan import KeyPart, Lookup, Source
from engine.target import open_target
from engine.target.sqlite import runs, sql as queries
from engine.target.sqlite.connect import connect
from errors import LeaseLost, TargetLocked
from tests.engine_parts import plan_of, sql
from tests.sqlite_parts import control, ids, load


@pytest.fixture
def url(target_url_sqlite: str) -> str:
    """Give an empty target."""
    return target_url_sqlite


def test_bytes_can_be_keys(url: str) -> None:
    """Keys of bytes, which no JSON can carry, are found and told apart."""
    sql(url, "CREATE TABLE t (hash BLOB, part INT, n INT, PRIMARY KEY (hash, part)); INSERT INTO t VALUES (x'00ff', 1, 5), (x'01', 1, 6);")
    target = open_target(url)
    table = target.tables().get(None, "t")
    parts = tuple(KeyPart(table.columns[name], Source(name), lambda texts: (texts, {})) for name in ("hash", "part"))
    lookup = Lookup("T", table, parts, (table.columns["n"], table.columns["hash"]))
    with closing(target.session()) as session:
        found = session.find(lookup, [[b"\x01", b"\x00\xff", b"\x00\xff"], ["1", "1", "2"]])  # type: ignore[list-item]
        assert found == ({0: (6, b"\x01"), 1: (5, b"\x00\xff")}, set())
        assert session.same(lookup, [[b"a", b"b", b"a", b"a"], ["1", "1", "01", "2"]]) == [0, 1, 0, 3]  # type: ignore[list-item]
    target.close()


def test_a_session_stops_when_its_run_was_taken_over(url: str) -> None:
    """The fence is checked when a transaction begins, and the lock is then let go."""
    target = open_target(url)
    target.create_ledger()
    old, new = target.take_over("r"), target.take_over("r")
    with closing(target.session()) as session:
        with pytest.raises(LeaseLost):
            session.begin("r", old)
        session.rollback()
        session.begin("r", new)
        session.add_ledger(ledger.LedgerEntry("r", 0, new, 0, 0, 0, 1))
        session.commit()
    assert [e.chunk for e in target.entries("r")] == [0]
    target.close()


def test_a_locked_database_ends_the_attempt(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else's lock is no record's fault: the run is tried again later (T38)."""
    monkeypatch.setattr("engine.locks.LOCK_SECONDS", 0.1)
    target = open_target(url)
    target.create_ledger()
    fence = target.take_over("r")
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as other, closing(target.session()) as session:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(TargetLocked, match="locked"):
            session.begin("r", fence)
    target.close()


def test_a_new_database_that_another_writes_to_is_waited_for(tmp_path: Path) -> None:
    """A target is opened although another connection writes before the database has its write-ahead log."""
    path = tmp_path / "new.db"
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.3, writer.rollback)
        release.start()
        with closing(connect(str(path))) as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        release.join()


def test_nearest_keys_are_found_in_small_and_large_tables(url: str) -> None:
    """The nearest key of a small table is sought among all, of a large one among its neighbours."""
    sql(url, "CREATE TABLE small (id INTEGER PRIMARY KEY, code TEXT UNIQUE); INSERT INTO small (code) VALUES ('apple'), ('banana');")
    sql(url, "CREATE TABLE large (id INTEGER PRIMARY KEY, code TEXT UNIQUE)")
    sql(
        url,
        "INSERT INTO large (code) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) SELECT 'code' || i FROM n",
    )
    found = {}
    for table, value in (("small", "aple"), ("large", "code1500x"), ("small", "zzzzzz")):
        identity = next(iter(plan_of(url, control(table, "code", "code")).entities.values())).identity
        assert identity is not None
        with closing(open_target(url).session()) as session:
            found[value] = session.nearest(identity, value)
    assert found == {"aple": "apple", "code1500x": "code1500", "zzzzzz": None}


NASTY = (
    "CREATE TABLE ref (id INTEGER PRIMARY KEY, code TEXT UNIQUE); INSERT INTO ref (code) VALUES ('r1'), ('r2');"
    "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, code TEXT COLLATE NOCASE UNIQUE, n INT CHECK (n < 8), seat INT UNIQUE,"
    " ref INT REFERENCES ref, d INT DEFAULT (3 + 4), e TEXT NOT NULL DEFAULT 'e');"
)


@pytest.mark.parametrize("seed", range(6))
def test_chunks_of_any_size_come_to_the_same(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random records, many of them refused or repeated: taken one by one and all at once they leave the same table and results."""
    monkeypatch.setattr(runs, "MANY_VALUES", 14)
    random_ = random.Random(seed)
    codes = ["a", "A", "b", "c", "d", "e", "f", "g", "h", "H"]
    choices = (codes, ["", *"0123456789"], ["", *"012345"], ["", *"123"], ["", "5"], ["", "x"])
    lines = [",".join(map(random_.choice, choices)) for _ in range(200)]
    came_of = []
    for size in (1, 7, 1000):
        url = f"sqlite:///{tmp_path / f'{seed}-{size}.db'}"
        sql(url, NASTY)
        done = []
        for action in ("Merge", "Update", "Insert", "Merge", "Delete"):
            rows = "code,n,seat,ref,d,e\n" + "\n".join(lines[:: 1 if action == "Merge" else 5]) + "\n"
            done.append(load(url, tmp_path / str(size), control("t", "code n seat ref d e", "code", action), rows, chunk_records=size).raw)
        came_of.append((done, sql(url, "SELECT * FROM t ORDER BY id"), sql(url, "SELECT * FROM sqlite_sequence")))
    assert came_of[0] == came_of[1] == came_of[2]


def statements_of(monkeypatch: pytest.MonkeyPatch, values: int) -> list[int]:
    """Have statements of many rows take this many values; return the number of rows of each one that is made from now on."""
    monkeypatch.setattr(runs, "MANY_VALUES", values)
    made: list[int] = []
    insert = queries.insert

    def counted(table: Any, columns: Any, returning: Any = (), rows: int = 1) -> str:
        made.append(rows)
        return insert(table, columns, returning, rows)

    monkeypatch.setattr(queries, "insert", counted)
    return made


def test_one_refused_row_among_many_of_a_statement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A statement of many rows that is refused leaves nothing: its rows are taken one by one, with the ids that each would have drawn."""
    url = f"sqlite:///{tmp_path / 'x.db'}"
    sql(url, "CREATE TABLE t (id INTEGER PRIMARY KEY, code TEXT UNIQUE, n INT CHECK (n <> 13));")
    made = statements_of(monkeypatch, 30)
    done = load(url, tmp_path, control("t", "code n", "code"), "code,n\n" + "".join(f"c{n},{n}\n" for n in range(1, 38)))
    assert made == [10, 1]  # the table's three columns, ten times; then single rows
    assert done.codes == ["RecordCreated"] * 12 + ["CheckViolated"] + ["RecordCreated"] * 24
    assert ids(done) == [str(n) for n in range(1, 13)] + [""] + [str(n) for n in range(13, 37)]
    assert sql(url, "SELECT id, n FROM t ORDER BY id") == [(n, n if n < 13 else n + 1) for n in range(1, 37)]


def test_rows_that_refer_to_each_other_are_inserted_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A statement of many rows would let a row refer to a later one of the same statement."""
    url = f"sqlite:///{tmp_path / 'x.db'}"
    sql(url, "CREATE TABLE node (code TEXT PRIMARY KEY, up TEXT REFERENCES node) WITHOUT ROWID;")
    made = statements_of(monkeypatch, 20)
    rows = "a,b\n" + "".join(f"{code},\n" for code in "bcdefghijklmnopqrstuvwxyz") + "A,B\n" + "B,b\n"
    done = load(url, tmp_path, control("node", "code up", "code"), f"code,up\n{rows}")
    assert made == [1]
    assert done.codes == ["ForeignKeyViolated"] + ["RecordCreated"] * 25 + ["ForeignKeyViolated", "RecordCreated"]


def test_a_statement_keeps_to_what_sqlite_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where SQLite takes fewer values a statement than we would give, it gets no more than it takes."""
    url = f"sqlite:///{tmp_path / 'x.db'}"
    sql(url, "CREATE TABLE t (id INTEGER PRIMARY KEY, code TEXT UNIQUE, n INT);")
    made = statements_of(monkeypatch, 10_000)

    def narrow(path: str) -> sqlite3.Connection:
        connection = connect(path)
        connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 60)
        return connection

    monkeypatch.setattr("engine.target.sqlite.connect.connect", narrow)
    done = load(url, tmp_path, control("t", "code n", "code"), "code,n\n" + "".join(f"c{n},{n}\n" for n in range(1, 101)))
    assert made == [20, 1] and done.codes == ["RecordCreated"] * 100
