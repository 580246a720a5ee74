"""Workers that help one another: one large file is written by all that are idle."""

from __future__ import annotations

import csv
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from unittest.mock import Mock

import pytest

from catalog import batches
from catalog.batches import State
from jobs import hands as helping, queues, run_batch
from jobs.hands import AT_ONCE
from tests.jobs_parts import CONTROL, Site, child_of, rows, wait_for

QUICK = {"LEASE_SECONDS": "3", "HEARTBEAT_SECONDS": "0.5", "SWEEP_SECONDS": "1", "CHUNK_RECORDS": "50", "HANDS": "4"}
MANY = 5_000


@pytest.fixture
def site(target_url_pg: str, redis_url: str, tmp_path: Path) -> Iterator[Site]:
    """Give an installation on PostgreSQL whose rows take a millisecond each, without a trigger: with one no run is shared."""
    made = Site(
        tmp_path,
        QUICK
        | {"TARGET_URL": target_url_pg, "CATALOG_URL": target_url_pg, "SPOOL_URL": f"file:{tmp_path / 'spool'}", "REDIS_URL": redis_url},
    )
    made.execute(
        "CREATE FUNCTION takes_long(integer) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.001); RETURN true; END $$"
    )
    made.execute("ALTER TABLE things ADD CHECK (takes_long(size))")
    yield made
    made.close()


