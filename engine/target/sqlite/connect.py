"""Open a SQLite database the one way that is safe for us."""

from __future__ import annotations

import sqlite3
import time

from engine import locks

WAL_PAUSE_SECONDS = 0.01
CACHE_KIB = 8 * 1024


def connect(path: str) -> sqlite3.Connection:
    """Open the database in autocommit mode: transactions begin and end by our own statements.

    WAL lets others read while we write. synchronous=FULL makes a commit survive a power failure, which NORMAL does not in WAL mode.
    Connections are used by one thread at a time, not always the one that opened them.
    """
    connection = sqlite3.connect(path, timeout=locks.LOCK_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=256)
    try:
        _switch_to_wal(connection)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        connection.execute("PRAGMA trusted_schema = OFF")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Have the database keep a write-ahead log; where another connection is in the way, try again until the busy time-out is over.

    SQLite's own waiting does not help: the switch turns a reader into a writer, which it refuses at once rather than risk a deadlock.
    """
    until = time.monotonic() + locks.LOCK_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").close()
            return
        except sqlite3.OperationalError as error:
            if not locks.is_busy(error) or time.monotonic() > until:
                raise
        time.sleep(WAL_PAUSE_SECONDS)
