"""Real workers on real servers: batches go through them, and nothing that happens to them loses or doubles one."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from redis import Redis

from catalog import batches
from catalog.batches import Execution, Mode, Options, State
from dev.servers import answers, end_with_parent, free_port, stop, valkey_command, wait_until
from jobs import queues
from tests.jobs_parts import CONTROL, Site, child_of, is_gone, rows, wait_for


@pytest.fixture
def site(target_url: str, redis_url: str, tmp_path: Path) -> Iterator[Site]:
    """Give an installation on SQLite, or on PostgreSQL for target and catalog both, without a worker yet."""
    catalog_url = f"sqlite:///{tmp_path / 'catalog.db'}" if target_url.startswith("sqlite") else target_url
    environment = {"TARGET_URL": target_url, "CATALOG_URL": catalog_url, "SPOOL_URL": f"file:{tmp_path / 'spool'}", "REDIS_URL": redis_url}
    made = Site(tmp_path, environment | {"LEASE_SECONDS": "3", "HEARTBEAT_SECONDS": "0.5", "SWEEP_SECONDS": "1", "CHUNK_RECORDS": "100"})
    yield made
    made.close()


@pytest.fixture
def redis(redis_url: str) -> Redis:
    """Give a client of the site's Redis."""
    return queues.connect(redis_url)


def test_a_batch_goes_through(site: Site, redis: Redis) -> None:
    """A hint is enough: the rows are in the table, each has its result, and nothing of the run is left behind."""
    site.start_worker()
    batch_id = site.batch(b"code,size\na,1\nb,x\nc,3\n")
    assert queues.enqueue(redis, batch_id)
    batch = site.wait_over(batch_id)
    assert (batch.state, batch.counts.created, batch.counts.errors, batch.progress) == (State.COMPLETED, 2, 1, 1.0)
    assert site.execute("SELECT code, size FROM things ORDER BY code") == [("a", 1), ("c", 3)]
    codes = [line.split(",")[0].removeprefix("Core_Data_") for line in site.results(batch_id).splitlines()]
    assert codes == ["#Code", "RecordCreated", "InvalidInteger", "RecordCreated"]
    assert queues.hints(redis) == []
    run = f"{batch_id}-1"
    wait_for(lambda: site.execute(f"SELECT count(*) FROM {ledger(site)} WHERE run = '{run}'") == [(0,)])
    assert site.spool.segments(run) == [] and f"batch_id={batch_id} run=1 key_id=k1" in site.logged()


def ledger(site: Site) -> str:
    """Return the name of the ledger."""
    return "lading_ledger" if site.settings.target_url.startswith("sqlite") else "lading.ledger"


def test_batches_are_taken_in_the_order_of_their_scheduling(site: Site, redis: Redis) -> None:
    """One hint makes a worker carry out all that waits, the oldest first, though later ones write the same rows."""
    ids = [site.batch(b"code,size\na,%d\n" % n) for n in range(5)]
    site.start_worker()
    queues.enqueue(redis, ids[-1])
    ended = [site.wait_over(batch_id).completed_at for batch_id in ids]
    assert ended == sorted(ended)  # type: ignore[type-var]
    assert site.execute("SELECT size FROM things") == [(4,)]


def test_a_lost_message_costs_time_only(site: Site, redis: Redis) -> None:
    """FLUSHALL with batches queued and one running: all finish, each once (T19)."""
    site.start_worker()
    ids = [site.batch(rows(3000, 3000 * n)) for n in range(3)]
    for batch_id in ids:
        queues.enqueue(redis, batch_id)
    site.wait_state(ids[0], State.RUNNING)
    redis.flushall()
    for batch_id in ids:
        batch = site.wait_over(batch_id, 60)
        assert (batch.state, batch.counts.created, batch.run and batch.run.attempts) == (State.COMPLETED, 3000, 1)
    assert site.execute("SELECT count(*) FROM things") == [(9000,)]


