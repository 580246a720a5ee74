"""What is deleted after its time, and above all what is not, on catalogs in SQLite and PostgreSQL."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy import update

import clock
from catalog import batches, controls, files, retention as catalog_retention, tables
from catalog.batches import Attached, Claim, Counts, Mode, Options, State
from catalog.database import writing
from errors import Refusal
from jobs import retention
from spool import Spool, open_spool
from tests.catalog_parts import at_once
from tests.spool_parts import Place, place
from tests.web_parts import Web, web_on_each_spool

__all__ = ["place", "web_on_each_spool"]
LANE = [(None, "airlines")]


def spool_of(web: Web) -> Spool:
    """Return the spool."""
    return open_spool(web.settings.spool_url, web.settings.spool_cache)


def stored(web: Web, data: bytes) -> str:
    """Put bytes into the spool; return their digest."""
    with spool_of(web).receive() as receiver:
        receiver.write(data)
        return receiver.commit()[0]


def uploaded(web: Web, data: bytes) -> str:
    """Upload a file; return its digest."""
    digest = stored(web, data)
    files.add(web.catalog, digest, len(data), key_id=web.key.split("_")[1], name="x.csv")
    return digest


Age = Callable[[int], None]
# What is held by the catalog alone: no spool makes a difference.
OF_THE_CATALOG = pytest.mark.parametrize("place", ["folder"], indirect=True)


@pytest.fixture
def web(web_on_each_spool: Web) -> Web:
    """Give the application on each database, its spool in a folder and in a bucket."""
    return web_on_each_spool


@pytest.fixture
def age(web: Web, place: Place, monkeypatch: pytest.MonkeyPatch) -> Age:
    """Give what makes everything that is there older by some days."""
    return partial(_age, web, place, monkeypatch)


def _age(web: Web, place: Place, monkeypatch: pytest.MonkeyPatch, days: int) -> None:
    ago = clock.now() - timedelta(days=days)
    with writing(web.catalog) as connection:
        connection.execute(update(tables.files).values(used_at=ago))
        connection.execute(update(tables.runs).where(tables.runs.c.completed_at.is_not(None)).values(completed_at=ago))
    place.age(days * 86400, monkeypatch)


def batch_with(web: Web, digest: str, mode: Mode | None = None) -> int:
    """Make a batch with this file, and schedule it if a mode is given."""
    batch_id = int(web.batch())
    batches.attach(web.catalog, batch_id, "airlines.csv", digest)
    if mode:
        batches.schedule(web.catalog, batch_id, Options(mode), LANE)
    return batch_id


def claimed(web: Web) -> Claim:
    """Claim the next batch."""
    claim = batches.claim(web.catalog, "a test", 3600)
    assert claim is not None
    return claim


def ended(web: Web, claim: Claim, results: bytes | None = None) -> None:
    """End a claimed run."""
    told = {"results_digest": stored(web, results), "results_size": len(results)} if results else {}
    assert batches.finish(web.catalog, claim.batch_id, claim.fence, state=State.COMPLETED, counts=Counts(), **told)


def sweep(web: Web) -> None:
    """Do what the sweep does of this."""
    retention.files_and_results(web.catalog, spool_of(web), web.settings)


def is_there(web: Web, digest: str) -> bool:
    """Tell whether a file can be looked at and its bytes are there; one without the other is wrong."""
    status, size = web.get(f"/api/file/{digest}").status_code, spool_of(web).size(digest)
    assert (status == 200) == (size is not None)
    return status == 200


def test_a_file_that_nobody_uses_goes_after_its_time(web: Web, age: Age, caplog: pytest.LogCaptureFixture) -> None:
    """T63: an old file without a batch is deleted, and the log tells; one sent again, or given to a batch, has its time anew."""
    old, again, attached = (uploaded(web, name) for name in (b"old", b"again", b"attached"))
    age(31)
    uploaded(web, b"again")
    batch_with(web, attached)
    with caplog.at_level(logging.INFO, "jobs.retention"):
        sweep(web)
    assert [is_there(web, digest) for digest in (old, again, attached)] == [False, True, True]
    assert f"deleted {old} from the spool" in caplog.text
    assert uploaded(web, b"old") == old and is_there(web, old)


def test_a_file_stays_as_long_as_a_run_may_need_it(web: Web, age: Age) -> None:
    """T63: however old, the file of a scheduled or running batch stays, and for its time after the run's end; then it goes."""
    digest = uploaded(web, b"carrier,name\n")
    batch_id = batch_with(web, digest, Mode.DRY_RUN)
    age(400)
    sweep(web)
    assert is_there(web, digest)
    claim = claimed(web)
    sweep(web)
    assert is_there(web, digest)
    ended(web, claim)
    sweep(web)
    assert is_there(web, digest)
    age(31)
    sweep(web)
    assert not is_there(web, digest)
    assert [file.digest for file in batches.files(web.catalog, batch_id)] == [digest]
    reply = web.post("/api/schedule", {"batch": str(batch_id)})
    assert reply.status_code == 410 and "airlines.csv: This file is no longer kept" in reply.text
    assert batches.get(web.catalog, batch_id).state is State.COMPLETED  # type: ignore[union-attr]
    uploaded(web, b"carrier,name\n")
    assert web.post("/api/schedule", {"batch": str(batch_id)}).status_code == 200


