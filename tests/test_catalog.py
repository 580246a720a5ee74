"""Keys, control files, files, markers and idempotency keys; and how the catalog is made and reached."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import BLANK_SCHEMA, Engine, inspect, select, text

import catalog
import clock
from catalog import batches, controls, files, idempotency, keys, markers, migrate, tables
from catalog.database import SCHEMA, UsedAfterFork, reading, writing
from catalog.idempotency import Conflict, Fresh, InFlight, Replay
from tests.catalog_parts import CONTROL, FILE, at_once, fresh, only


@pytest.fixture
def engine(target_url: str) -> Iterator[Engine]:
    """Give a fresh catalog on each database."""
    with fresh(target_url) as made:
        yield made


def later(monkeypatch: pytest.MonkeyPatch, **by: float) -> None:
    """Move the clock."""
    moved = clock.now() + timedelta(**by)
    monkeypatch.setattr(clock, "now", lambda: moved)


# Making and reaching it --------------------------------------------------------------------------------------------------
def test_migrations_make_the_tables_that_the_code_uses(target_url: str) -> None:
    """After all migrations the database has exactly the tables, columns and indexes of catalog/tables.py."""
    migrate.upgrade(target_url)
    engine = catalog.connect(target_url)
    is_postgresql = engine.dialect.name == "postgresql"
    with engine.connect() as connection:
        options = {"version_table": migrate.VERSION_TABLE, "version_table_schema": SCHEMA if is_postgresql else None}
        context = MigrationContext.configure(connection, opts={**options, "include_schemas": is_postgresql})
        wanted = tables.metadata
        if not is_postgresql:
            wanted = type(wanted)()
            for table in tables.metadata.tables.values():
                table.to_metadata(wanted, schema=None, referred_schema_fn=lambda *_: BLANK_SCHEMA)  # type: ignore[arg-type]
        assert compare_metadata(context, wanted) == []
    engine.dispose()


def test_upgrading_again_and_at_once_changes_nothing(target_url: str) -> None:
    """Four upgrades at the same instant make one catalog, and a later one keeps what is in it."""
    only(at_once(*[partial(migrate.upgrade, target_url)] * 4))
    engine = catalog.connect(target_url)
    keys.create(engine, "kept", ["read"])
    migrate.upgrade(target_url)
    assert [key.name for key in keys.all_keys(engine)] == ["kept"]
    engine.dispose()


def test_a_new_database_that_another_writes_to_is_waited_for(tmp_path: Path) -> None:
    """A catalog on SQLite is opened although another connection writes before the database has its write-ahead log."""
    path = tmp_path / "new.db"
    writer = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    writer.execute("BEGIN IMMEDIATE")
    engine = catalog.connect(f"sqlite:///{path}")
    release = threading.Timer(0.3, writer.rollback)
    release.start()
    try:
        with engine.connect() as connection:
            assert connection.scalar(text("PRAGMA journal_mode")) == "wal"
    finally:
        release.join()
        engine.dispose()
        writer.close()


def test_our_tables_lie_apart(target_url: str) -> None:
    """On PostgreSQL all our tables, the version's too, are in the schema `lading`, and no other schema is touched."""
    with fresh(target_url) as engine:
        if engine.dialect.name == "postgresql":
            assert inspect(engine).get_table_names() == []
        schema = SCHEMA if engine.dialect.name == "postgresql" else None
        assert {migrate.VERSION_TABLE, "batches", "lanes"} <= set(inspect(engine).get_table_names(schema=schema))


