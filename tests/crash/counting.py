"""Counts the calls that a process makes to SQL, to the spool's files or bucket, and to Redis, and kills the process at one of them.

Installed by tests.crash.driver in the process that carries a batch out; nothing of the product knows of it.
"""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

import psycopg
import redis.connection

from spool.bucket import Bucket

ROOT = str(Path(__file__).parent.parent.parent)
OURS = tuple(f"{ROOT}/{part}" for part in ("catalog", "engine", "jobs", "spool"))
FILE_CALLS = ("open", "fsync", "replace", "unlink", "write", "mkdir", "rmdir", "utime", "fchmod")


class Calls:
    """Counts; `kill_at` is the number of a call (from 1), or the site of one and which of its calls: it is never made."""

    def __init__(self, kill_at: int | tuple[str, int] | None, log: Path | None) -> None:
        self._kill_at, self._total, self._by_site, self._lock = kill_at, 0, Counter[str](), Lock()
        self._fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) if log else -1
        self._write = os.write

    def count(self, kind: str, what: str) -> None:
        """Count a call that is about to be made by our own code."""
        place = _place()
        if not place:
            return
        site = f"{kind} {place} {what}"
        with self._lock:
            self._total += 1
            self._by_site[site] += 1
            if self._fd >= 0:
                self._write(self._fd, f"{site}\n".encode())
            if self._kill_at in (self._total, (site, self._by_site[site])):
                os.kill(os.getpid(), signal.SIGKILL)


def _place() -> str:
    """Return the two innermost functions of ours that the call comes from; "" where none of ours is near."""
    frame, found = sys._getframe(2), ""
    for _ in range(40):
        code = frame.f_code
        if code.co_filename.startswith(OURS):
            name = f"{code.co_filename.removeprefix(ROOT)[1:].removesuffix('.py').replace('/', '.')}.{code.co_name}"
            if found:
                return f"{name} > {found}"
            found = name
        if frame.f_back is None:
            break
        frame = frame.f_back
    return found


def _words(statement: Any) -> str:
    """Return what a statement does: its first words that are not names."""
    return " ".join(re.findall(r"[A-Z]{2,}", str(statement))[:3])


def install(kill_at: int | tuple[str, int] | None, log: Path | None) -> None:
    """Count from now on in this process."""
    calls = Calls(kill_at, log)
    _watch_sqlite(calls)
    for owner, names in ((psycopg.Cursor, ("execute", "executemany", "copy")), (psycopg.Connection, ("commit", "rollback"))):
        for name in names:
            _watch(owner, name, lambda _, *args, name=name: calls.count("sql", f"{name} {_words(args[0]) if args else ''}"))
    for name in ("__enter__", "__exit__"):
        _watch(psycopg.Transaction, name, lambda *_, name=name: calls.count("sql", f"transaction{name}"))
    for name in ("write", "__exit__"):
        _watch(psycopg.Copy, name, lambda *_, name=name: calls.count("sql", f"copy.{name}"))
    _watch(redis.connection.Connection, "send_packed_command", lambda *_, **__: calls.count("redis", "send"))
    _watch(Bucket, "_do", lambda *_: calls.count("spool", "ask"))
    for name in FILE_CALLS:
        _watch_files(calls, name)


def _watch(owner: Any, name: str, count: Callable[..., None]) -> None:
    original = getattr(owner, name)

    def counted(*args: Any, **kwargs: Any) -> Any:
        count(*args)
        return original(*args, **kwargs)

    setattr(owner, name, counted)


def _watch_files(calls: Calls, name: str) -> None:
    original = getattr(os, name)

    def counted(*args: Any, **kwargs: Any) -> Any:
        if f"{ROOT}/spool" in _files():
            calls.count("spool", name)
        return original(*args, **kwargs)

    setattr(os, name, counted)


def _files() -> str:
    """Return where a call of the operating system comes from: the spool calls it itself, or through pathlib or shutil."""
    frame, found = sys._getframe(2), ""
    for _ in range(6):
        found += frame.f_code.co_filename + "\n"
        if frame.f_back is None:
            break
        frame = frame.f_back
    return found


def _watch_sqlite(calls: Calls) -> None:
    class Cursor(sqlite3.Cursor):
        def execute(self, statement: str, *args: Any) -> Any:
            calls.count("sql", f"execute {_words(statement)}")
            return super().execute(statement, *args)

        def executemany(self, statement: str, *args: Any) -> Any:
            calls.count("sql", f"executemany {_words(statement)}")
            return super().executemany(statement, *args)

    class Connection(sqlite3.Connection):
        def cursor(self, factory: Any = Cursor) -> Any:
            return super().cursor(factory)

        def execute(self, statement: str, *args: Any) -> Any:
            return self.cursor().execute(statement, *args)

        def executemany(self, statement: str, *args: Any) -> Any:
            return self.cursor().executemany(statement, *args)

        def commit(self) -> None:
            calls.count("sql", "commit")
            super().commit()

    connect = sqlite3.connect

    def counted(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        return connect(*args, **{"factory": Connection} | kwargs)

    sqlite3.connect = sqlite3.dbapi2.connect = counted  # type: ignore[assignment]
