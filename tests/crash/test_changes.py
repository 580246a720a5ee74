"""What changes while a batch is under way: the clock, what a control file's name stands for, the state of Redis."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest

import catalog as catalogs
import clock
from catalog import batches, migrate
from catalog.batches import Beat, Counts, Options, State
from dev.servers import answers, end_with_parent, free_port, stop, valkey_command, wait_until
from jobs import queues
from tests.crash.parts import assert_whole, running, urls
from tests.jobs_parts import CONTROL, Site, rows, scheduled, wait_for

HOUR = timedelta(hours=1)


def test_the_clock_jumps(target_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """T31: an hour ahead and back again: what is due starts once, a lease that looks over is fenced off, no duration is negative."""
    migrate.upgrade(target_url)
    engine = catalogs.connect(target_url)
    real, shift = clock.now, [timedelta()]
    monkeypatch.setattr(clock, "now", lambda: real() + shift[0])
    later = scheduled(engine, options=Options(start_at=clock.now() + HOUR / 2))
    assert batches.claim(engine, "w1", 30) is None
    shift[0] = HOUR
    first = batches.claim(engine, "w1", 30)
    assert first is not None and first.batch_id == later
    shift[0] = timedelta()
    assert batches.claim(engine, "w2", 30) is None  # once, though its time has not come again
    shift[0] = 2 * HOUR
    assert batches.hand_back_expired(engine) == [later]
    assert batches.heartbeat(engine, later, first.fence, 30) is Beat.LOST
    shift[0] = -HOUR
    second = batches.claim(engine, "w2", 30)
    assert second is not None and second.fence > first.fence
    assert not batches.finish(engine, later, first.fence, state=State.COMPLETED, counts=Counts())
    assert batches.finish(engine, later, second.fence, state=State.COMPLETED, counts=Counts())
    found = batches.get(engine, later)
    assert found is not None and found.run is not None and found.run.elapsed_seconds == 0
    engine.dispose()


@pytest.mark.slow
def test_the_control_file_is_edited_in_a_run(site: Site) -> None:
    """T32: a batch is carried on by the control file that it began with, whatever its name stands for by then."""
    schema = None if site.settings.target_url.startswith("sqlite") else "public"
    site.control = site.store_control("name: things\n" + CONTROL.lstrip(), [(schema, "things")], name="things")
    worker = site.start_worker()
    site.slow_down()
    count = 2500
    batch_id = running(site, count)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0 and site.get(batch_id).state is State.SCHEDULED
    site.store_control("name: things\n" + CONTROL.lstrip().replace("- size:", "- size: {value: 7}"), [(schema, "things")], name="things")
    site.start_worker()
    assert_whole(site, batch_id, count)
    assert site.execute("SELECT count(*) FROM things WHERE code = 'c' || size") == [(count,)]


@pytest.mark.slow
def test_redis_comes_back_with_an_old_state(target_url: str, tmp_path: Path) -> None:
    """T21: messages of batches that are over are there again, those of waiting ones are gone: nothing runs twice, nothing is lost."""
    port, folder = free_port(), Path(tempfile.mkdtemp(prefix="valkey"))
    command = [*valkey_command(port, folder, is_kept=False), "--dbfilename", "dump.rdb"]

    def start() -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command, start_new_session=True, preexec_fn=end_with_parent)
        wait_until(lambda: answers(port), process, "Valkey")
        return process

    valkey = start()
    site = Site(tmp_path, urls(target_url, f"redis://127.0.0.1:{port}/0", tmp_path))
    try:
        redis = queues.connect(site.settings.redis_url)
        old = [site.batch(rows(50, 50 * n)) for n in range(3)]
        for batch_id in old:
            queues.enqueue(redis, batch_id)
        redis.save()
        site.start_worker()
        for batch_id in old:
            assert_whole(site, batch_id, 50)
        site.slow_down()
        count = 1500
        first = running(site, count, 1000)
        waiting = site.batch(rows(50, 5000))
        queues.enqueue(redis, waiting)
        valkey.kill()
        valkey.wait()
        valkey = start()
        assert set(queues.hints(redis)) <= set(map(str, old)) and str(waiting) not in queues.hints(redis)
        assert_whole(site, first, count)
        assert_whole(site, waiting, 50)
        wait_for(lambda: not queues.hints(redis))
        assert [site.get(batch_id).fence for batch_id in (*old, first, waiting)] == [1] * 5
    finally:
        site.close()
        stop(valkey)
        shutil.rmtree(folder)