def test_a_failed_upgrade_leaves_nothing(target_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upgrade is done in full or not at all."""

    def fail(*_: object) -> None:
        raise RuntimeError("the power failed")

    with monkeypatch.context() as patched, pytest.raises(RuntimeError, match="power"):
        patched.setattr("alembic.runtime.migration.HeadMaintainer.update_to_step", fail)
        migrate.upgrade(target_url)
    engine = catalog.connect(target_url)
    assert inspect(engine).get_table_names() == []
    assert engine.dialect.name == "sqlite" or not inspect(engine).has_schema(SCHEMA)
    engine.dispose()
    migrate.upgrade(target_url)


def test_sqlite_is_reached_the_safe_way(target_url_sqlite: str) -> None:
    """Every connection to SQLite has WAL, full synchronisation, foreign keys and patience."""
    with fresh(target_url_sqlite) as engine, reading(engine) as connection:
        pragmas = [connection.scalar(text(f"PRAGMA {name}")) for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")]
    assert pragmas == ["wal", 2, 1, 10_000]


def test_reading_does_not_wait_for_a_writer(target_url_sqlite: str) -> None:
    """On SQLite a reader sees the last commit while a writer is at work."""
    with fresh(target_url_sqlite) as engine, writing(engine) as writer:
        writer.execute(text("DELETE FROM control_names"))
        began = time.monotonic()
        assert controls.get(engine, CONTROL) is not None
        assert time.monotonic() - began < 5


def test_read_then_write_loses_nothing(engine: Engine) -> None:
    """120 increments by 8 threads, each of which reads first and then writes, all count."""
    counter = tables.batches.c.fence
    batch_id = batches.create(engine, control=CONTROL, key_id="k")

    def increment() -> None:
        for _ in range(15):
            with writing(engine) as connection:
                value = connection.scalar(select(counter).where(tables.batches.c.id == batch_id).with_for_update()) or 0
                connection.execute(tables.batches.update().where(tables.batches.c.id == batch_id).values(fence=value + 1))

    only(at_once(*[increment] * 8))
    with reading(engine) as connection:
        assert connection.scalar(select(counter).where(tables.batches.c.id == batch_id)) == 120


def test_an_engine_is_of_one_process(engine: Engine) -> None:
    """An engine that was used before a fork raises after it, instead of sharing a connection; one made but not used is fine."""
    unused = catalog.connect(engine.url.render_as_string(hide_password=False))
    assert controls.get(engine, CONTROL) is not None
    child = os.fork()
    if child == 0:
        status = 1
        try:
            controls.get(engine, CONTROL)
        except UsedAfterFork:
            status = 0 if controls.get(unused, CONTROL) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert controls.get(engine, CONTROL) is not None
    unused.dispose()


def test_times_are_aware_utc(engine: Engine) -> None:
    """A time comes back as the same instant, aware, in UTC; a naive one is refused."""
    instant = datetime(2026, 11, 22, 1, 30, 0, 123456, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    keys.create(engine, "n", ["read"], expires_at=instant)
    found = keys.all_keys(engine)[0].expires_at
    assert found == instant
    assert found is not None
    assert found.utcoffset() == timedelta(0)
    with pytest.raises(Exception, match="without a zone"):
        keys.create(engine, "n", ["read"], expires_at=datetime(2026, 11, 22))


# Keys --------------------------------------------------------------------------------------------------------------------
def test_a_key_is_stored_as_a_digest(engine: Engine) -> None:
    """A key looks as documented, opens, and its secret stands nowhere in the catalog (T87)."""
    token = keys.create(engine, "nightly", ["read", "import", "import"], limits={"controls": ["a"]})
    prefix, key_id, secret = token.split("_", 2)
    assert (prefix, len(secret)) == ("lad", 43)
    key = keys.verify(engine, token)
    assert key is not None
    assert (key.id, key.name, key.permissions, key.control_names) == (key_id, "nightly", {"import", "read"}, {"a"})
    with reading(engine) as connection:
        assert secret not in str(connection.execute(select(tables.keys)).all())


def test_wrong_keys_look_alike(engine: Engine) -> None:
    """A malformed, unknown, mistaken, revoked or expired key is None, and nothing raises (T87)."""
    token = keys.create(engine, "n", ["read"])
    key_id = token.split("_")[1]
    expired = keys.create(engine, "n", ["read"], expires_at=clock.now())
    wrong = [
        "",
        "lad",
        "lad_",
        "lad__",
        token[:-1],
        token + "x",
        token.replace("lad_", "bad_"),
        f"lad_{key_id}_",
        "lad_0_x",
        "é_\0",
        expired,
    ]
    assert [keys.verify(engine, each) for each in wrong] == [None] * len(wrong)
    assert keys.verify(engine, token) is not None
    assert keys.revoke(engine, key_id)
    assert keys.verify(engine, token) is None
    assert not keys.revoke(engine, key_id)
    assert not keys.revoke(engine, "unknown")


def test_a_use_is_noted_once_a_minute(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last use of a key is written at most once a minute; a wrong secret leaves no trace."""
    token = keys.create(engine, "n", ["read"])

    def last_use() -> datetime | None:
        return keys.all_keys(engine)[0].last_used_at

    assert keys.verify(engine, token + "x") is None
    assert last_use() is None
    keys.verify(engine, token)
    first = last_use()
    later(monkeypatch, seconds=59)
    keys.verify(engine, token)
    assert last_use() == first
    later(monkeypatch, seconds=2)
    keys.verify(engine, token)
    assert last_use() == clock.now()


@pytest.mark.parametrize(
    ("held", "can", "cannot"),
    [
        ("import", {"import"}, {"read", "read:all", "admin"}),
        ("read:all", {"read", "read:all"}, {"import", "admin"}),
        ("admin", set(keys.PERMISSIONS), set()),
    ],
)
def test_permissions(held: str, can: set[str], cannot: set[str]) -> None:
    """`admin` may do everything, `read:all` includes `read`, and nothing else includes anything."""
    key = keys.Key("i", "n", frozenset({held}), {}, clock.now(), None, None, None)
    assert all(key.can(p) for p in can)
    assert not any(key.can(p) for p in cannot)


def test_permissions_must_be_known(engine: Engine) -> None:
    """A key with a permission that does not exist, or none, is not made."""
    for permissions in (["read", "write"], []):
        with pytest.raises(ValueError, match="allowed: import, read"):
            keys.create(engine, "n", permissions)
    assert keys.all_keys(engine) == []


# Control files and files -------------------------------------------------------------------------------------------------
def test_names_move_and_control_files_stay(engine: Engine) -> None:
    """A name points to the control file it was last given; the one it left can still be had by its digest."""
    first, second = "e" * 64, "f" * 64
    controls.add(engine, first, key_id="k", tables=[("s", "t"), (None, "u")], comment="one", name="nightly")
    controls.add(engine, second, key_id="k", tables=[], name="nightly")
    controls.add(engine, second, key_id="other", tables=[], comment="again", name="nightly")
    found, old = controls.resolve(engine, "nightly"), controls.resolve(engine, first)
    assert found is not None
    assert (found.digest, found.names, found.key_id, found.comment) == (second, ("nightly",), "k", "")
    assert old is not None
    assert (old.comment, old.tables, old.names) == ("one", (("s", "t"), (None, "u")), ())
    assert [(n.name, n.digest) for n in controls.names(engine)] == [("nightly", second)]
    assert controls.resolve(engine, "unknown") is None
    assert controls.get(engine, "nightly") is None


def test_keys_limited_to_named_control_files(engine: Engine) -> None:
    """A key limited to some names may use the control files they point to now, and no others."""
    controls.add(engine, CONTROL, key_id="k", tables=[], name="nightly")
    control = controls.get(engine, CONTROL)
    assert control is not None
    limits: list[dict[str, list[str]]] = [{}, {"controls": ["x", "nightly"]}, {"controls": ["x"]}, {"controls": []}]
    free, right, wrong, none = (keys.Key("i", "n", frozenset({"import"}), each, clock.now(), None, None, None) for each in limits)
    assert [controls.is_allowed(control, key) for key in (free, right, wrong, none)] == [True, True, False, False]


def test_files_of_other_keys_are_unknown(engine: Engine) -> None:
    """A key sees what it uploaded itself, its own names and its own batches; a key that may read all sees everything."""
    mine, other, all_seeing = (keys.verify(engine, keys.create(engine, p, [p])) for p in ("import", "read", "read:all"))
    assert mine
    assert other
    assert all_seeing
    digest = "9" * 64
    files.add(engine, digest, 7, key_id=mine.id, name="b.csv")
    files.add(engine, digest, 7, key_id=mine.id, name="b.csv")
    files.add(engine, digest, 7, key_id=mine.id, name="a.csv")
    assert files.find(engine, digest, other) is None
    files.add(engine, digest, 7, key_id=other.id)
    my_batch, its_batch = (batches.create(engine, control=CONTROL, key_id=key.id) for key in (mine, other))
    for batch_id in (my_batch, its_batch):
        batches.attach(engine, batch_id, "x", digest)
    seen = [files.find(engine, digest, key) for key in (mine, other, all_seeing)]
    assert [(f.size, f.names, f.batches) for f in seen if f] == [
        (7, ("a.csv", "b.csv"), (my_batch,)),
        (7, (), (its_batch,)),
        (7, ("a.csv", "b.csv"), (my_batch, its_batch)),
    ]
    assert files.find(engine, "8" * 64, all_seeing) is None


def test_one_file_uploaded_by_many_at_once(engine: Engine) -> None:
    """A hundred uploads of the same bytes at one instant make one file that each uploader knows."""
    digest = "7" * 64
    only(at_once(*[partial(files.add, engine, digest, 5, key_id=f"k{n % 10}", name="x") for n in range(100)]))
    with reading(engine) as connection:
        rows = connection.execute(select(tables.uploads.c.key_id).where(tables.uploads.c.digest == digest)).all()
    assert sorted(row.key_id for row in rows) == [f"k{n}" for n in range(10)]


def test_what_is_referred_to_is_kept(engine: Engine) -> None:
    """The database itself refuses to forget a file that a batch holds, on SQLite too."""
    batches.attach(engine, batches.create(engine, control=CONTROL, key_id="k"), "x", FILE)
    with pytest.raises(Exception, match=r"(?i)foreign key"), writing(engine) as connection:
        connection.execute(tables.uploads.delete())
        connection.execute(tables.files.delete().where(tables.files.c.digest == FILE))


def test_markers(engine: Engine) -> None:
    """The first marker of a part stays; whoever brings another one learns the first."""
    assert markers.marker(engine, "spool") is None
    answers = set(only(at_once(*[partial(markers.record_marker, engine, "spool", f"m{n}") for n in range(5)])))
    assert answers == {markers.marker(engine, "spool")}


# Idempotency keys --------------------------------------------------------------------------------------------------------
def begin(engine: Engine, idem_key: str = "i", fingerprint: str = "f", key_id: str = "k") -> Fresh | Replay | Conflict | InFlight:
    """Begin a request with an idempotency key."""
    return idempotency.begin(engine, key_id, idem_key, fingerprint)


def test_a_reply_is_given_again(engine: Engine) -> None:
    """The same request gets the first reply again, byte for byte; another request under the key is told apart."""
    first = begin(engine)
    assert isinstance(first, Fresh)
    assert begin(engine) == InFlight()
    assert begin(engine, fingerprint="other") == Conflict()
    assert idempotency.complete(engine, "k", "i", first.ticket, status=200, headers={"X": "1"}, body=b"\x00\xff")
    assert begin(engine) == Replay(200, {"X": "1"}, b"\x00\xff")
    assert begin(engine, fingerprint="other") == Conflict()
    assert isinstance(begin(engine, key_id="another"), Fresh)


def test_one_of_twenty_at_once_is_the_first(engine: Engine) -> None:
    """Of twenty equal requests at one instant exactly one is carried out (T03)."""
    for number in range(10):
        found = only(at_once(*[partial(begin, engine, f"i{number}")] * 20))
        assert sorted(type(each).__name__ for each in found) == ["Fresh"] + ["InFlight"] * 19


def test_a_refused_request_frees_its_key(engine: Engine) -> None:
    """After a refusal the mended request may come under the same key."""
    first = begin(engine)
    assert isinstance(first, Fresh)
    idempotency.abandon(engine, "k", "i", first.ticket)
    assert isinstance(begin(engine, fingerprint="mended"), Fresh)


def test_a_dead_request_is_given_up(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request in flight for a minute counts as dead: one retry takes its place, and the late reply of the first is not kept (T07)."""
    slow = begin(engine)
    assert isinstance(slow, Fresh)
    later(monkeypatch, seconds=59)
    assert begin(engine) == InFlight()
    later(monkeypatch, seconds=1)
    retries = only(at_once(*[partial(begin, engine)] * 5))
    taken = [each for each in retries if isinstance(each, Fresh)]
    assert len(taken) == 1
    assert not idempotency.complete(engine, "k", "i", slow.ticket, status=500, headers={}, body=b"late")
    idempotency.abandon(engine, "k", "i", slow.ticket)
    assert idempotency.complete(engine, "k", "i", taken[0].ticket, status=200, headers={}, body=b"right")
    assert begin(engine) == Replay(200, {}, b"right")


def test_replies_are_kept_for_a_day(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """After 24 hours a key may be used anew, and the sweep forgets it."""
    first = begin(engine)
    assert isinstance(first, Fresh)
    idempotency.complete(engine, "k", "i", first.ticket, status=200, headers={}, body=b"")
    later(monkeypatch, hours=23)
    assert isinstance(begin(engine), Replay)
    assert idempotency.forget_old(engine) == 0
    later(monkeypatch, hours=2)
    assert isinstance(begin(engine, fingerprint="new"), Fresh)
    later(monkeypatch, hours=25)
    assert idempotency.forget_old(engine) == 1
