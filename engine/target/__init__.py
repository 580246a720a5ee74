"""The target: the user's database. Connections are opened when first needed, and never cross a fork."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import links
from engine import ledger, locks, outbox
from engine.ledger import Dialect, LedgerEntry
from engine.ledger_holder import this_process
from engine.outbox import StoredPage
from engine.tables import Column, Table, Tables, quote
from errors import TargetUnavailable

if TYPE_CHECKING:
    import psycopg

    from engine.ops import Session, SharedSession

P = ParamSpec("P")
T = TypeVar("T")

MOST_IDLE = 2  # sessions that are kept for the next run


class Target:
    """One database, by its URL: `sqlite:///relative.db`, `sqlite:////absolute.db` or `postgresql://...`."""

    dialect: Dialect
    can_share_writing: bool  # several sessions may write at once
    errors: tuple[type[Exception], ...]  # what its driver raises, from its first connection on

    def __init__(self, url: str) -> None:
        self.url = url
        self._lock = threading.RLock()
        self._kept: Any = None  # the connection that reflects
        self._tables: Any = None
        self._idle: list[Session] = []  # given back, for the next run
        self._pid = os.getpid()

    def tables(self) -> Tables:
        """Return the target's tables as they are now; what was reflected earlier and has not changed since is kept."""
        with self._lock:
            self._leave_to_parent()
            known = self._tables
            if known is None:
                known = self._tables = self._reflector()
                return known
        # Without our lock: the tables have one of their own, under which they ask us for the connection.
        known.refresh()
        return known

    def session(self) -> Session:
        """Lend a session, a connection of its own: one that was given back, or a new one. Its user gives it back, or closes it."""
        with self._lock:
            self._leave_to_parent()
            session = self._idle.pop() if self._idle else None
        if session is None:
            return self._open_session()
        session.renew()
        return session

    def give_back(self, session: Session) -> None:
        """Keep a session for the next run, which then need not connect; one that is in a transaction or broken is closed."""
        with self._lock:
            if len(self._idle) < MOST_IDLE and session.is_idle():
                self._idle.append(session)
                return
        session.close()

    def _open_session(self) -> Session:
        raise NotImplementedError

    def connect_raw(self) -> Any:
        """Open a plain database connection in autocommit mode, as the ledger's functions want it; TargetUnavailable if that fails."""
        raise NotImplementedError

    def create_ledger(self) -> None:
        """Make our tables in the target, or bring them to this version."""
        connection = self.connect_raw()
        try:
            ledger.create(connection, self.dialect)
        finally:
            connection.close()

    def take_over(self, run: str) -> int:
        """Become the holder of a run; return its fence. See engine.ledger.take_over."""
        with self._ours() as connection:
            return ledger.take_over(connection, run, *this_process(), self.dialect)

    def entries(self, run: str, chunks: Collection[int] | None = None) -> list[LedgerEntry]:
        """Return the committed chunks of a run, or those among the given ones."""
        with self._ours() as connection:
            return ledger.entries(connection, run, self.dialect, chunks)

    def shared_session(self) -> SharedSession:
        """Lend a session as `session` does, where the target `can_share_writing`."""
        raise NotImplementedError

    def ask(self, question: Callable[Concatenate[Any, P], T], *args: P.args, **options: P.kwargs) -> T:
        """Ask the kept connection one of the questions of engine.offers, where the target `can_share_writing`."""
        with self._ours() as connection:
            return question(connection, *args, **options)

    def runs(self) -> list[str]:
        """Return the names of the runs that have a head here."""
        with self._ours() as connection:
            return ledger.runs(connection, self.dialect)

    def forget(self, run: str) -> None:
        """Drop a finished run's head and ledger."""
        with self._ours() as connection:
            ledger.forget(connection, run, self.dialect)

    def events_waiting(self) -> int:
        """Return how many events wait in the outbox."""
        with self._ours() as connection:
            return outbox.size(connection, self.dialect)

    def oldest_events(self, most: int) -> list[StoredPage]:
        """Return pages of the outbox, in the order of their writing."""
        with self._ours() as connection:
            return outbox.oldest(connection, most, self.dialect)

    def drop_events(self, ids: Sequence[int]) -> None:
        """Forget pages of the outbox; durable on return."""
        with self._ours() as connection:
            outbox.drop(connection, ids, self.dialect)

    def values_of(self, table: Table, column: Column, most: int) -> list[str]:
        """Return the values of a column as text, sorted, where no more than `most` rows have one; else []."""
        query = f"SELECT {quote(column.name)} FROM {table.quoted} WHERE {quote(column.name)} IS NOT NULL LIMIT {most + 1}"
        with self._lock:
            rows = self._keep().execute(query).fetchall()
        return sorted({str(row[0]) for row in rows}) if len(rows) <= most else []

    @contextmanager
    def _ours(self) -> Iterator[Any]:
        """Give the kept connection to one user; TargetUnavailable where it fails."""
        with self._lock:
            connection = self._keep()
            try:
                yield connection
            except self.errors as error:
                raise TargetUnavailable(f"the ledger cannot be reached: {str(error).strip()}") from error

    def close(self) -> None:
        """Close the connection that is kept for reflection."""
        with self._lock:
            self._leave_to_parent()
            if self._kept is not None:
                self._kept.close()
            self._kept = self._tables = None
            while self._idle:
                self._idle.pop().close()

    def _reflector(self) -> Any:
        raise NotImplementedError

    def _is_usable(self, connection: Any) -> bool:
        raise NotImplementedError

    def _keep(self) -> Any:
        """Return the connection kept for reflection, opened anew where the old one is lost or the parent's."""
        with self._lock:
            self._leave_to_parent()
            if self._kept is None or not self._is_usable(self._kept):
                self._kept = self.connect_raw()
            return self._kept

    def _leave_to_parent(self) -> None:
        """Forget, in a forked process, the parent's connection: closing it here would end it there."""
        if self._pid != os.getpid():
            _PARENTS.extend([self._kept, *self._idle])
            self._kept, self._tables, self._idle, self._pid = None, None, [], os.getpid()


