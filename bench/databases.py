"""The databases to measure on: one filled template each, copied anew before every run."""

from __future__ import annotations

import csv
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from bench import data
from tests import postgresql

# Everything else is as PostgreSQL's makers ship it: fsync and full_page_writes on, synchronous_commit on, 128 MB of shared buffers.
SETTINGS = ["max_wal_size=4GB"]


@dataclass
class Postgres:
    """A PostgreSQL server of the bench's own, on a disk, with fsync on."""

    server: postgresql.Server
    version: str

    @classmethod
    @contextmanager
    def running(cls) -> Iterator[Postgres]:
        """Start it, Debian's if that is installed, and stop it at the end."""
        *_, programs = postgresql.versions().values()
        server = postgresql.Server.start(programs, SETTINGS)
        try:
            with psycopg.connect(server.url("postgres")) as connection:
                version = connection.info.parameter_status("server_version") or ""
            yield cls(server, version.partition(" ")[0])
        finally:
            server.stop()

    @property
    def psql(self) -> str:
        """Return the path of psql."""
        return str(self.server.programs / "psql")

    def url(self, database: str) -> str:
        """Return the URL of a database."""
        return self.server.url(database)

    def create(self, name: str, template: str = "template0") -> None:
        """Make a database, over an older one of this name, as a copy of another; all is written to the disk when this returns."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
            connection.execute("CHECKPOINT")

    def execute(self, name: str, statement: str) -> list[tuple]:
        """Run SQL in a database."""
        with psycopg.connect(self.url(name), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def copy(self, name: str, table: str, path: Path, columns: list[str] | None = None) -> None:
        """Fill a table from a CSV file with a header."""
        listed = f" ({', '.join(columns)})" if columns else ""
        with psycopg.connect(self.url(name), autocommit=True) as connection, path.open("rb") as file:
            with connection.cursor().copy(f"COPY {table}{listed} FROM STDIN (FORMAT csv, HEADER)") as copy:
                while piece := file.read(1 << 20):
                    copy.write(piece)
            connection.execute(f"VACUUM ANALYZE {table}")


def category_file(folder: Path) -> Path:
    """Return a CSV file of the categories."""
    path = folder / "category.csv"
    folder.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["code", "name"], *([code, f"Category {code}"] for code in data.CATEGORIES)])
    return path


def create_sqlite(path: Path, statements: str) -> None:
    """Make an SQLite file with tables."""
    remove_sqlite(path)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(statements)
    connection.close()


def remove_sqlite(path: Path) -> None:
    """Remove an SQLite file and what lies beside it."""
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        (path.parent / name).unlink(missing_ok=True)


def copy_sqlite(template: Path, path: Path) -> None:
    """Copy an SQLite file that nobody has open."""
    remove_sqlite(path)
    shutil.copyfile(template, path)
