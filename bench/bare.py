"""A measured command: the least that Python needs to get a CSV file into a SQLite table. `python -m bench.bare TARGET.db TABLE=FILE...`"""

from __future__ import annotations

import csv
import sqlite3
import sys
from pathlib import Path


def load(connection: sqlite3.Connection, table: str, path: Path) -> None:
    """Insert all rows of a file whose header names columns of the table."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        header = next(rows)
        connection.executemany(f"INSERT INTO {table} ({', '.join(header)}) VALUES ({', '.join('?' * len(header))})", rows)


def main(database: str, *tables: str) -> None:
    """Load files, given as TABLE=FILE, in one transaction, foreign keys off."""
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA foreign_keys = OFF")
    with connection:
        for words in tables:
            table, _, path = words.partition("=")
            load(connection, table, Path(path))
    connection.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
