"""A disk that fills up, a real one: under the spool, under the target, under the catalog. It is waited for, and nothing is lost."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import psycopg
import pytest

from catalog.batches import State
from engine.segments import committed
from engine.target import open_target
from errors import SpoolFull
from spool import open_spool
from tests import postgresql
from tests.crash.parts import MANY, assert_whole, running, urls
from tests.jobs_parts import Site, rows, wait_for

pytestmark = pytest.mark.slow
MIB = 1024 * 1024
COUNT = 12_000


def fill(disk: Path, leaving: int = 0) -> None:
    """Leave so many bytes of a disk."""
    with (disk / "ballast").open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError as error:
                assert error.errno == errno.ENOSPC
        file.truncate(file.tell() - leaving)


def make_room(disk: Path) -> None:
    """Take back what `fill` did."""
    (disk / "ballast").unlink()


def start(site: Site, count: int) -> int:
    """Start an import."""
    batch_id = running(site, count, is_awaited=False)
    site.start_worker()
    return batch_id


def assert_whole_and_once(site: Site, batch_id: int, count: int) -> None:
    """See that nothing is missing in the end, and nothing there twice."""
    assert_whole(site, batch_id, count)
    assert site.execute("SELECT count(*), count(DISTINCT code) FROM things") == [(count, count)]


def test_the_disk_of_the_results_is_full_for_a_while(target_url: str, redis_url: str, tmp_path: Path, small_disk: Path) -> None:
    """T29: after two chunks there is no room for the results: the run is tried again, and goes on where it was when there is."""
    site = Site(tmp_path, urls(target_url, redis_url, tmp_path) | {"SPOOL_URL": f"file:{small_disk / 'spool'}", "CHUNK_RECORDS": "2000"})
    try:
        site.store(rows(COUNT))
        fill(small_disk, leaving=300_000)
        batch_id = start(site, COUNT)
        wait_for(lambda: "no room" in site.logged())
        make_room(small_disk)
        assert_whole_and_once(site, batch_id, COUNT)
    finally:
        site.close()


def test_the_disk_of_the_results_stays_full(target_url: str, redis_url: str, tmp_path: Path, small_disk: Path) -> None:
    """T29: without room for ever the run fails, `disk_full`; each row that is in the table has its receipt still."""
    environment = urls(target_url, redis_url, tmp_path) | {"SPOOL_URL": f"file:{small_disk / 'spool'}", "CHUNK_RECORDS": "2000"}
    site = Site(tmp_path, environment | {"RUN_ATTEMPTS": "1"})
    try:
        site.store(rows(COUNT))
        fill(small_disk, leaving=600_000)  # for three chunks at least, whichever two are written side by side
        batch = site.wait_over(start(site, COUNT))
        assert (batch.state, batch.code) == (State.FAILED, "disk_full")
        applied = site.execute("SELECT count(*) FROM things")[0][0]
        target = open_target(target_url)
        lines = b"".join(committed(target, f"{batch.id}-1", site.spool)).splitlines()[1:]
        target.close()
        assert 0 < len(lines) == applied == batch.counts.created < COUNT
    finally:
        site.close()


@pytest.mark.parametrize("which", ["TARGET_URL", "CATALOG_URL"])
def test_the_disk_of_a_sqlite_database_is_full_for_a_while(which: str, redis_url: str, tmp_path: Path, small_disk: Path) -> None:
    """T29, T30: target or catalog cannot commit for want of room: the run goes on from the ledger when there is some."""
    environment = urls(f"sqlite:///{tmp_path / 'target.db'}", redis_url, tmp_path) | {which: f"sqlite:///{small_disk / 'full.db'}"}
    site = Site(tmp_path, environment)
    try:
        site.slow_down()
        batch_id = start(site, MANY)
        wait_for(lambda: site.get(batch_id).counts.input > 0)
        fill(small_disk)
        wait_for(lambda: "full" in site.logged())
        make_room(small_disk)
        site.speed_up()
        assert_whole_and_once(site, batch_id, MANY)
    finally:
        site.close()


def test_the_disk_of_a_postgresql_table_is_full_for_a_while(redis_url: str, tmp_path: Path, small_disk: Path) -> None:
    """T29: the table's disk takes no more pages (SQLSTATE 53100): no record's fault, and the run goes on when it does."""
    server = postgresql.Server.start(next(iter(postgresql.versions().values())))
    place = small_disk / "tablespace"
    place.mkdir()
    if server.as_user:
        os.chown(place, server.as_user["user"], server.as_user["group"])
    with psycopg.connect(server.url("postgres"), autocommit=True) as admin:
        admin.execute(f"CREATE TABLESPACE small LOCATION '{place}'".encode())
        admin.execute("CREATE DATABASE target")
    site = Site(tmp_path, urls(server.url("target"), redis_url, tmp_path))
    try:
        site.execute("ALTER TABLE things SET TABLESPACE small")
        fill(small_disk, leaving=200_000)
        batch_id = start(site, COUNT)
        wait_for(lambda: "No space left" in site.logged())
        make_room(small_disk)
        assert_whole_and_once(site, batch_id, COUNT)
    finally:
        site.close()
        server.stop()


@pytest.mark.parametrize("where", ["folder", "bucket"])
def test_the_disk_of_the_uploads_is_full(where: str, small_disk: Path, request: pytest.FixtureRequest) -> None:
    """T28: an upload that does not fit, here or on its way into a bucket, leaves nothing, and the next one that fits is stored."""
    url = f"file:{small_disk / 'spool'}" if where == "folder" else request.getfixturevalue("bucket_url")
    store = open_spool(url, str(small_disk / "spool"))
    with pytest.raises(SpoolFull), store.receive() as receiver:
        while True:
            receiver.write(b"x" * MIB)
    assert list((small_disk / "spool" / "partial").iterdir()) == []
    with store.receive() as receiver:
        receiver.write(rows(10))
        digest, _ = receiver.commit()
    assert store.size(digest) == len(rows(10))
