"""How soon work goes on: after a worker's death, after a message's loss, and beside a long import."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from pathlib import Path
from statistics import median

import pytest

import clock
from catalog import batches, controls
from catalog.batches import Options, Run, State
from errors import Refusal
from jobs import queues
from settings import Settings
from tests.crash.parts import assert_whole, running, urls
from tests.jobs_parts import Site, child_of, rows, wait_for

TAKE_OVER_SECONDS, LOST_SECONDS, START_SECONDS = 15, 60, 1
COUNT = 15_000
LONG = 600_000
BUSY_FACTOR = 5  # a machine that is busy with other tests is slower than one that waits for work
GADGETS = """
files:
  gadgets.csv: {entity: Gadget, action: Insert}
entities:
- entity: Gadget
  table: gadgets
  input: [code]
  mappings: [code: ]
"""


def started(site: Site, batch_id: int) -> Run:
    """Wait until a batch's run has begun, and return it."""
    wait_for(lambda: site.get(batch_id).started_at)
    run = site.get(batch_id).run
    assert run is not None and run.started_at is not None
    return run


def test_the_default_settings_keep_the_promises() -> None:
    """T26: a silent sweep's turn ends no later than a lease that was renewed last; then one sweep more, and the hint is there."""
    settings = Settings.from_environment({})
    lease, beat, sweep = settings.lease_seconds, settings.heartbeat_seconds, settings.sweep_seconds
    turn = 3 * sweep
    # Worst: worker and sweeping sweep die together, just before a heartbeat and just after the turn was taken again.
    lease_ends, turn_ends = lease - beat, turn
    assert max(turn_ends, lease_ends) + sweep - lease_ends <= TAKE_OVER_SECONDS
    assert turn + sweep <= LOST_SECONDS


@pytest.mark.slow
def test_a_dead_workers_batch_is_taken_over_in_time(site: Site) -> None:
    """T26: a worker is killed with its fork and its sweep; another goes on with its batch soon after the lease has ended."""
    workers = [site.start_worker(), site.start_worker()]
    wait_for(lambda: len(queues.alive(queues.connect(site.settings.redis_url))) == 2)
    site.slow_down()
    batch_id = running(site, COUNT)
    holder = site.get(batch_id).worker
    dead = next(w for w in workers if f".{w.pid}." in f"{holder}.")
    for pid in (child_of(dead, "!--sweep"), child_of(dead, "--sweep"), dead.pid):
        os.kill(pid, signal.SIGKILL)
    dead.wait()
    lease_until = site.get(batch_id).lease_until
    assert lease_until is not None
    wait_for(lambda: site.get(batch_id).fence == 2)
    taken_over_at = clock.now()
    # Lease 3 s, heartbeat 0.5 s and sweep 1 s are a tenth of the defaults.
    assert taken_over_at - lease_until < timedelta(seconds=TAKE_OVER_SECONDS / 10 * BUSY_FACTOR)
    site.speed_up()
    assert_whole(site, batch_id, COUNT)


@pytest.mark.slow
def test_a_batch_that_redis_lost_starts_in_time(site: Site) -> None:
    """T19: no message was ever sent; the sweep finds the batch."""
    site.start_worker()
    wait_for(lambda: queues.alive(queues.connect(site.settings.redis_url)))
    batch_id = site.batch(rows(10))
    assert_whole(site, batch_id, 10)
    run = site.get(batch_id).run
    assert run is not None and run.started_at is not None
    assert run.started_at - run.scheduled_at < timedelta(seconds=LOST_SECONDS / 10)


@pytest.mark.slow
def test_a_small_batch_starts_beside_a_long_import(site: Site) -> None:
    """Of two workers one is busy: a batch for another table starts within a second; one for the same table may ask to be refused."""
    for _ in range(2):
        site.start_worker()
    redis = queues.connect(site.settings.redis_url)
    wait_for(lambda: len(queues.alive(redis)) == 2)
    schema = None if site.settings.target_url.startswith("sqlite") else "public"
    site.execute("CREATE TABLE gadgets (code varchar(20) PRIMARY KEY)")
    gadgets = site.store_control(GADGETS, [(schema, "gadgets")])
    site.slow_down()
    long = running(site, 8000)
    waits = []
    for n in range(3):
        small = site.batch({"gadgets.csv": b"code\n" + b"".join(b"g%d-%d\n" % (n, m) for m in range(10))}, control=gadgets)
        queues.enqueue(redis, small)
        run = started(site, small)
        assert run.started_at is not None
        waits.append((run.started_at - run.scheduled_at).total_seconds())
        assert site.wait_over(small).counts.created == 10
    assert site.get(long).state is State.RUNNING
    assert min(waits) < START_SECONDS, waits
    same = batches.create(site.catalog, control=site.control, key_id="k1")
    known = controls.get(site.catalog, site.control)
    assert known is not None
    with pytest.raises(Refusal) as refused:
        batches.schedule(site.catalog, same, Options(), known.tables, refuse_if_busy=True)
    assert (refused.value.status, refused.value.code, "Retry-After" in refused.value.headers) == (409, "blocked", True)
    batches.cancel(site.catalog, long)
    assert site.wait_over(long, 90).state is State.CANCELLED


@pytest.mark.slow
def test_small_batches_end_beside_a_long_import_on_sqlite(target_url_sqlite: str, redis_url: str, tmp_path: Path) -> None:
    """SQLite has one write lock, which a long import leaves free between its chunks: small batches of another worker get it soon."""
    site = Site(tmp_path, urls(target_url_sqlite, redis_url, tmp_path) | {"CHUNK_RECORDS": "5000"})
    try:
        site.execute("CREATE TABLE gadgets (code varchar(20) PRIMARY KEY)")
        gadgets = site.store_control(GADGETS, [(None, "gadgets")])
        for _ in range(2):
            site.start_worker()
        redis = queues.connect(site.settings.redis_url)
        wait_for(lambda: len(queues.alive(redis)) == 2)
        long = running(site, LONG)
        spans: list[float] = []
        while site.get(long).state is State.RUNNING and len(spans) < 20:
            small = site.batch({"gadgets.csv": b"code\n" + b"".join(b"g%d-%d\n" % (len(spans), m) for m in range(10))}, control=gadgets)
            queues.enqueue(redis, small)
            run = site.wait_over(small).run
            assert run is not None and run.completed_at is not None and run.counts.created == 10
            spans.append((run.completed_at - run.scheduled_at).total_seconds())
        print(f"of {len(spans)} batches half ended within {median(spans):.3f} s, all within {max(spans):.3f} s")
        assert len(spans) >= 10 and median(spans) < START_SECONDS and max(spans) < START_SECONDS * BUSY_FACTOR
        batches.cancel(site.catalog, long)
        assert site.wait_over(long, 90).state is State.CANCELLED
    finally:
        site.close()