def test_two_workers_run_a_batch_once(site: Site, redis: Redis) -> None:
    """The same message twice, and two workers: one claims the batch, the other finds nothing (T22)."""
    for _ in range(2):
        site.start_worker()
    wait_for(lambda: len(queues.alive(redis)) == 2)
    for n in range(5):
        batch_id = site.batch(b"code,size\na%d,1\n" % n)
        queues.enqueue(redis, batch_id)
        queues.enqueue(redis, batch_id)
        batch = site.wait_over(batch_id)
        assert (batch.state, batch.counts.created, batch.fence) == (State.COMPLETED, 1, 1)
    assert site.execute("SELECT count(*) FROM things") == [(5,)]


def test_sigterm_hands_the_batch_back_at_a_chunk_border(site: Site, redis: Redis) -> None:
    """The worker ends well within the time that platforms allow; another goes on behind what is committed (T17)."""
    site.slow_down()
    worker = site.start_worker()
    batch_id = site.batch(rows(60_000))
    queues.enqueue(redis, batch_id)
    wait_for(lambda: site.get(batch_id).counts.input > 0)
    started = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(25) == 0
    assert time.monotonic() - started < 10
    batch = site.get(batch_id)
    assert (batch.state, batch.run and batch.run.attempts) == (State.SCHEDULED, 0)
    done = site.execute("SELECT count(*) FROM things")[0][0]
    assert 0 < done < 60_000 and done % 100 == 0
    site.speed_up()
    site.start_worker()
    batch = site.wait_over(batch_id, 60)
    assert (batch.state, batch.counts.created, batch.counts.skipped) == (State.COMPLETED, 60_000, 0)
    assert site.results(batch_id).count("\n") == 60_001


def test_kill_9_is_taken_over_after_the_lease(site: Site, redis: Redis) -> None:
    """The whole worker dies at once, its fork and sweep too: another ends the batch, and no row is doubled (T26)."""
    site.slow_down()
    worker = site.start_worker()
    batch_id = site.batch(rows(60_000))
    queues.enqueue(redis, batch_id)
    wait_for(lambda: site.get(batch_id).counts.input > 0)
    fork = child_of(worker, "!--sweep")
    worker.kill()
    os.kill(fork, signal.SIGKILL)
    worker.wait()
    assert site.get(batch_id).state is State.RUNNING
    site.speed_up()
    site.start_worker()
    batch = site.wait_over(batch_id, 60)
    assert (batch.state, batch.counts.created, batch.counts.skipped) == (State.COMPLETED, 60_000, 0)
    assert batch.fence == 2
    assert site.execute("SELECT count(*), count(DISTINCT code) FROM things") == [(60_000, 60_000)]
    assert site.results(batch_id).count("\n") == 60_001


def test_a_fork_without_its_worker_stops(site: Site, redis: Redis) -> None:
    """When the worker alone is killed, its fork hands the batch back instead of going on unseen, and its sweep ends."""
    site.slow_down()
    worker = site.start_worker()
    batch_id = site.batch(rows(60_000))
    queues.enqueue(redis, batch_id)
    wait_for(lambda: site.get(batch_id).counts.input > 0)
    children = child_of(worker, "--sweep"), child_of(worker, "!--sweep")
    worker.kill()
    worker.wait()
    wait_for(lambda: all(map(is_gone, children)), 15)
    assert site.get(batch_id).state is State.SCHEDULED


def test_the_sweep_is_started_again(site: Site, redis: Redis) -> None:
    """A worker whose sweep dies gets another."""
    worker = site.start_worker()
    sweep = child_of(worker, "--sweep")
    wait_for(lambda: queues.alive(redis))
    os.kill(sweep, signal.SIGKILL)
    wait_for(lambda: child_of(worker, "--sweep") != sweep)
    batch_id = site.batch(b"code,size\na,1\n")
    assert site.wait_over(batch_id).state is State.COMPLETED


