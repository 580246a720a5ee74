"""The head and the ledger in the target, on real databases and with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest

import clock
from engine import ledger
from engine.ledger import LedgerEntry
from engine.ledger_holder import end_process, started, this_process
from engine.target import Target, open_target
from errors import LeaseLost, TargetUnavailable

ME = ("here", 1, "")
ENTRY = LedgerEntry("7-1", 0, 1, 0, 0, 3, 5, '{"group": 1}', 1, 0, 0, 1, 1, 0, 3, "ab" * 32, b"\x00segment")


@pytest.fixture
def target(target_url: str) -> Target:
    """Give a target that has our tables."""
    target = open_target(target_url)
    target.create_ledger()
    return target


@pytest.fixture
def connection(target: Target) -> Iterator[Any]:
    """Give a plain connection to it."""
    with closing(target.connect_raw()) as connection:
        yield connection


def take(connection: Any, target: Target, run: str = "7-1") -> int:
    """Take a run over."""
    return ledger.take_over(connection, run, *ME, target.dialect)


def begin(connection: Any, target: Target) -> None:
    """Begin a chunk's transaction as the sessions do."""
    connection.execute("BEGIN IMMEDIATE" if target.dialect == "sqlite" else "BEGIN")


def test_creating_is_idempotent_and_keeps_what_is_there(target: Target, connection: Any) -> None:
    """Creating again, from several processes' connections at once too, changes nothing."""
    take(connection, target)
    ledger.add(connection.cursor(), ENTRY, target.dialect)
    threads = [threading.Thread(target=target.create_ledger) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ledger.entries(connection, "7-1", target.dialect)) == 1
    prefix = ledger.PREFIX[target.dialect]
    assert connection.execute(f"SELECT version FROM {prefix}ledger_version").fetchall() == [(len(ledger.STEPS[target.dialect]),)]


def test_each_take_over_raises_the_fence_of_its_run_alone(target: Target, connection: Any) -> None:
    """Fences only grow, and runs do not share them."""
    assert [take(connection, target), take(connection, target), take(connection, target, "7-2"), take(connection, target)] == [1, 2, 1, 3]


def test_only_the_highest_fence_passes(target: Target, connection: Any) -> None:
    """An older holder's transaction stops at its beginning, and so does one whose run is forgotten (T22, T23)."""
    old, new = take(connection, target), take(connection, target)
    ledger.check_fence(connection.cursor(), "7-1", new, target.dialect)
    with pytest.raises(LeaseLost, match="taken over"):
        ledger.check_fence(connection.cursor(), "7-1", old, target.dialect)
    ledger.forget(connection, "7-1", target.dialect)
    with pytest.raises(LeaseLost):
        ledger.check_fence(connection.cursor(), "7-1", new, target.dialect)


def test_only_the_ledgers_own_steps_do_not_wait_for_the_disk(target: Target, connection: Any) -> None:
    """After a take-over and a forgetting, the connection's commits wait for the disk and for locks as before."""
    asked = (
        ["PRAGMA synchronous", "PRAGMA busy_timeout"] if target.dialect == "sqlite" else ["SHOW synchronous_commit", "SHOW lock_timeout"]
    )
    before = [connection.execute(what).fetchone() for what in asked]
    take(connection, target)
    ledger.forget(connection, "7-1", target.dialect)
    assert (
        [connection.execute(what).fetchone() for what in asked]
        == before
        == ([(2,), (60000,)] if before[0] == (2,) else [("on",), ("1min",)])
    )


def test_an_entry_reads_back_as_it_was_written(target: Target, connection: Any) -> None:
    """Every field survives, and the moment of the commit is added."""
    ledger.add(connection.cursor(), ENTRY, target.dialect)
    (found,) = ledger.entries(connection, "7-1", target.dialect)
    assert found.committed_at is not None
    assert clock.now() - found.committed_at < timedelta(minutes=1)
    assert LedgerEntry(**{n: getattr(found, n) for n in ledger._NAMES if n != "committed_at"}) == ENTRY
    assert isinstance(found.segment, bytes)


def test_a_chunk_counts_once(target: Target, connection: Any) -> None:
    """A second row for a run's chunk is refused by the database; entries come in the order of their chunks."""
    for chunk in (2, 0, 1):
        ledger.add(connection.cursor(), LedgerEntry("7-1", chunk, 1, 0, 0, 0, 1), target.dialect)
    with pytest.raises(Exception, match=r"(?i)unique"):
        ledger.add(connection.cursor(), LedgerEntry("7-1", 1, 2, 0, 0, 0, 1), target.dialect)
    assert [e.chunk for e in ledger.entries(connection, "7-1", target.dialect)] == [0, 1, 2]
    assert ledger.entries(connection, "7-2", target.dialect) == []