def start(site: Site, workers: int, count: int = MANY) -> int:
    """Start workers, and once all live the import of a file in which every key comes twice; return when there are hands at work."""
    for _ in range(workers):
        site.start_worker()
    redis = queues.connect(site.settings.redis_url)
    wait_for(lambda: len(queues.alive(redis)) == workers)
    batch_id = site.batch(rows(count // 2) + rows(count // 2).partition(b"\n")[2].replace(b",", b",1"))
    queues.enqueue(redis, batch_id)
    wait_for(lambda: len(hands(site)) == AT_ONCE * (workers - 1) and wrote(site) > 3)
    return batch_id


def hands(site: Site) -> list[int]:
    """Return the ids of the hands' backends."""
    return [row[0] for row in site.execute("SELECT backend FROM lading.hands ORDER BY number")]


def wrote(site: Site) -> int:
    """Return how many chunks in the ledger were written by hands."""
    return int(site.execute("SELECT count(*) FROM lading.ledger WHERE fence >> 32 > 0")[0][0])


def assert_whole(site: Site, batch_id: int, count: int = MANY) -> None:
    """Receipts and rows are those of the records taken one by one: each key is created and then updated."""
    batch = site.wait_over(batch_id, 120)
    assert (batch.state, batch.counts.created, batch.counts.updated) == (State.COMPLETED, count // 2, count // 2)
    codes = {str(number): code for number, code in site.execute("SELECT id, code FROM things")}
    told = [(row[0], row[3], codes[row[5]]) for row in csv.reader(StringIO(site.results(batch_id))) if not row[0].startswith("#")]
    kinds = ["Core_Data_RecordCreated"] * (count // 2) + ["Core_Data_RecordUpdated"] * (count // 2)
    assert told == [(kind, str(n + 2), f"c{n % (count // 2)}") for n, kind in enumerate(kinds)]
    things = site.execute("SELECT code, size FROM things ORDER BY id")
    assert sorted(things) == sorted((f"c{n}", int(f"1{n}")) for n in range(count // 2))


def forks(site: Site) -> list[int]:
    """Return the process ids of the workers' forks: first that of the batch's holder, then those of its hands."""
    holder = site.execute("SELECT pid FROM lading.head")[0][0]
    found = [child_of(worker, "!--sweep") for worker in site.workers]
    return sorted(found, key=lambda pid: pid != holder)


def test_idle_workers_help_until_a_batch_can_be_claimed(site: Site) -> None:
    """Three workers write one file, as one would; a batch that comes meanwhile waits for none of them."""
    other = CONTROL.replace("table: things", "table: others")
    site.execute("CREATE TABLE others (id serial PRIMARY KEY, code varchar(20) NOT NULL UNIQUE, size integer)")
    batch_id = start(site, 3)
    small = site.batch(rows(10), control=site.store_control(other, [("public", "others")]))
    assert site.wait_over(small, 30).counts.created == 10
    assert site.get(batch_id).state is State.RUNNING
    wait_for(lambda: len(hands(site)) == 2 * AT_ONCE or site.get(batch_id).state.is_over)
    assert_whole(site, batch_id)
    assert site.get(batch_id).fence == 1


@pytest.mark.parametrize(("said", "idle", "helps"), [(None, 0.9, False), (None, 1.1, True), (4, 0.0, True)])
def test_help_only_from_a_machine_that_is_not_busy(
    site: Site, monkeypatch: pytest.MonkeyPatch, said: int | None, idle: float, helps: bool
) -> None:
    """Unless told how many are to help, a worker leaves a batch to its holder where all processors are at work."""
    batch_id, lend_hand = site.batch(rows(10)), Mock(return_value=0)
    monkeypatch.setattr(helping, "idle_processors", lambda: idle)
    monkeypatch.setattr(helping, "lend_hand", lend_hand)
    monkeypatch.setattr(run_batch, "LINGER_SECONDS", 0.0)
    assert batches.claim(site.catalog, "holder", 30)
    with run_batch.Drain(replace(site.settings, hands=said), "hand", os.getppid()) as drain:
        drain.work(invited_to=batch_id)
    assert [call.args[0].batch_id for call in lend_hand.call_args_list] == [batch_id] * AT_ONCE * helps


def test_processors_that_are_idle() -> None:
    """A machine's idle processors are some, and no more than there are."""
    assert 0 <= helping.idle_processors() <= (os.cpu_count() or 1)


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGSTOP])
def test_a_hand_that_is_killed_or_frozen(site: Site, sign: signal.Signals) -> None:
    """Its chunk is written by another; the run goes on under the same fence. Woken up again, the frozen one changes nothing."""
    batch_id = start(site, 3, 2 * MANY)
    _, hand, _ = forks(site)
    os.kill(hand, sign)
    if sign is signal.SIGSTOP:
        silent = site.settings.lease_seconds
        before = hands(site)
        wait_for(lambda: len(set(before) - set(hands(site))) == AT_ONCE, 10 * silent)
        os.kill(hand, signal.SIGCONT)
    assert_whole(site, batch_id, 2 * MANY)
    assert site.get(batch_id).fence == 1


@pytest.mark.slow
def test_a_holder_that_is_killed(site: Site) -> None:
    """Another worker takes the run over from the ledger, where the chunks of its hands stand too."""
    batch_id = start(site, 3)
    holder, *_ = forks(site)
    os.kill(holder, signal.SIGKILL)
    assert_whole(site, batch_id)
    assert site.get(batch_id).fence == 2


@pytest.mark.slow
@pytest.mark.parametrize("how", ["cancel", "stop"])
def test_a_run_that_is_cancelled_or_handed_back(site: Site, how: str) -> None:
    """A cancelled run tells of each record; one whose holder is stopped goes on elsewhere."""
    batch_id = start(site, 3, 2 * MANY)
    if how == "cancel":
        batches.cancel(site.catalog, batch_id)
        batch = site.wait_over(batch_id, 60)
        assert batch.state is State.CANCELLED and batch.counts.input == 2 * MANY and batch.counts.unprocessed > 0
        assert site.results(batch_id).count("\n") == 2 * MANY + 1
        return
    holder, *_ = forks(site)
    [stopped] = [worker for worker in site.workers if child_of(worker, "!--sweep") == holder]
    stopped.terminate()
    stopped.wait(30)
    site.workers.remove(stopped)
    assert_whole(site, batch_id, 2 * MANY)
    assert site.get(batch_id).fence == 2