@pytest.mark.parametrize(
    "data", [pickle.dumps(("os.system", None, ("touch owned",), {})), b'["os.system", null, ["touch owned"], {}]'], ids=["pickle", "json"]
)
def test_a_hostile_message_is_refused(site: Site, redis: Redis, data: bytes) -> None:
    """It is neither run nor shown, but logged; the worker goes on (T88)."""
    site.start_worker()
    redis.hset("rq:job:evil", mapping={"data": data, "status": "queued", "failure_callback_name": "os.system"})
    redis.rpush(queues.queue(redis).key, "evil")
    wait_for(lambda: "refused message" in site.logged())
    batch_id = site.batch(b"code,size\na,1\n")
    queues.enqueue(redis, batch_id)
    assert site.wait_over(batch_id).state is State.COMPLETED
    assert not (site.folder / "owned").exists()
    assert not redis.exists("rq:job:evil")
    assert "touch" not in site.logged()


def test_a_broken_message_does_not_end_the_worker(site: Site, redis: Redis) -> None:
    """Fields that RQ itself cannot read are got rid of (T88)."""
    site.start_worker()
    redis.hset("rq:job:evil", mapping={"data": b"x", "status": "nonsense", "timeout": "soon"})
    redis.rpush(queues.queue(redis).key, "evil")
    batch_id = site.batch(b"code,size\na,1\n")
    queues.enqueue(redis, batch_id)
    assert site.wait_over(batch_id).state is State.COMPLETED


def test_a_worker_waits_for_redis(site: Site) -> None:
    """A worker that finds no Redis goes on trying, and still ends at once when it is told to."""
    site.environment["REDIS_URL"] = f"redis://127.0.0.1:{free_port()}/0"
    worker = site.start_worker()
    wait_for(lambda: "Redis cannot be reached" in site.logged())
    started = time.monotonic()
    assert stop(worker) == 0
    assert time.monotonic() - started < 5


def test_redis_goes_away_and_comes_back(site: Site, tmp_path: Path) -> None:
    """An import that runs is not touched by it, and what was scheduled in the meantime runs once Redis is back."""
    port = free_port()
    command = valkey_command(port, tmp_path, is_kept=False)
    site.environment["REDIS_URL"] = f"redis://127.0.0.1:{port}/0"
    client = queues.connect(site.environment["REDIS_URL"])
    first = subprocess.Popen(command, preexec_fn=end_with_parent, stdout=subprocess.DEVNULL)
    wait_until(lambda: answers(port), first, "Valkey")
    site.start_worker()
    running = site.batch(rows(20_000))
    assert queues.enqueue(client, running)
    site.wait_state(running, State.RUNNING)
    stop(first)
    waiting = site.batch(rows(10, 50_000))
    assert not queues.enqueue(client, waiting)
    assert site.wait_over(running, 60).counts.created == 20_000
    second = subprocess.Popen(command, preexec_fn=end_with_parent, stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: answers(port), second, "Valkey")
        assert site.wait_over(waiting, 60).counts.created == 10
        late = site.batch(rows(10, 60_000))
        wait_for(lambda: queues.alive(client))
        queues.enqueue(client, late)
        assert site.wait_over(late).counts.created == 10
        assert site.get(running).fence == 1
    finally:
        stop(second)


def test_an_altered_file_is_never_imported(site: Site, redis: Redis, tmp_path: Path) -> None:
    """One bit flipped in the spool: the batch fails and says so, and no row is written (T62)."""
    batch_id = site.batch(b"code,size\na,1\n")
    digest = batches.files(site.catalog, batch_id)[0].digest
    path = tmp_path / "spool" / "sha256" / digest[:2] / digest
    path.chmod(0o600)
    path.write_bytes(b"code,size\nb,1\n")
    site.start_worker()
    queues.enqueue(redis, batch_id)
    batch = site.wait_over(batch_id)
    assert (batch.state, batch.code, batch.run and batch.run.results_digest) == (State.FAILED, "digest_mismatch", None)
    assert site.execute("SELECT count(*) FROM things") == [(0,)]


def test_a_control_file_that_no_longer_fits_fails_the_batch(site: Site, redis: Redis) -> None:
    """A column that was dropped since the control file was checked is named in the status."""
    batch_id = site.batch(b"code,size\na,1\n")
    site.execute("ALTER TABLE things RENAME COLUMN size TO extent")
    site.start_worker()
    queues.enqueue(redis, batch_id)
    batch = site.wait_over(batch_id)
    assert (batch.state, batch.code) == (State.FAILED, "control_invalid")
    assert "size" in batch.status_msg


