"""The sweep, the lease and the turns, on catalogs in SQLite and PostgreSQL and a real Valkey."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

import catalog as catalogs
import clock
from catalog import batches, migrate, turns
from catalog.batches import Beat, Counts, Options, State
from dev.servers import free_port
from errors import LeaseLost
from jobs import queues
from jobs.lease import Heart
from jobs.sweep import Sweep
from settings import Settings
from spool import Spool, open_spool
from tests.jobs_parts import scheduled


@pytest.fixture
def catalog(target_url: str) -> Iterator[Engine]:
    """Give an empty catalog, in SQLite and in PostgreSQL."""
    migrate.upgrade(target_url)
    engine = catalogs.connect(target_url)
    yield engine
    engine.dispose()


@pytest.fixture
def spool(spool_dir: Path) -> Spool:
    """Give an empty spool."""
    return open_spool(f"file:{spool_dir}")


def make_sweep(catalog: Engine, spool: Spool, redis_url: str, worker: str = "w1", sweep_seconds: float = 10) -> Sweep:
    """Make a sweep beside a worker of this name, on a target that is not there."""
    settings = Settings.from_environment({"TARGET_URL": "sqlite:////nowhere/target.db", "SWEEP_SECONDS": str(sweep_seconds)})
    return Sweep(catalog, spool, queues.connect(redis_url), worker, settings)


def test_a_lost_hint_is_sent_again(catalog: Engine, spool: Spool, redis_url: str) -> None:
    """A batch that the catalog holds and Redis does not is announced by the next sweep."""
    batch_id = scheduled(catalog)
    make_sweep(catalog, spool, redis_url).sweep()
    assert queues.hints(queues.connect(redis_url)) == [str(batch_id)]


def test_a_batch_whose_time_has_not_come_is_not_announced(catalog: Engine, spool: Spool, redis_url: str) -> None:
    """`at` holds a batch back until then."""
    scheduled(catalog, options=Options(start_at=clock.now() + timedelta(hours=1)))
    make_sweep(catalog, spool, redis_url).sweep()
    assert queues.hints(queues.connect(redis_url)) == []


def test_a_lease_ends_though_the_clock_was_set_back(catalog: Engine, spool: Spool, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock goes back by an hour as a worker and the sweep whose turn it was die: the batch waits for neither hour (T26, T31)."""
    dead, alive = scheduled(catalog), scheduled(catalog)
    claims = [batches.claim(catalog, "w1", 1), batches.claim(catalog, "w2", 1)]
    assert [claim and claim.batch_id for claim in claims] == [dead, alive] and claims[1] is not None
    assert turns.take(catalog, "sweep", "w1", 30)
    real = clock.now
    monkeypatch.setattr(clock, "now", lambda: real() - timedelta(hours=1))
    sweep = make_sweep(catalog, spool, redis_url, "w2")
    sweep.settings = replace(sweep.settings, lease_seconds=1.0)
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        sweep.sweep()
        assert batches.heartbeat(catalog, alive, claims[1].fence, 1) is Beat.OK
        time.sleep(0.2)
    states = [found.state for batch_id in (dead, alive) if (found := batches.get(catalog, batch_id))]
    assert states == [State.SCHEDULED, State.RUNNING]


def test_a_lease_that_ran_out_is_taken_back(catalog: Engine, spool: Spool, redis_url: str) -> None:
    """The batch of a worker that died waits again, is announced, and its next claim has a higher fence (T26)."""
    batch_id = scheduled(catalog)
    first = batches.claim(catalog, "w1", 0.05)
    assert first is not None
    time.sleep(0.1)
    make_sweep(catalog, spool, redis_url).sweep()
    assert queues.hints(queues.connect(redis_url)) == [str(batch_id)]
    second = batches.claim(catalog, "w2", 30)
    assert second is not None
    assert (second.batch_id, second.fence > first.fence) == (batch_id, True)


def test_without_redis_the_sweep_still_takes_leases_back(catalog: Engine, spool: Spool) -> None:
    """An outage of Redis is logged and nothing more."""
    batch_id = scheduled(catalog)
    batches.claim(catalog, "w1", 0.05)
    time.sleep(0.1)
    make_sweep(catalog, spool, f"redis://127.0.0.1:{free_port()}/0").sweep()
    assert batches.waiting(catalog) == [batch_id]


def test_the_sweep_outlives_an_outage_of_the_catalog(tmp_path: Path, spool: Spool, redis_url: str) -> None:
    """A catalog that is not there yet does not end the sweep; once it is there, the sweep does its work."""
    url = f"sqlite:///{tmp_path / 'late.db'}"
    is_over = threading.Event()
    engine = catalogs.connect(url)
    sweep = make_sweep(engine, spool, redis_url, sweep_seconds=0.1)
    thread = threading.Thread(target=sweep.run, args=(is_over, os.getppid()))
    thread.start()
    time.sleep(0.3)
    migrate.upgrade(url)
    batch_id = scheduled(engine)
    deadline = time.monotonic() + 5
    while not queues.hints(sweep.redis) and time.monotonic() < deadline:
        time.sleep(0.05)
    is_over.set()
    thread.join()
    assert queues.hints(sweep.redis) == [str(batch_id)]
    engine.dispose()


