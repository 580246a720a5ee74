"""A prepared installation, brought back to what it was before every kill."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any, Protocol

import psycopg

from spool.bucket import Bucket

ATTEMPT_MS = 5000  # how long a backend that a dead worker left behind may take to end


class Copies(Protocol):
    """Where the installation that is prepared lies, and how its state is kept and brought back."""

    def urls(self) -> dict[str, str]:
        """Return the settings of target, catalog and spool; the same ones every time."""

    def keep(self) -> None:
        """Keep the present state: it is what `restore` brings back."""

    def restore(self) -> None:
        """Bring the kept state back, whatever was done since."""

    def close(self) -> None:
        """Remove everything."""


class SqliteCopies:
    """Everything is files: the folder is copied."""

    def __init__(self, folder: Path) -> None:
        self._kept, self._folder = folder / "kept", folder / "site"
        self._folder.mkdir(parents=True)

    def urls(self) -> dict[str, str]:
        """See Copies."""
        site = self._folder
        return {
            "TARGET_URL": f"sqlite:///{site / 'target.db'}",
            "CATALOG_URL": f"sqlite:///{site / 'catalog.db'}",
            "SPOOL_URL": f"file:{site / 'spool'}",
        }

    def keep(self) -> None:
        """See Copies."""
        shutil.copytree(self._folder, self._kept)

    def restore(self) -> None:
        """See Copies."""
        shutil.rmtree(self._folder)
        shutil.copytree(self._kept, self._folder)

    def close(self) -> None:
        """See Copies."""
        for folder in (self._kept, self._folder):
            shutil.rmtree(folder, ignore_errors=True)


class PostgresCopies:
    """The spool is copied; the tables, sequences included, are filled again, which takes a tenth of the time of a new database."""

    def __init__(self, folder: Path, server_url: str) -> None:
        """`server_url`: of PostgreSQL; one database is made there, and dropped in the end."""
        self._files = SqliteCopies(folder)
        self._server_url, self._name = server_url, f"crash{random.getrandbits(40):x}"
        self._url = f"{server_url.rpartition('/')[0]}/{self._name}"
        self._on_server("CREATE DATABASE {}")
        self._restore = ""
        self._connection: psycopg.Connection[Any] | None = None

    def _on_server(self, statement: str) -> None:
        with psycopg.connect(self._server_url, autocommit=True) as server:
            server.execute(statement.format(self._name).encode())

    def urls(self) -> dict[str, str]:
        """See Copies."""
        return self._files.urls() | {"TARGET_URL": self._url, "CATALOG_URL": self._url}

    def keep(self) -> None:
        """See Copies."""
        self._files.keep()
        self._connection = connection = psycopg.connect(self._url, autocommit=True)
        connection.execute("CREATE SCHEMA kept")
        tables = connection.execute(
            "SELECT format('%I.%I', schemaname, tablename), format('kept.%I', schemaname || '.' || tablename)"
            " FROM pg_tables WHERE schemaname IN ('public', 'lading')"
        ).fetchall()
        for table, kept in tables:
            connection.execute(f"CREATE TABLE {kept} AS TABLE {table}".encode())
        sequences = connection.execute(
            "SELECT format('SELECT setval(%L, %s, %L)', format('%I.%I', schemaname, sequencename), coalesce(last_value, start_value),"
            " last_value IS NOT NULL) FROM pg_sequences WHERE schemaname IN ('public', 'lading')"
        ).fetchall()
        empty = [f"DELETE FROM {table}" for table, _ in tables]
        fill = [f"INSERT INTO {table} OVERRIDING SYSTEM VALUE TABLE {kept}" for table, kept in tables]
        # Without this the order in which tables are emptied and filled would have to follow their foreign keys.
        start = ["SET session_replication_role = replica", "BEGIN"]
        self._restore = "; ".join([*start, *empty, *fill, *(row[0] for row in sequences), "COMMIT"])

    def restore(self) -> None:
        """See Copies. Backends that the dead workers left behind are ended first: they may hold locks still."""
        assert self._connection is not None
        self._connection.execute(
            "SELECT pg_terminate_backend(pid, %s) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
            [ATTEMPT_MS],
        )
        self._connection.execute(self._restore.encode())
        self._files.restore()

    def close(self) -> None:
        """See Copies."""
        if self._connection is not None:
            self._connection.close()
        self._on_server("DROP DATABASE {} WITH (FORCE)")
        self._files.close()


class BucketCopies:
    """The spool is a prefix of a bucket, whose objects are kept here; the rest is as with the other copies."""

    def __init__(self, others: Copies, folder: Path) -> None:
        """`folder`: its `local` becomes what the workers' machine keeps of the bucket, which is nothing."""
        self._others, self._url = others, f"s3://lading/crash{random.getrandbits(40):x}"
        self._bucket, self._local = Bucket(self._url), folder / "local"
        self._objects: dict[str, bytes] = {}

    def urls(self) -> dict[str, str]:
        """See Copies."""
        return self._others.urls() | {"SPOOL_URL": self._url, "SPOOL_CACHE": str(self._local), "SPOOL_CACHE_BYTES": "1"}

    def keep(self) -> None:
        """See Copies."""
        self._others.keep()
        self._objects = {meta.key: self._bucket.get(meta.key) or b"" for meta in self._bucket.below("")}

    def restore(self) -> None:
        """See Copies."""
        self._others.restore()
        self._bucket.delete([meta.key for meta in self._bucket.below("") if meta.key not in self._objects])
        for key, data in self._objects.items():
            self._bucket.put(key, data)

    def close(self) -> None:
        """See Copies."""
        self._others.close()
        self._bucket.delete([meta.key for meta in self._bucket.below("")])
