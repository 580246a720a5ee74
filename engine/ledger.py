"""The head and the ledger: our two small tables in the target, which make every chunk count exactly once; the outbox is made with them.

A run's *head* holds its fence: the number that take_over raises, so that an older holder's chunks are refused from then on. The *ledger*
has a row for each committed chunk, written in the transaction of the chunk's own rows, so that one is there if and only if the other is.
All functions take a raw connection or cursor (psycopg or sqlite3, in autocommit mode) and its dialect.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Literal, Protocol

import clock
from engine.ledger_holder import end_process
from engine.locks import begin_writing, is_busy
from errors import LeaseLost, TargetLocked, TargetUnavailable

Dialect = Literal["postgresql", "sqlite"]

MAX_INLINE_BYTES = 64 * 1024  # a results segment up to this size may lie in the ledger itself
PATIENCE_SECONDS = 5  # how long a take-over waits for the old holder's transaction before it ends the holder
FORGET_SECONDS = 60
ATTEMPTS = 4

# Forward only: a new version appends a step, and no step is ever changed. {} is the prefix of our tables.
STEPS = {
    "postgresql": [
        """CREATE TABLE {}head (run text PRIMARY KEY, fence bigint NOT NULL, host text NOT NULL, pid integer NOT NULL,
            started text NOT NULL, taken_at timestamptz NOT NULL);
        CREATE TABLE {}ledger (run text NOT NULL, chunk integer NOT NULL, fence bigint NOT NULL, file integer NOT NULL,
            first_record bigint NOT NULL, positions integer NOT NULL, next_line bigint NOT NULL, resume text NOT NULL,
            created integer NOT NULL, updated integer NOT NULL, deleted integer NOT NULL, skipped integer NOT NULL, errors integer NOT NULL,
            unprocessed integer NOT NULL, records integer NOT NULL, segment_digest text NOT NULL, segment bytea,
            committed_at timestamptz NOT NULL,
            PRIMARY KEY (run, chunk))""",
        """CREATE TABLE {}events (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, run text NOT NULL, chunk integer NOT NULL,
            part integer NOT NULL, events integer NOT NULL, body text NOT NULL, created_at timestamptz NOT NULL,
            UNIQUE (run, chunk, part))""",
        # See engine.offers.
        """CREATE UNLOGGED TABLE {}offers (run text NOT NULL, fence bigint NOT NULL, chunk integer NOT NULL, file integer NOT NULL,
            first_record bigint NOT NULL, line bigint NOT NULL, resume text NOT NULL, positions integer NOT NULL, next_line bigint NOT NULL,
            PRIMARY KEY (run, fence, chunk));
        CREATE UNLOGGED TABLE {}hands (number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, run text NOT NULL, fence bigint NOT NULL,
            name text NOT NULL, backend integer NOT NULL, beats bigint NOT NULL)""",
    ],
    "sqlite": [
        """CREATE TABLE {}head (run TEXT PRIMARY KEY, fence INTEGER NOT NULL, host TEXT NOT NULL, pid INTEGER NOT NULL,
            started TEXT NOT NULL, taken_at TEXT NOT NULL) WITHOUT ROWID;
        CREATE TABLE {}ledger (run TEXT NOT NULL, chunk INTEGER NOT NULL, fence INTEGER NOT NULL, file INTEGER NOT NULL,
            first_record INTEGER NOT NULL, positions INTEGER NOT NULL, next_line INTEGER NOT NULL, resume TEXT NOT NULL,
            created INTEGER NOT NULL, updated INTEGER NOT NULL, deleted INTEGER NOT NULL, skipped INTEGER NOT NULL, errors INTEGER NOT NULL,
            unprocessed INTEGER NOT NULL, records INTEGER NOT NULL, segment_digest TEXT NOT NULL, segment BLOB,
            committed_at TEXT NOT NULL, PRIMARY KEY (run, chunk))""",
        """CREATE TABLE {}events (id INTEGER PRIMARY KEY, run TEXT NOT NULL, chunk INTEGER NOT NULL, part INTEGER NOT NULL,
            events INTEGER NOT NULL, body TEXT NOT NULL, created_at TEXT NOT NULL, UNIQUE (run, chunk, part))""",
    ],
}
PREFIX = {"postgresql": "lading.", "sqlite": "lading_"}


class Counted(Protocol):
    """What became of some records, in numbers."""

    created: int
    updated: int
    deleted: int
    skipped: int
    errors: int
    unprocessed: int
    records: int


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """What the ledger says of one committed chunk."""

    run: str  # "<batch id>-<number of the run>"
    chunk: int  # 0-based in the run
    fence: int  # of the holder that wrote it
    file: int  # 0-based, in the order in which the run takes its files
    first_record: int  # 0-based number, in its file, of the chunk's first position
    positions: int  # lines of the results
    next_line: int  # the physical line at which the next chunk begins
    resume: str = ""  # what a reader needs beyond that to go on, as JSON
    created: int = 0
    updated: int = 0
    deleted: int = 0
    skipped: int = 0
    errors: int = 0
    unprocessed: int = 0
    records: int = 0
    segment_digest: str = ""  # of the chunk's results
    segment: bytes | None = None  # the results themselves if they are small (MAX_INLINE_BYTES), else they lie in the spool
    committed_at: datetime | None = None  # set by add

    def replaced(self, counts: Counted, segment: bytes | None) -> LedgerEntry:
        """Return the entry with other counts and results, as after a rollback; without a segment, that lies in the spool."""
        numbers = {name: getattr(counts, name) for name in _COUNTS}
        return replace(self, **numbers, segment=segment, segment_digest=sha256(segment).hexdigest() if segment is not None else "")


_COUNTS = ("created", "updated", "deleted", "skipped", "errors", "unprocessed", "records")
_NAMES = [f.name for f in fields(LedgerEntry)]


def create(connection: Any, dialect: Dialect) -> None:
    """Make our tables, or bring them to this version; safe to repeat, and to call from several processes at once."""
    prefix = PREFIX[dialect]
    with _transaction(connection, dialect):
        if dialect == "postgresql":
            connection.execute("SELECT pg_advisory_xact_lock(hashtext('lading ledger'))")
            # Asked first, since even IF NOT EXISTS needs the right to make schemas, which our role lacks where an administrator made it.
            if connection.execute("SELECT to_regnamespace('lading')").fetchone()[0] is None:
                connection.execute("CREATE SCHEMA lading")
        connection.execute(f"CREATE TABLE IF NOT EXISTS {prefix}ledger_version (version integer NOT NULL)")
        row = connection.execute(f"SELECT version FROM {prefix}ledger_version").fetchone()
        if row is None:
            connection.execute(f"INSERT INTO {prefix}ledger_version VALUES (0)")
        version = row[0] if row else 0
        for step in STEPS[dialect][version:]:
            for statement in step.format(prefix, prefix).split(";"):
                connection.execute(statement)
        connection.execute(f"UPDATE {prefix}ledger_version SET version = {max(version, len(STEPS[dialect]))}")


def take_over(connection: Any, run: str, host: str, pid: int, started: str, dialect: Dialect) -> int:
    """Become the holder of a run, and return its fence, which is higher than every one before; committed on return.

    1 tells that nobody has held the run before, so that its ledger is empty. The commit does not wait for the disk: the first chunk's
    commit does that for both, and a crash of the database's host before then leaves a run that nobody has begun.
    A holder whose open transaction stands in the way is ended: its backends on PostgreSQL; on SQLite its process, if it is on this host and
    still the very process that took the run. A stopped process would keep its locks for ever. TargetUnavailable where nothing helps.
    """
    for attempt in range(ATTEMPTS):
        try:
            values = {"run": run, "host": host, "pid": pid, "started": started, "taken_at": _moment(clock.now(), dialect)}
            return int(_done_at_once(connection, dialect, _TAKE, values, PATIENCE_SECONDS)[0])
        except sqlite3.OperationalError as error:
            if not is_busy(error):
                raise TargetUnavailable(str(error)) from error
            if attempt == 0:
                _end_holder(connection, run, host)
        except Exception as error:
            if getattr(error, "sqlstate", None) != LOCK_NOT_AVAILABLE:
                raise
            connection.execute(_END_BACKENDS, (f"lading {run}/",))
    raise TargetLocked(f"run {run} cannot be taken over: another transaction keeps the target locked")


def check_fence(cursor: Any, run: str, fence: int, dialect: Dialect, before: str = "") -> None:
    """Begin a chunk's transaction: LeaseLost unless the run's fence is ours, which it then is until the transaction ends.

    On PostgreSQL the backend also names itself for the transaction, so that take_over can find and end it; there the statements `before`
    may go in the same message, if the cursor binds its values itself (psycopg's ClientCursor).
    """
    found = cursor.execute(before + _CHECK[dialect], {"run": run, "name": f"lading {run}/{fence}"})
    if before:
        found.set_result(-1)
    row = found.fetchone()
    if row is None or row[0] != fence:
        raise LeaseLost(f"run {run} was taken over: its fence is {row[0] if row else 'gone'}, ours {fence}")


def add(cursor: Any, entry: LedgerEntry, dialect: Dialect, after: str = "") -> None:
    """Write a chunk's row, in the transaction of its rows; unique by run and chunk. `after` it other statements, as in check_fence."""
    values = [getattr(entry, name) for name in _NAMES[:-1]]
    cursor.execute(_ADD[dialect] + after, [*values, _moment(clock.now(), dialect)])


def entries(connection: Any, run: str, dialect: Dialect, chunks: Collection[int] | None = None) -> list[LedgerEntry]:
    """Return the committed chunks of a run, or those among the given ones, in the order of their numbers."""
    mark = "%s" if dialect == "postgresql" else "?"
    some = "" if chunks is None else f" AND chunk IN ({', '.join(map(str, map(int, chunks)))})"
    sql = f"SELECT {', '.join(_NAMES)} FROM {PREFIX[dialect]}ledger WHERE run = {mark}{some} ORDER BY chunk"
    return [LedgerEntry(*[*row[:-1], _as_moment(row[-1])]) for row in connection.execute(sql, (run,)).fetchall()]


def runs(connection: Any, dialect: Dialect) -> list[str]:
    """Return the names of the runs that have a head: those under way, and those whose worker died before it forgot them."""
    return [str(row[0]) for row in connection.execute(f"SELECT run FROM {PREFIX[dialect]}head").fetchall()]


def forget(connection: Any, run: str, dialect: Dialect) -> None:
    """Drop a finished run's head and ledger; whoever still holds it has then lost it. A crash may bring them back, which harms nobody."""
    _done_at_once(connection, dialect, _FORGET, {"run": run}, FORGET_SECONDS)


_TAKE = {
    "postgresql": """INSERT INTO lading.head AS h (run, fence, host, pid, started, taken_at)
        VALUES (%(run)s, 1, %(host)s, %(pid)s, %(started)s, %(taken_at)s)
        ON CONFLICT (run) DO UPDATE SET fence = h.fence + 1, host = excluded.host, pid = excluded.pid, started = excluded.started,
            taken_at = excluded.taken_at RETURNING fence""",
    "sqlite": """INSERT INTO lading_head (run, fence, host, pid, started, taken_at) VALUES (:run, 1, :host, :pid, :started, :taken_at)
        ON CONFLICT (run) DO UPDATE SET fence = fence + 1, host = excluded.host, pid = excluded.pid, started = excluded.started,
            taken_at = excluded.taken_at RETURNING fence""",
}
_FORGET = {
    "postgresql": "DELETE FROM lading.ledger WHERE run = %(run)s; DELETE FROM lading.head WHERE run = %(run)s",
    "sqlite": "DELETE FROM lading_ledger WHERE run = :run; DELETE FROM lading_head WHERE run = :run",
}
_ADD = {
    dialect: f"INSERT INTO {PREFIX[dialect]}ledger ({', '.join(_NAMES)}) VALUES ({', '.join([mark] * len(_NAMES))})"
    for dialect, mark in (("postgresql", "%s"), ("sqlite", "?"))
}
_CHECK = {
    "postgresql": "SELECT fence, set_config('application_name', %(name)s, true) FROM lading.head WHERE run = %(run)s FOR SHARE",
    "sqlite": "SELECT fence FROM lading_head WHERE run = :run",
}
LOCK_NOT_AVAILABLE = "55P03"
_END_BACKENDS = """SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE starts_with(application_name, %s) AND datname = current_database() AND pid <> pg_backend_pid()"""


def _done_at_once(connection: Any, dialect: Dialect, statements: dict[str, str], values: dict[str, Any], lock_seconds: int) -> Any:
    """Do something in a transaction of its own that does not wait for the disk; return the first row of the last statement.

    On PostgreSQL all goes in one message: a small batch has nothing else to wait for.
    """
    if dialect == "sqlite":
        with _transaction(connection, dialect, lock_seconds, is_durable=False):
            return [connection.execute(statement, values).fetchone() for statement in statements[dialect].split(";")][-1]
    from psycopg import ClientCursor  # here, as it is loaded only where the target is PostgreSQL

    with ClientCursor(connection) as cursor:
        unsynced = f"SET LOCAL lock_timeout = '{lock_seconds}s'; SET LOCAL synchronous_commit = off; "
        cursor.execute((unsynced + statements[dialect]).encode(), values)
        cursor.set_result(-1)
        return cursor.fetchone() if cursor.description else None


@contextmanager
def _transaction(connection: Any, dialect: Dialect, lock_seconds: int = 60, is_durable: bool = True) -> Iterator[None]:
    """Run a transaction on a connection in autocommit mode; on SQLite it takes the write lock at once."""
    if dialect == "postgresql":
        with connection.transaction():
            connection.execute(f"SET LOCAL lock_timeout = '{lock_seconds}s'")
            yield
        return
    connection.execute(f"PRAGMA synchronous = {'FULL' if is_durable else 'NORMAL'}")
    try:
        begin_writing(connection, lock_seconds)
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    finally:
        connection.execute("PRAGMA synchronous = FULL")


def _end_holder(connection: sqlite3.Connection, run: str, host: str) -> None:
    row = connection.execute("SELECT host, pid, started FROM lading_head WHERE run = ?", (run,)).fetchone()
    if row is not None and row[0] == host:
        end_process(row[1], row[2])


def _moment(instant: datetime, dialect: Dialect) -> datetime | str:
    return instant if dialect == "postgresql" else instant.isoformat()


def _as_moment(stored: datetime | str) -> datetime:
    return (datetime.fromisoformat(stored) if isinstance(stored, str) else stored).astimezone(UTC)
