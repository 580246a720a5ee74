"""Whole imports with a spool in a bucket: hosts that share no disk, and a store that fails while they run."""

from __future__ import annotations

import csv
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from threading import Timer

import pytest

from app import create_app, say_if_spool_is_another
from catalog.batches import State
from spool import bucket as buckets
from tests.jobs_parts import Site, child_of, rows, wait_for
from tests.object_store import FailingProxy, ObjectStore
from tests.web_parts import Web

ENOUGH = 9_000  # records: results too long to lie in the ledger


@pytest.fixture
def proxy(object_store: ObjectStore) -> Iterator[FailingProxy]:
    """Give the workers' way to the store."""
    with FailingProxy(object_store.port) as made:
        yield made


@pytest.fixture
def site(
    target_url_sqlite: str, tmp_path: Path, redis_url: str, bucket_url: str, object_store: ObjectStore, proxy: FailingProxy
) -> Iterator[Site]:
    """Give an installation whose workers reach the bucket by a way that can fail, and keep copies of their own."""
    (tmp_path / "host").mkdir()
    environment = {
        "TARGET_URL": target_url_sqlite, "CATALOG_URL": f"sqlite:///{tmp_path / 'catalog.db'}", "REDIS_URL": redis_url,
        "SPOOL_URL": bucket_url, "SPOOL_CACHE": str(tmp_path / "local"), "SWEEP_SECONDS": "0.5", "CHUNK_RECORDS": "3000",
        "LEASE_SECONDS": "6", "HEARTBEAT_SECONDS": "1",
    }  # fmt: skip
    made = Site(tmp_path, environment)
    made.environment |= {"SPOOL_CACHE": str(tmp_path / "host" / "cache")} | object_store.environment(proxy.port)
    yield made
    made.close()


def check(site: Site, batch_id: int, count: int) -> None:
    """Hold that each record was applied once, and has one result."""
    batch = site.get(batch_id)
    assert (batch.state, batch.counts.created, batch.counts.errors) == (State.COMPLETED, count, 0), batch.status_msg
    assert site.execute("SELECT count(*), count(DISTINCT code) FROM things") == [(count, count)]
    lines = [int(row["LineNumber"]) for row in csv.DictReader(site.results(batch_id).splitlines())]
    assert lines == list(range(2, count + 2))


def test_hosts_that_share_no_disk(site: Site, tmp_path: Path) -> None:
    """What one host has stored another one imports, and its results are read by the first."""
    site.start_worker()
    batch_id = site.batch(rows(ENOUGH))
    site.wait_over(batch_id)
    check(site, batch_id, ENOUGH)
    assert list((tmp_path / "host" / "cache" / "sha256").iterdir())
    wait_for(lambda: not site.spool.runs())


def test_a_worker_that_is_killed(site: Site, tmp_path: Path) -> None:
    """Where a worker is killed another one, which shares no disk with it, goes on behind its last committed chunk."""
    batch_id = site.batch(rows(10 * ENOUGH))
    worker = site.start_worker()
    wait_for(lambda: site.spool.segments(f"{batch_id}-1"))
    fork = child_of(worker, "!--sweep")
    for pid in (worker.pid, fork):
        os.kill(pid, signal.SIGKILL)
    assert site.get(batch_id).state is State.RUNNING
    site.environment["SPOOL_CACHE"] = str(tmp_path / "another" / "cache")
    site.start_worker()
    site.wait_over(batch_id, 120)
    check(site, batch_id, 10 * ENOUGH)


@pytest.mark.parametrize("mode", ["gone", "503"])
def test_a_store_that_fails_in_the_middle(site: Site, proxy: FailingProxy, mode: str) -> None:
    """While the store fails a run is tried again, or handed back; once it answers the run goes on, and nothing is lost or done twice."""
    batch_id = site.batch(rows(ENOUGH))
    proxy.cut_after = 400_000  # the results of some chunks
    site.start_worker()
    wait_for(lambda: proxy.refused)
    proxy.mode = mode
    Timer(4, lambda: setattr(proxy, "mode", "pass")).start()
    site.wait_over(batch_id, 120)
    assert proxy.refused
    check(site, batch_id, ENOUGH)


