"""Real workers through stops and outages of what they stand on: nothing is lost, nothing is doubled, every record has its result."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import threading
import time
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest

from catalog.batches import Options, State
from dev.servers import answers, end_with_parent, free_port, stop, valkey_command, wait_until
from jobs import queues
from tests import postgresql
from tests.crash.parts import MANY, assert_whole, running, urls
from tests.crash.restarts import restart
from tests.jobs_parts import Site, child_of, rows, wait_for


@pytest.mark.slow
def test_sigterm_is_picked_up_at_once(site: Site) -> None:
    """T17: SIGTERM to one of two workers in a long import: it ends within 25 s at a chunk border, and the other goes on at once."""
    site.environment |= {"LEASE_SECONDS": "60", "SWEEP_SECONDS": "30"}
    workers = [site.start_worker(), site.start_worker()]
    wait_for(lambda: len(queues.alive(queues.connect(site.settings.redis_url))) == 2)
    batch_id = running(site)
    holder = site.get(batch_id).worker
    worker = next(w for w in workers if f".{w.pid}." in f"{holder}.")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(25) == 0
    wait_for(lambda: site.get(batch_id).fence == 2, 3)
    assert_whole(site, batch_id, MANY)
    assert site.execute("SELECT count(*), count(DISTINCT code) FROM things") == [(MANY, MANY)]


@pytest.mark.slow
def test_a_stopped_worker_writes_nothing_more(site: Site) -> None:
    """T23: SIGSTOP for longer than the lease; another takes over, ends it, and the first, waking up, changes nothing."""
    worker = site.start_worker()
    batch_id = running(site)
    fork = child_of(worker, "!--sweep")
    os.kill(fork, signal.SIGSTOP)
    try:
        site.start_worker()
        assert_whole(site, batch_id, MANY)
        assert site.get(batch_id).fence >= 2
        assert site.execute("SELECT count(*), count(DISTINCT code) FROM things") == [(MANY, MANY)]
        site.execute("DELETE FROM things")  # whatever is written from now on can be seen
    finally:
        # On SQLite a holder that is stopped in the middle of a chunk keeps the lock, so the take-over has ended it.
        if Path(f"/proc/{fork}").exists():
            os.kill(fork, signal.SIGCONT)
    time.sleep(2)
    assert site.execute("SELECT count(*) FROM things") == [(0,)]
    assert site.get(batch_id).state is State.COMPLETED


@pytest.mark.slow
def test_redis_is_emptied_with_one_running_and_three_waiting(site: Site) -> None:
    """T19: FLUSHALL: all four finish, the running one is not begun again."""
    client = queues.connect(site.settings.redis_url)
    site.start_worker()
    first = running(site)
    others = [site.batch(rows(300, MANY + 300 * n)) for n in range(3)]
    for batch_id in others:
        queues.enqueue(client, batch_id)
    client.flushall()
    assert_whole(site, first, MANY)
    for batch_id in others:
        assert_whole(site, batch_id, 300)
    assert [site.get(batch_id).fence for batch_id in (first, *others)] == [1, 1, 1, 1]


@pytest.mark.slow
def test_redis_is_killed_and_comes_back_empty(target_url: str, tmp_path: Path) -> None:
    """T19, T20, T21: Redis killed with one running and three waiting, one scheduled meanwhile; it comes back empty: all finish."""
    port, folder = free_port(), Path(tempfile.mkdtemp(prefix="valkey"))
    valkey = start_valkey(port, folder)
    site = Site(tmp_path, urls(target_url, f"redis://127.0.0.1:{port}/0", tmp_path))
    try:
        site.start_worker()
        first = running(site)
        others = [site.batch(rows(300, MANY + 300 * n)) for n in range(3)]
        for batch_id in others:
            queues.enqueue(queues.connect(site.settings.redis_url), batch_id)
        valkey.kill()
        valkey.wait()
        late = site.batch(rows(300, MANY + 900))
        assert not queues.enqueue(queues.connect(site.settings.redis_url), late)
        valkey = start_valkey(port, folder)
        assert_whole(site, first, MANY)
        for batch_id in (*others, late):
            assert_whole(site, batch_id, 300)
        assert site.get(first).fence == 1
    finally:
        site.close()
        stop(valkey)
        shutil.rmtree(folder)


def start_valkey(port: int, folder: Path) -> subprocess.Popen[bytes]:
    """Start an empty Valkey on a port."""
    process = subprocess.Popen(valkey_command(port, folder, is_kept=False), start_new_session=True, preexec_fn=end_with_parent)
    wait_until(lambda: answers(port), process, "Valkey")
    return process


@pytest.mark.slow
def test_the_catalog_is_locked_for_ten_seconds(site: Site) -> None:
    """T30, T38: another process locks the catalog for 10 s, longer than the lease: the run stops, goes on, and ends whole."""
    site.start_worker()
    batch_id = running(site)
    lock_catalog(site, 10)
    assert_whole(site, batch_id, MANY)
    assert site.execute("SELECT count(*), count(DISTINCT code) FROM things") == [(MANY, MANY)]


def lock_catalog(site: Site, seconds: float) -> None:
    """Keep everybody out of the catalog."""
    url = site.settings.catalog_url
    if url.startswith("sqlite"):
        database = sqlite3.connect(url.removeprefix("sqlite:///"), timeout=30, isolation_level=None)
        database.execute("BEGIN EXCLUSIVE")
        time.sleep(seconds)
        database.execute("ROLLBACK")
        database.close()
        return
    with psycopg.connect(url) as connection:
        connection.execute("LOCK TABLE lading.batches IN ACCESS EXCLUSIVE MODE")
        time.sleep(seconds)


@pytest.mark.slow
@pytest.mark.parametrize("with_signal", [signal.SIGINT, signal.SIGQUIT], ids=["fast", "immediate"])
def test_postgresql_is_restarted_in_a_run(with_signal: signal.Signals, redis_url: str, tmp_path: Path) -> None:
    """T39: target and catalog go away in the middle of chunks, in order or at once, and come back: the ledger decides what counts."""
    server = postgresql.Server.start(next(iter(postgresql.versions().values())))
    site = Site(tmp_path, urls(server.url("postgres"), redis_url, tmp_path))
    try:
        site.start_worker()
        batch_id = running(site)
        for _ in range(3):
            restart(server, with_signal)
            time.sleep(0.7)
        assert_whole(site, batch_id, MANY)
        assert site.execute("SELECT count(*), count(DISTINCT code) FROM things") == [(MANY, MANY)]
    finally:
        site.close()
        server.stop()


@pytest.mark.slow
def test_imports_of_one_table_take_turns(site: Site) -> None:
    """T41: two workers, four batches that write the same keys: one after another, in the order of their scheduling."""
    for _ in range(2):
        site.start_worker()
    wait_for(lambda: len(queues.alive(queues.connect(site.settings.redis_url))) == 2)  # else one might do all before the other begins
    batch_ids = [site.batch(b"code,size\n" + b"".join(b"c%d,%d\n" % (n, turn) for n in range(2000)), Options()) for turn in range(4)]
    hints = [threading.Thread(target=queues.enqueue, args=(queues.connect(site.settings.redis_url), b)) for b in batch_ids]
    for hint in hints:
        hint.start()
    for hint in hints:
        hint.join()
    for turn, batch_id in enumerate(batch_ids):
        counts = site.wait_over(batch_id, 60).counts
        assert (counts.created, counts.updated) == ((2000, 0) if turn == 0 else (0, 2000))
    spans = [(run.started_at, run.completed_at) for batch_id in batch_ids if (run := site.get(batch_id).run) and run.started_at]
    assert len(spans) == 4 and all(ended and ended <= began for (_, ended), (began, _) in pairwise(spans))
    assert site.execute("SELECT DISTINCT size FROM things") == [(3,)]