def test_an_entry_goes_with_its_transaction(target: Target, connection: Any) -> None:
    """Rolled back, a chunk leaves no entry."""
    fence = take(connection, target)
    begin(connection, target)
    ledger.check_fence(connection.cursor(), "7-1", fence, target.dialect)
    ledger.add(connection.cursor(), ENTRY, target.dialect)
    connection.execute("ROLLBACK")
    assert ledger.entries(connection, "7-1", target.dialect) == []


def test_a_take_over_waits_for_a_chunk_that_is_about_to_commit(target: Target, connection: Any) -> None:
    """What the old holder commits in time is in the ledger when the take-over returns."""
    fence = take(connection, target)
    begin(connection, target)
    ledger.check_fence(connection.cursor(), "7-1", fence, target.dialect)
    ledger.add(connection.cursor(), ENTRY, target.dialect)
    holder = threading.Timer(0.3, lambda: connection.execute("COMMIT"))
    holder.start()
    with closing(target.connect_raw()) as other:
        assert take(other, target) == fence + 1
        assert len(ledger.entries(other, "7-1", target.dialect)) == 1
    holder.join()


HOLDER = """
import sys, time
from engine import ledger
from engine.ledger_holder import this_process
from engine.target import open_target
target = open_target(sys.argv[1])
connection = target.connect_raw()
fence = ledger.take_over(connection, "7-1", *this_process(), target.dialect)
connection.execute("BEGIN IMMEDIATE" if target.dialect == "sqlite" else "BEGIN")
ledger.check_fence(connection.cursor(), "7-1", fence, target.dialect)
ledger.add(connection.cursor(), ledger.LedgerEntry("7-1", 0, fence, 0, 0, 0, 1), target.dialect)
print(fence, flush=True)
time.sleep(600)
"""


@pytest.fixture
def stopped_holder(target: Target) -> Iterator[subprocess.Popen[str]]:
    """Give a process that holds run 7-1 in the middle of a chunk, and is stopped, so that it keeps its locks."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, target.url], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "1\n"
    os.kill(process.pid, signal.SIGSTOP)
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_stopped_holder_is_ended(
    target: Target, connection: Any, stopped_holder: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A holder that keeps its locks for ever is ended by its backend or process, and its open chunk is undone."""
    monkeypatch.setattr(ledger, "PATIENCE_SECONDS", 1)
    fence = ledger.take_over(connection, "7-1", *this_process(), target.dialect)
    assert fence == 2
    assert ledger.entries(connection, "7-1", target.dialect) == []
    if target.dialect == "sqlite":
        assert stopped_holder.wait(5) == -signal.SIGKILL


def test_a_holder_on_another_host_is_not_killed(
    target_url_sqlite: str, stopped_elsewhere: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process id means nothing on another host: the take-over gives up in the end."""
    monkeypatch.setattr(ledger, "PATIENCE_SECONDS", 0)
    target = open_target(target_url_sqlite)
    with closing(target.connect_raw()) as connection, pytest.raises(TargetUnavailable, match="locked"):
        ledger.take_over(connection, "7-1", "elsewhere", 1, "", "sqlite")
    assert stopped_elsewhere.poll() is None


@pytest.fixture
def stopped_elsewhere(target_url_sqlite: str) -> Iterator[subprocess.Popen[str]]:
    """Give such a process for SQLite alone."""
    target = open_target(target_url_sqlite)
    target.create_ledger()
    process = subprocess.Popen([sys.executable, "-c", HOLDER, target.url], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    os.kill(process.pid, signal.SIGSTOP)
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_process_is_known_by_its_start() -> None:
    """Neither we ourselves nor a process with another start than recorded is ever killed."""
    process = subprocess.Popen(["sleep", "600"])
    try:
        assert not end_process(os.getpid(), started(os.getpid()))
        assert not end_process(process.pid, started(os.getpid()))
        assert not end_process(process.pid, "")
        assert process.poll() is None
        assert end_process(process.pid, started(process.pid))
        assert process.wait() == -signal.SIGKILL
    finally:
        process.kill()


def test_a_target_is_known_by_its_url() -> None:
    """A URL of no database that we know is refused, without showing its password."""
    with pytest.raises(ValueError, match="allowed: sqlite:///PATH") as refused:
        open_target("mysql://me:secret@host/db")
    assert "secret" not in str(refused.value)


def test_an_unreachable_target_says_so(tmp_path: Any) -> None:
    """A target that cannot be opened is TargetUnavailable, whatever the database's own exception."""
    for url in (f"sqlite:///{tmp_path}/no/such/folder/x.db", "postgresql://127.0.0.1:1/none?connect_timeout=2"):
        with pytest.raises(TargetUnavailable):
            open_target(url).connect_raw()
