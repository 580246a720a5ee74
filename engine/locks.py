"""How long the target's locks are waited for, and how SQLite's one write lock is taken."""

from __future__ import annotations

import sqlite3
import time

LOCK_SECONDS = 60.0  # how long a statement waits for a lock that another session holds, before the attempt ends
POLL_SECONDS = 0.002


def begin_writing(connection: sqlite3.Connection, patience_seconds: float | None = None) -> None:
    """Begin a transaction with SQLite's write lock; sqlite3.OperationalError where that is not free in time (default: LOCK_SECONDS).

    SQLite's own waiting looks every 0.1 s, and so would miss the moments between the chunks of a long import.
    """
    until = time.monotonic() + (LOCK_SECONDS if patience_seconds is None else patience_seconds)
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if not is_busy(error) or time.monotonic() > until:
                    raise
            time.sleep(POLL_SECONDS)
    finally:
        connection.execute(f"PRAGMA busy_timeout = {LOCK_SECONDS * 1000:.0f}")


def is_busy(error: sqlite3.Error) -> bool:
    """Tell whether somebody else's lock is in the way."""
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
