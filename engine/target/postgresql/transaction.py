"""A connection to a PostgreSQL target: its transactions, and the temporary tables and functions that we make on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from engine import ledger, offers, outbox
from engine.faults import Fault
from engine.target.postgresql import refusals, rowloop
from engine.target.postgresql.copytext import encode
from errors import LeaseLost, TargetLocked, TargetUnavailable

# Texts mean the same whatever the server's own settings are; the engine's statements are too short for JIT to pay.
_SETTINGS = (
    "SET timezone = 'UTC'; SET datestyle = 'ISO, YMD'; SET intervalstyle = 'postgres'; SET bytea_output = 'hex'; "
    "SET extra_float_digits = 1; "
    "SET jit = off; SET client_min_messages = error; SET standard_conforming_strings = on; SET client_encoding = 'UTF8'"
)
_PLANNER = "SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; "
_BEGIN = f"BEGIN; {_PLANNER}"
BEGIN_READING = f"BEGIN READ ONLY; {_PLANNER}"


MOST_MADE = 200  # temporary tables and functions on one connection


class NotAsASet(Exception):
    """These ops must be taken one by one after all."""


class Transaction:
    """The part of a session that begins and ends transactions; one at a time."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        """`connection`: in autocommit mode; this session begins and ends transactions itself."""
        self._connection = connection
        # The statements' texts are made at run time, from reflected names: to the type checker that is not a literal.
        self._cursor: Any = connection.cursor()
        self._several: Any = psycopg.ClientCursor(connection)  # for several statements in one message
        self._cursor.execute(_SETTINGS)
        self._entry: ledger.LedgerEntry | None = None  # the ledger row that goes with the commit
        self._made: dict[str, str] = {}  # what our temporary tables and functions were made from -> their name
        self._new: list[str] = []  # those made in this transaction, gone if it is rolled back
        self._number = 0  # of the last one made
        self._used: set[str] = set()  # staging tables that hold rows in this transaction

    def begin(self, run: str, fence: int, is_strict_constraints: bool = True) -> None:
        """Begin, and check the fence; deferrable constraints are checked at once if strict."""
        constraints = "SET CONSTRAINTS ALL IMMEDIATE; " if is_strict_constraints else ""
        self._entry = None
        with self._unless_about_data():
            ledger.check_fence(self._several, run, fence, "postgresql", before=_BEGIN + constraints)

    def add_ledger(self, entry: ledger.LedgerEntry) -> None:
        """Write the chunk's ledger row, at the latest with the commit."""
        with self._unless_about_data():
            if self._entry is not None:
                ledger.add(self._cursor, self._entry, "postgresql")
            self._entry = entry

    def add_events(self, run: str, chunk: int, pages: Iterator[outbox.Page]) -> None:
        """Write the chunk's events."""
        with self._unless_about_data():
            outbox.add(self._cursor, run, chunk, pages, "postgresql")

    def join(self, run: str, name: str) -> tuple[int, int] | None:
        """See SharedSession.join."""
        with self._unless_about_data():
            return offers.join(self._cursor, run, name)

    def take(self, run: str, fence: int) -> offers.Offer | None:
        """See SharedSession.take."""
        with self._unless_about_data():
            return offers.take(self._cursor, run, fence)

    def settle(self) -> Fault | None:
        """Try the deferred constraints now."""
        try:
            with self._unless_about_data(passes_refusals=True):
                self._cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        except psycopg.Error as refused:
            return refusals.of_constraint(_refused(refused))
        return None

    def commit(self) -> None:
        """Commit. A connection lost meanwhile is TargetUnavailable: the ledger then knows what became of it."""
        with self._unless_about_data():
            if self._entry is None:
                self._cursor.execute("COMMIT")
            else:
                ledger.add(self._several, self._entry, "postgresql", after="; COMMIT")
        self._entry = None
        self._new.clear()
        self._used.clear()

    def rollback(self) -> None:
        """Undo, and forget what was made in this transaction."""
        if not self._connection.closed:
            with self._unless_about_data():
                self._cursor.execute("ROLLBACK")
        for made in self._new:
            self._made.pop(made, None)
        self._new.clear()
        self._used.clear()

    def is_idle(self) -> bool:
        """See Session.is_idle. Too many temporary tables are a reason to begin anew, too."""
        is_idle = not self._connection.closed and self._connection.info.transaction_status == TransactionStatus.IDLE
        return is_idle and self._number < MOST_MADE

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    @contextmanager
    def _unless_about_data(self, passes_refusals: bool = False) -> Iterator[None]:
        """Turn an error that is not about a record into TargetUnavailable."""
        try:
            yield
        except LeaseLost:
            raise
        except psycopg.Error as error:
            if passes_refusals and error.sqlstate and rowloop.is_about_data(error.sqlstate) and not self._connection.closed:
                raise
            kind = TargetLocked if error.sqlstate == ledger.LOCK_NOT_AVAILABLE else TargetUnavailable
            raise kind(f"PostgreSQL: {str(error).splitlines()[0] if str(error) else type(error).__name__}") from error

    @contextmanager
    def _savepoint(self) -> Iterator[None]:
        """Undo what is inside on a refusal, and pass that on; TargetUnavailable for anything else."""
        with self._unless_about_data(passes_refusals=True):
            self._cursor.execute("SAVEPOINT lading")
            made = len(self._new)
            try:
                yield
            except (psycopg.Error, NotAsASet):
                if not self._connection.closed:
                    self._cursor.execute("ROLLBACK TO SAVEPOINT lading")
                for gone in self._new[made:]:
                    self._made.pop(gone)
                del self._new[made:]
                raise
            self._cursor.execute("RELEASE SAVEPOINT lading")

    # Temporary tables and functions ----------------------------------------------------------------------------------
    def _copy_into(self, stage: str, columns: list[Sequence[Any]]) -> None:
        if stage in self._used:
            self._cursor.execute(f"TRUNCATE {stage}")
        self._used.add(stage)
        with self._cursor.copy(f"COPY {stage} FROM STDIN") as stream:
            stream.write(encode(columns))

    def _make(self, what: str, statement: Callable[[str], str]) -> str:
        """Make a temporary table or function once for each distinct definition; return its name."""
        definition = statement("pg_temp.x")
        if definition not in self._made:
            self._number += 1
            name = f"pg_temp.lading_{what}_{self._number}"
            self._cursor.execute(statement(name).replace("CREATE TEMP TABLE pg_temp.", "CREATE TEMP TABLE "))
            self._made[definition] = name
            self._new.append(definition)
        return self._made[definition]


def _refused(error: psycopg.Error) -> refusals.Refused:
    diag = error.diag
    return refusals.Refused(
        error.sqlstate or "",
        diag.message_primary or str(error),
        diag.constraint_name or "",
        diag.column_name or "",
        diag.message_detail or "",
    )