def test_a_store_that_is_gone_at_the_start(site: Site, proxy: FailingProxy) -> None:
    """A run that cannot read its file is tried again, and its status says why it waits."""
    proxy.mode = "gone"
    batch_id = site.batch(rows(10))
    site.start_worker()
    wait_for(lambda: "the spool cannot be reached" in site.get(batch_id).status_msg, 90)
    proxy.mode = "pass"
    site.wait_over(batch_id, 120)
    check(site, batch_id, 10)


def test_the_web_says_what_fails(
    site: Site, object_store: ObjectStore, proxy: FailingProxy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the store fails an upload is 503 and `/readyz` names the spool, as it does where this is not the one that the catalog knows."""
    monkeypatch.setattr(buckets, "_RETRIES", {"max_retries": 0})
    monkeypatch.setattr(buckets, "PAUSE_SECONDS", 0.05)
    for name, value in object_store.environment(proxy.port).items():
        monkeypatch.setenv(name, value)
    web = Web(site.settings)
    try:
        assert "spool: ok" in web.get("/readyz").text
        proxy.mode = "gone"
        reply = web.app.test_client().put("/api/handle/0b6f3c1e-8d5a-4f7b-9c2d-1a2b3c4d5e6f", data=b"x", headers=_as(web))
        assert (reply.status_code, reply.headers["Retry-After"]) == (503, "5")
        assert "spool cannot be reached" in reply.text
        assert "spool: cannot be reached" in web.get("/readyz").text
        proxy.mode = "pass"
        again = web.app.test_client().put("/api/handle/0b6f3c1e-8d5a-4f7b-9c2d-1a2b3c4d5e6f", data=b"x", headers=_as(web))
        assert again.status_code == 200
    finally:
        web.close()
    other = type(site.settings).from_environment(site.environment | {"SPOOL_URL": f"{site.settings.spool_url}/other"})
    say_if_spool_is_another(other)
    assert "not the spool that the catalog knows" in caplog.text
    app = create_app(other)
    reply = app.test_client().get("/readyz")
    app.extensions["lading"].close()
    assert reply.status_code == 503 and "spool: is not the spool that the catalog knows" in reply.text


def test_uploads_in_parts(site: Site) -> None:
    """Parts that come through several processes become one file, by a handle and by the protocol for such uploads."""
    data = rows(2000)
    first, second = Web(site.settings), Web(site.settings)
    try:
        said = {"Content-Range": f"bytes 0-9000/{len(data)}"}
        path = "/api/handle/0b6f3c1e-8d5a-4f7b-9c2d-1a2b3c4d5e6f"
        assert first.app.test_client().put(path, data=data[:9000], headers=_as(first) | said).status_code == 206
        said = {"Content-Range": f"bytes 9000-{len(data)}/{len(data)}"}
        digest = second.app.test_client().put(path, data=data[9000:], headers=_as(first) | said).text
        tus = _as(first) | {"Tus-Resumable": "1.0.0"}
        made = first.app.test_client().post("/api/upload", headers=tus | {"Upload-Length": str(len(data))}).headers["Location"]
        for web, start, end in ((first, 0, 7000), (second, 7000, len(data))):
            sent = tus | {"Upload-Offset": str(start), "Content-Type": "application/offset+octet-stream"}
            reply = web.app.test_client().patch(made, data=data[start:end], headers=sent)
            assert (reply.status_code, reply.headers["Upload-Offset"]) == (204, str(end))
        assert reply.headers["File-Digest"] == digest
        assert site.spool.size(digest) == len(data)
    finally:
        first.close()
        second.close()


def _as(web: Web) -> dict[str, str]:
    return {"Authorization": f"apikey {web.key}"}
