"""How the catalog is reached: one engine a process, short transactions, aware UTC times."""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, DateTime, Engine, Table, create_engine, event, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect, make_url
from sqlalchemy.types import TypeDecorator

import links
from errors import LadingError

SCHEMA = "lading"  # of our tables on PostgreSQL; on SQLite they have a file of their own
BUSY_SECONDS = 10
WAL_PAUSE_SECONDS = 0.01
IDLE_SECONDS = 15  # a transaction on PostgreSQL that has no next statement for so long is of a process that is stopped or cut off
_OPTIONS = {"preserve_rowcount": True}  # else an INSERT ... ON CONFLICT does not tell whether it did anything
_READING = {"lading_is_reading": True}
_QUEUE_LOCK = 0x1AD1_0001  # the advisory lock that stands for the queue; any number that is ours alone does


class UsedAfterFork(LadingError):
    """A catalog engine was used in a process that forked from the one that opened its connections; connect again after the fork."""


class UtcDateTime(TypeDecorator[datetime]):
    """An instant: aware UTC in, aware UTC out. SQLite, which has no such type, keeps the text of the UTC time."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn an aware time into what the database keeps; ValueError for a naive one."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time without a zone cannot be stored: {value}")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn what the database keeps into an aware UTC time."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def connect(url: str) -> Engine:
    """Return an engine for the catalog at `url` (`sqlite:///...` or `postgresql://...`).

    Nothing is opened before the first use. The process that opens the first connection is the only one that may use the engine: a
    connection shared across a fork would mix up two conversations, so that raises UsedAfterFork.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() in ("postgresql", "postgres"):
        engine = create_engine(
            parsed.set(drivername="postgresql+psycopg"),
            pool_pre_ping=True,
            execution_options=_OPTIONS,
            connect_args=links.options(parsed.query),
        )
        event.listen(engine, "connect", _prepare_postgresql)
    else:
        translate: dict[str, str | None] = {SCHEMA: None}
        engine = create_engine(
            parsed, connect_args={"timeout": BUSY_SECONDS}, execution_options={"schema_translate_map": translate} | _OPTIONS
        )
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    _guard_forks(engine)
    return engine


def _prepare_postgresql(connection: Any, _record: object) -> None:
    # The queue's lock, held by a machine that is no longer heard, would stop every claim.
    connection.execute(links.on_server(IDLE_SECONDS))
    connection.commit()


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # Python's own implicit BEGIN would be a deferred one; see _begin_sqlite.
    _switch_to_wal(connection)
    for pragma in ("synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Have the database keep a write-ahead log; of several that try this on a new database at once, all but one must try again.

    SQLite's own waiting does not help: the switch turns a reader into a writer, which it refuses at once rather than risk a deadlock.
    """
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL").close()
            return
        except sqlite3.OperationalError as error:
            if (error.sqlite_errorcode & 0xFF) != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
        time.sleep(WAL_PAUSE_SECONDS)


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and writes later can lose the race for the write lock half-way, where waiting no longer helps.
    is_reading = "lading_is_reading" in connection.get_execution_options()
    connection.exec_driver_sql("BEGIN" if is_reading else "BEGIN IMMEDIATE")


def _guard_forks(engine: Engine) -> None:
    opened_by: list[int] = []

    def remember(_connection: object, _record: object) -> None:
        if not opened_by:
            opened_by.append(os.getpid())

    def check(_connection: object, _record: object, _proxy: object) -> None:
        if opened_by[0] != os.getpid():
            raise UsedAfterFork(f"the catalog was opened by process {opened_by[0]} and is used by its fork {os.getpid()}")

    event.listen(engine, "connect", remember)
    event.listen(engine, "checkout", check)


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Open a transaction that writes: it commits at the end, or rolls back if an exception leaves it."""
    with engine.begin() as connection:
        yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Open a transaction that only reads, and never waits for a writer on SQLite."""
    with engine.connect().execution_options(**_READING) as connection:
        yield connection


def lock_queue(connection: Connection) -> None:
    """Keep every other claim out until this transaction ends.

    READ COMMITTED lets two claims see the same free lanes. SQLite needs nothing: its writers already take turns.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_QUEUE_LOCK)))


def insert(connection: Connection, table: Table) -> Any:
    """Return the dialect's own INSERT, which knows ON CONFLICT."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)