@OF_THE_CATALOG
def test_attaching_races_the_sweep(web: Web, age: Age) -> None:
    """T63: a file that is given to a batch while the sweep gives it up is either kept, or the request is refused."""
    outcomes = set()
    for number in range(25):
        digest, batch_id = uploaded(web, b"race %d" % number), int(web.batch())
        age(31)
        since = clock.now() - timedelta(days=30)
        attached, expired = at_once(
            lambda batch_id=batch_id, digest=digest: batches.attach(web.catalog, batch_id, "airlines.csv", digest),  # type: ignore[misc]
            lambda digest=digest, since=since: catalog_retention._expire(web.catalog, digest, since),  # type: ignore[misc]
        )
        outcomes.add(expired)
        if expired:
            assert isinstance(attached, Refusal) and attached.status == 404
            assert batches.files(web.catalog, batch_id) == []
        else:
            assert attached is Attached.ADDED and is_there(web, digest)
    assert outcomes <= {True, False}


@OF_THE_CATALOG
def test_scheduling_races_the_sweep(web: Web, age: Age) -> None:
    """T63: a batch that is scheduled while the sweep gives its file up has the file, or is refused and stays as it was."""
    for number in range(25):
        digest = uploaded(web, b"race %d" % number)
        batch_id = batch_with(web, digest)
        age(31)
        since = clock.now() - timedelta(days=30)
        scheduled, expired = at_once(
            lambda batch_id=batch_id: batches.schedule(web.catalog, batch_id, Options(), LANE),  # type: ignore[misc]
            lambda digest=digest, since=since: catalog_retention._expire(web.catalog, digest, since),  # type: ignore[misc]
        )
        batch = batches.get(web.catalog, batch_id)
        assert batch is not None
        if expired:
            assert isinstance(scheduled, Refusal) and scheduled.code == "files_expired"
            assert batch.state is State.UPLOADING and batch.run is None
        else:
            assert expired is False and batch.state is State.SCHEDULED and is_there(web, digest)


@OF_THE_CATALOG
def test_the_sweep_waits_for_a_schedule_that_is_under_way(web: Web, age: Age) -> None:
    """T63: a schedule that has looked at its files, and is not committed yet, keeps them."""
    digest = uploaded(web, b"x")
    batch_id = batch_with(web, digest)
    age(31)
    with ThreadPoolExecutor(1) as pool:
        with writing(web.catalog) as connection:
            catalog_retention.keep_for_run(connection, batch_id)
            expiring = pool.submit(catalog_retention._expire, web.catalog, digest, clock.now() - timedelta(days=30))
            assert wait([expiring], 0.5).done == set()
            connection.execute(update(tables.batches).where(tables.batches.c.id == batch_id).values(state=State.SCHEDULED))
        assert expiring.result() is False
    assert is_there(web, digest)


def test_bytes_that_something_else_needs_stay(web: Web, age: Age) -> None:
    """T63: where a file's bytes are a control file's or a run's results too, they stay when the file goes; what nothing names goes."""
    as_control, as_results, orphan, young = uploaded(web, b"files: {}"), uploaded(web, b"#Code\n"), stored(web, b"orphan"), b"young orphan"
    controls.add(web.catalog, as_control, key_id="k", tables=[])
    batch_with(web, uploaded(web, b"x"), Mode.IMPORT)
    ended(web, claimed(web), b"#Code\n")
    age(31)
    stored(web, young)
    sweep(web)
    spool = spool_of(web)
    assert web.get(f"/api/file/{as_control}").status_code == web.get(f"/api/file/{as_results}").status_code == 404
    kept = (as_control, as_results, hashlib.sha256(young).hexdigest())
    assert [spool.size(digest) is not None for digest in (*kept, orphan)] == [True, True, True, False]


def test_results_go_after_their_time(web: Web, age: Age) -> None:
    """Results are kept for as long as it is said; afterwards asking for them is 410, and the status still tells the counts."""
    batch_id = batch_with(web, uploaded(web, b"x"), Mode.IMPORT)
    ended(web, claimed(web), b"#Code,Message,Severity,LineNumber,Properties,EntityId,File\n")
    age(364)
    sweep(web)
    assert web.get(f"/api/batch/{batch_id}/results", buffered=True).status_code == 200
    age(366)
    sweep(web)
    for path in ("results", "results?severity=Error", "errors", "failed/airlines.csv"):
        reply = web.get(f"/api/batch/{batch_id}/{path}", headers={"Accept": "application/json"})
        assert (reply.status_code, reply.get_json()["code"]) == (410, "no_longer_kept"), path
    assert web.get(f"/api/batch/{batch_id}").text.startswith("completed ")