def test_a_changed_table_is_seen_within_a_drain(site: Site, redis: Redis) -> None:
    """A plan compiled for one batch is not used for the next when the table has changed in between."""
    site.start_worker()
    first = site.batch(b"code,size\na,1\n")
    queues.enqueue(redis, first)
    site.wait_over(first)
    site.execute("ALTER TABLE things RENAME COLUMN size TO extent")
    time.sleep(1.1)
    second = site.batch(b"code,size\nb,2\n")
    queues.enqueue(redis, second)
    assert site.wait_over(second).code == "control_invalid"


def test_cancel_stops_at_a_chunk_border(site: Site, redis: Redis) -> None:
    """What was reached stays, what was not is unprocessed, and every record has its result."""
    site.slow_down()
    site.start_worker()
    batch_id = site.batch(rows(60_000))
    queues.enqueue(redis, batch_id)
    wait_for(lambda: site.get(batch_id).counts.input > 0)
    batches.cancel(site.catalog, batch_id)
    batch = site.wait_over(batch_id)
    counts = batch.counts
    assert (batch.state, counts.input, counts.created + counts.unprocessed) == (State.CANCELLED, 60_000, 60_000)
    assert 0 < counts.created < 60_000
    assert site.execute("SELECT count(*) FROM things") == [(counts.created,)]
    assert site.results(batch_id).count("Core_Data_NotReached") == counts.unprocessed


def test_a_dry_run_and_then_the_import(site: Site, redis: Redis) -> None:
    """The dry run leaves no row; both runs keep their results (T09)."""
    site.start_worker()
    batch_id = site.batch(b"code,size\na,1\nb,2\n", Options(mode=Mode.DRY_RUN))
    queues.enqueue(redis, batch_id)
    batch = site.wait_over(batch_id)
    assert (batch.state, batch.counts.created) == (State.COMPLETED, 2)
    assert site.execute("SELECT count(*) FROM things") == [(0,)]
    batches.schedule(site.catalog, batch_id, Options(), [("public" if "postgresql" in site.settings.target_url else None, "things")])
    queues.enqueue(redis, batch_id)
    assert site.wait_over(batch_id).counts.created == 2
    assert [run.results_digest is not None for run in batches.runs_of(site.catalog, batch_id)] == [True, True]
    assert site.execute("SELECT count(*) FROM things") == [(2,)]


def test_all_or_none_takes_everything_back(site: Site, redis: Redis) -> None:
    """One bad record fails the batch; the others are unprocessed."""
    site.start_worker()
    batch_id = site.batch(b"code,size\na,1\nb,x\nc,3\n", Options(execution=Execution.ALL_OR_NONE))
    queues.enqueue(redis, batch_id)
    batch = site.wait_over(batch_id)
    assert (batch.state, batch.counts.errors, batch.counts.unprocessed) == (State.FAILED, 1, 2)
    assert site.execute("SELECT count(*) FROM things") == [(0,)]


def test_a_run_that_is_broken_off_again_and_again_fails(site: Site, redis: Redis) -> None:
    """After RUN_ATTEMPTS claims that ended without a word, what is committed stays and the rest is told not to have been reached."""
    batch_id = site.batch(rows(500))
    for _ in range(site.settings.run_attempts):
        claim = batches.claim(site.catalog, "dead", 0.01)
        assert claim is not None
        time.sleep(0.02)
        assert batches.hand_back_expired(site.catalog) == [batch_id]
    site.start_worker()
    queues.enqueue(redis, batch_id)
    batch = site.wait_over(batch_id)
    assert (batch.state, batch.code, batch.counts.unprocessed) == (State.FAILED, "attempts_exhausted", 500)
    assert site.results(batch_id).count("\n") == 501