_PARENTS: list[Any] = []  # connections of a parent process, kept from being collected (which would close them)


class _Postgres(Target):
    dialect = "postgresql"
    can_share_writing = True

    @property
    def errors(self) -> tuple[type[Exception], ...]:  # type: ignore[override]
        import psycopg  # only where it is needed: it takes 9 MiB

        return (psycopg.Error,)

    def _open_session(self) -> Session:
        from engine.target.postgresql.session import PostgresSession

        return PostgresSession(self.connect_raw())

    def shared_session(self) -> SharedSession:
        from engine.target.postgresql.session import PostgresSession

        session = self.session()
        assert isinstance(session, PostgresSession)  # noqa: S101  no others are opened here
        return session

    def connect_raw(self) -> psycopg.Connection[Any]:
        import psycopg

        try:
            given = psycopg.conninfo.conninfo_to_dict(self.url)
            connection = psycopg.connect(self.url, autocommit=True, **links.options(given))
            connection.execute(f"SET lock_timeout = {locks.LOCK_SECONDS * 1000:.0f}; {links.on_server()}".encode())
            return connection
        except psycopg.OperationalError as error:
            raise TargetUnavailable(f"PostgreSQL: {str(error).strip()}") from error

    def _reflector(self) -> Tables:
        from engine.target.postgresql.reflect import PostgresTables

        return PostgresTables(self._keep)

    def _is_usable(self, connection: Any) -> bool:
        return not connection.closed


class _Sqlite(Target):
    dialect = "sqlite"
    can_share_writing = False
    errors = (sqlite3.Error,)

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.path = url.removeprefix("sqlite:///")

    def _open_session(self) -> Session:
        from engine.target.sqlite.session import SqliteSession

        return SqliteSession(self.connect_raw())

    def connect_raw(self) -> sqlite3.Connection:
        from engine.target.sqlite.connect import connect

        try:
            return connect(self.path)
        except sqlite3.Error as error:
            raise TargetUnavailable(f"SQLite: {self.path}: {error}") from error

    def _reflector(self) -> Tables:
        from engine.target.sqlite.reflect import SqliteTables

        return SqliteTables(self._keep)

    def _is_usable(self, connection: Any) -> bool:
        return True


def open_target(url: str) -> Target:
    """Return the target at this URL; nothing is opened yet. ValueError for a URL of no database that we know."""
    if url.startswith("sqlite:///") and len(url) > len("sqlite:///"):
        return _Sqlite(url)
    if url.startswith(("postgresql://", "postgres://")):
        return _Postgres(url)
    raise ValueError(f"not the URL of a target: {url.partition('://')[0]}://... (allowed: sqlite:///PATH, postgresql://...)")