def test_one_sweep_at_a_time(catalog: Engine, spool: Spool, redis_url: str) -> None:
    """A second sweep leaves the work to the first while that one lives."""
    make_sweep(catalog, spool, redis_url, "w1").sweep()
    scheduled(catalog)
    second = make_sweep(catalog, spool, redis_url, "w2")
    second.sweep()
    assert queues.hints(second.redis) == []
    turns.give_up(catalog, "sweep", "w1")
    second.sweep()
    assert len(queues.hints(second.redis)) == 1


def test_a_turn_passes_on_when_its_holder_is_silent(catalog: Engine) -> None:
    """The holder keeps its turn by taking it again; another gets it only after it has run out."""
    assert turns.take(catalog, "sweep", "w1", 30)
    assert turns.take(catalog, "sweep", "w1", 30)
    assert not turns.take(catalog, "sweep", "w2", 30)
    assert turns.take(catalog, "other", "w2", 30)
    time.sleep(0.05)
    assert turns.take(catalog, "sweep", "w2", 0.01)
    assert not turns.take(catalog, "sweep", "w1", 30)


def test_a_sweep_says_that_its_worker_lives(catalog: Engine, spool: Spool, redis_url: str) -> None:
    """The sign of life carries the marker of the spool, and goes when the sweep ends in order."""
    sweep, is_over = make_sweep(catalog, spool, redis_url, sweep_seconds=0.05), threading.Event()
    thread = threading.Thread(target=sweep.run, args=(is_over, os.getppid()))
    thread.start()
    deadline = time.monotonic() + 5
    while not queues.alive(sweep.redis) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert queues.alive(sweep.redis) == {"w1": spool.marker()}
    is_over.set()
    thread.join()
    assert queues.alive(sweep.redis) == {}


def test_old_replies_and_partial_uploads_are_deleted(catalog: Engine, spool: Spool, redis_url: str, spool_dir: Path) -> None:
    """What broken-off uploads left goes after a day; what is being written stays."""
    old, new = spool_dir / "partial" / "old", spool_dir / "partial" / "new"
    for path in (old, new):
        path.write_bytes(b"x")
    os.utime(old, (time.time() - 2 * 86400,) * 2)
    make_sweep(catalog, spool, redis_url).sweep()
    assert (old.exists(), new.exists()) == (False, True)


def test_a_lease_is_renewed_while_the_batch_runs(catalog: Engine) -> None:
    """Heartbeats keep the batch from being handed back, and tell the catalog how far it is."""
    batch_id = scheduled(catalog)
    claim = batches.claim(catalog, "w1", 0.6)
    assert claim is not None
    with Heart(catalog, 0.6, 0.1) as heart:
        lease = heart.hold(claim)
        lease.counts, lease.progress = Counts(input=5, created=5), 0.5
        time.sleep(1)
        assert batches.hand_back_expired(catalog) == []
        assert not lease.is_cancel_wanted()
    batch = batches.get(catalog, batch_id)
    assert batch is not None
    assert (batch.state, batch.counts.created, batch.progress) == (State.RUNNING, 5, 0.5)


def test_a_lease_learns_that_the_batch_is_to_be_cancelled(catalog: Engine) -> None:
    """The next heartbeat after the request knows."""
    batch_id = scheduled(catalog)
    claim = batches.claim(catalog, "w1", 30)
    assert claim is not None
    with Heart(catalog, 30, 0.05) as heart:
        lease = heart.hold(claim)
        batches.cancel(catalog, batch_id)
        time.sleep(0.4)
        assert lease.is_cancel_wanted()


def test_a_lease_that_another_took_is_lost(catalog: Engine) -> None:
    """After a take-over the old holder is stopped by its own heartbeat."""
    batch_id = scheduled(catalog)
    claim = batches.claim(catalog, "w1", 30)
    assert claim is not None
    with Heart(catalog, 30, 0.05) as heart:
        lease = heart.hold(claim)
        assert batches.hand_back(catalog, batch_id, claim.fence)
        batches.claim(catalog, "w2", 30)
        time.sleep(0.4)
        with pytest.raises(LeaseLost):
            lease.is_cancel_wanted()


def test_a_lease_that_could_not_be_renewed_is_lost_when_it_ends(tmp_path: Path) -> None:
    """A worker that cannot reach the catalog stops by its own clock, before another may begin (T23)."""
    url = f"sqlite:///{tmp_path / 'c.db'}"
    migrate.upgrade(url)
    engine = catalogs.connect(url)
    scheduled(engine)
    claim = batches.claim(engine, "w1", 0.5)
    assert claim is not None
    with Heart(engine, 0.5, 0.1) as heart:
        lease = heart.hold(claim)
        with engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE batches RENAME TO gone")
        time.sleep(0.3)
        assert not lease.is_cancel_wanted()
        time.sleep(0.5)
        with pytest.raises(LeaseLost):
            lease.is_cancel_wanted()
    engine.dispose()