def test_a_fork_that_is_killed_is_followed_by_another(site: Site, redis: Redis) -> None:
    """Only the fork dies, of memory perhaps: the worker goes on, and takes the batch again once its lease is over."""
    site.slow_down()
    worker = site.start_worker()
    batch_id = site.batch(rows(60_000))
    queues.enqueue(redis, batch_id)
    wait_for(lambda: site.get(batch_id).counts.input > 0)
    os.kill(child_of(worker, "!--sweep"), signal.SIGKILL)
    site.speed_up()
    batch = site.wait_over(batch_id, 60)
    assert (batch.state, batch.counts.created, batch.fence) == (State.COMPLETED, 60_000, 2)
    assert worker.poll() is None and "the fork ended with -9" in site.logged()


GADGETS = """
name: gadgets
entities:
- entity: Gadget
  table: gadgets
  input: [code]
  mappings:
  - id: {converter: {type: CodeReferenceLookup, input: code, column: code}}
  - code:
"""
THINGS = CONTROL.replace("files:\n  things.csv: {entity: Thing, action: Merge}\n", "")


def test_a_named_control_file_waits_for_its_lanes(site: Site, redis: Redis) -> None:
    """A `!Name` row brings in a table that another batch holds: this one waits in the queue, then goes on behind what it has committed."""
    schema = "public" if "postgresql" in site.settings.target_url else None
    site.execute("CREATE TABLE gadgets (code varchar(9) PRIMARY KEY)")
    gadgets = site.store_control(GADGETS, [(schema, "gadgets")], name="gadgets")
    things = site.store_control(THINGS, [(schema, "things")])
    holder = site.batch(b"#Entity,Action,code\nGadget,Merge,g0\n", control=gadgets)
    claim = batches.claim(site.catalog, "somebody", 30)
    assert claim is not None and claim.batch_id == holder
    lines = b"#Entity,Action,code,size\n" + b"".join(b"Thing,Merge,t%d,1\n" % n for n in range(250))
    batch_id = site.batch(lines + b"!gadgets\n#Entity,Action,code\nGadget,Merge,g1\n", control=things)
    site.start_worker()
    queues.enqueue(redis, batch_id)
    wait_for(lambda: "handed back" in site.logged())
    assert site.get(batch_id).state is State.SCHEDULED
    assert batches.hand_back(site.catalog, holder, claim.fence)
    for waiting in (holder, batch_id):
        batch = site.wait_over(waiting)
        assert (batch.state, batch.counts.errors) == (State.COMPLETED, 0)
    assert site.execute("SELECT count(*) FROM things") == [(250,)]
    assert site.execute("SELECT code FROM gadgets ORDER BY code") == [("g0",), ("g1",)]
    assert site.get(batch_id).counts.created == 251


def test_a_target_that_is_away_for_a_while(target_url_pg: str, redis_url: str, redis: Redis, tmp_path: Path) -> None:
    """The batch is tried again, handed back, and completed when the database is there again; no row is lost or doubled."""
    environment = {"TARGET_URL": target_url_pg, "CATALOG_URL": f"sqlite:///{tmp_path / 'catalog.db'}"}
    environment["SPOOL_URL"] = f"file:{tmp_path / 'spool'}"
    environment |= {"REDIS_URL": redis_url, "SWEEP_SECONDS": "1", "CHUNK_RECORDS": "100", "RUN_ATTEMPTS": "2"}
    away = Site(tmp_path, environment)
    server, _, database = target_url_pg.rpartition("/")
    try:
        with psycopg.connect(f"{server}/postgres", autocommit=True) as admin:
            batch_id = away.batch(rows(30_000))
            away.start_worker()
            queues.enqueue(redis, batch_id)
            wait_for(lambda: int(away.execute("SELECT count(*) FROM things")[0][0]) > 0)
            admin.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS false")
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database])
            wait_for(lambda: "handed back" in away.logged())
            admin.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS true")
        batch = away.wait_over(batch_id, 60)
        assert (batch.state, batch.counts.created, batch.counts.skipped) == (State.COMPLETED, 30_000, 0)
        assert away.execute("SELECT count(*) FROM things") == [(30_000,)]
    finally:
        away.close()
