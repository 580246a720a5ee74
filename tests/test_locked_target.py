"""A target that another session keeps locked: it is waited for, but not without limit, and the status says what is in the way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from catalog.batches import State
from engine.target import open_target
from errors import TargetLocked
from jobs.run_batch import Drain
from tests.jobs_parts import Site, rows


@pytest.fixture
def site(target_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Give an installation that waits for locks a moment only, and tries twice."""
    for name, value in (
        ("engine.locks.LOCK_SECONDS", 0.3),
        ("engine.ledger.PATIENCE_SECONDS", 0.1),
        ("jobs.carry.PAUSES_SECONDS", (0.01,)),
    ):
        monkeypatch.setattr(name, value)
    urls = {"TARGET_URL": target_url, "CATALOG_URL": f"sqlite:///{tmp_path / 'catalog.db'}", "SPOOL_URL": f"file:{tmp_path / 'spool'}"}
    made = Site(tmp_path, urls | {"REDIS_URL": redis_url, "RUN_ATTEMPTS": "2"})
    yield made
    made.close()


@pytest.fixture
def other(site: Site) -> Iterator[Any]:
    """Give another session, which has the table locked and something written that it does not commit."""
    target = open_target(site.settings.target_url)
    with closing(target.connect_raw()) as connection:
        connection.execute("BEGIN IMMEDIATE" if target.dialect == "sqlite" else "BEGIN")
        if target.dialect == "postgresql":
            connection.execute("LOCK TABLE things IN EXCLUSIVE MODE")
        connection.execute("INSERT INTO things (code, size) VALUES ('theirs', 1)")
        yield connection
    target.close()


def test_a_locked_target_hands_the_batch_back(site: Site, other: Any) -> None:
    """The batch waits in the queue again, says why, and ends whole once the lock is let go (T38)."""
    batch_id = site.batch(rows(10))
    with Drain(site.settings, "a test", os.getppid()) as drain:
        with pytest.raises(TargetLocked):
            drain._next()
        waiting = site.get(batch_id)
        assert (waiting.state, waiting.status_msg) == (
            State.SCHEDULED,
            "another session keeps the target locked; the run is tried again",
        )
        other.execute("ROLLBACK")
        assert drain._next()
    done = site.get(batch_id)
    assert (done.state, done.counts.created, done.status_msg) == (State.COMPLETED, 10, "")
    assert site.execute("SELECT count(*) FROM things") == [(10,)]


def test_a_target_that_stays_locked_fails_the_batch(site: Site, other: Any) -> None:
    """After the last attempt the run fails and says why; no row of it is there (T38)."""
    batch_id = site.batch(rows(10))
    with Drain(site.settings, "a test", os.getppid()) as drain:
        with pytest.raises(TargetLocked):
            drain._next()
        assert drain._next()
    over = site.get(batch_id)
    assert (over.state, over.code) == (State.FAILED, "target_unavailable")
    assert over.status_msg.startswith("another session keeps the target locked")
    other.execute("ROLLBACK")
    assert site.execute("SELECT count(*) FROM things") == [(0,)]


def test_the_status_of_a_running_batch_says_what_is_in_the_way(site: Site, other: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two attempts the next heartbeat tells of the lock; nothing is told any more once the run goes on (T38)."""
    batch_id = site.batch(rows(10))
    told = []

    def heartbeat_and_release(carrier: Any, _seconds: float) -> None:
        carrier._lease.renew()
        told.append((site.get(batch_id).state, site.get(batch_id).status_msg))
        other.execute("ROLLBACK")

    monkeypatch.setattr("jobs.carry._Carrier._pause", heartbeat_and_release)
    with Drain(site.settings, "a test", os.getppid()) as drain:
        assert drain._next()
    assert told == [(State.RUNNING, "another session keeps the target locked; the run is tried again")]
    assert (site.get(batch_id).state, site.get(batch_id).status_msg) == (State.COMPLETED, "")
