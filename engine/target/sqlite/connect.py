"""Open a SQLite database the one way that is safe for us."""

from __future__ import annotations

import sqlite3

BUSY_SECONDS = 60
CACHE_KIB = 16 * 1024


def connect(path: str) -> sqlite3.Connection:
    """Open the database in autocommit mode: transactions begin and end by our own statements.

    WAL lets others read while we write. synchronous=FULL makes a commit survive a power failure, which NORMAL does not in WAL mode.
    Connections are used by one thread at a time, not always the one that opened them.
    """
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=256)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        connection.execute("PRAGMA trusted_schema = OFF")
    except sqlite3.Error:
        connection.close()
        raise
    return connection
