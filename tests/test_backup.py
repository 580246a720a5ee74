"""A backup that is made while imports run, and what comes of it when it is brought back."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner

import cli
from catalog import batches
from catalog.batches import Beat, Options, State
from cli.base import Exit
from engine.target import open_target
from spool.bucket import Bucket
from tests import postgresql
from tests.jobs_parts import CONTROL, Site, wait_for
from tests.web_parts import Web, lite

__all__ = ["lite"]

INSERTED = CONTROL.replace("Merge}", "Insert}").replace("  - id: {converter: {type: CodeReferenceLookup, input: code, column: code}}\n", "")
MANY = 3000  # records of three chunks, the results of each too large for the ledger's own row


def rows(name: str, slow: int) -> bytes:
    """Return records of which some of the last chunk are slow."""
    sizes = (300 if 2000 <= n < 2000 + slow else n % 300 for n in range(MANY))
    return b"code,size\n" + b"".join(f"{name}{n:0>19},{size}\n".encode() for n, size in enumerate(sizes))


@pytest.fixture(params=["folder", pytest.param("bucket", marks=pytest.mark.slow)])
def spools(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """Give the URLs of a spool and of its copy, which is not there yet: folders, and in another run of the test prefixes of a bucket."""
    if request.param == "folder":
        return f"file:{tmp_path}/first/spool", f"file:{tmp_path}/second/spool"
    url = request.getfixturevalue("bucket_url")
    return url, f"{url}-copy"


@pytest.fixture
def site(target_url: str, tmp_path: Path, redis_url: str, spools: tuple[str, str]) -> Iterator[Site]:
    """Give an installation that only inserts, so that nothing done twice goes unseen."""
    (tmp_path / "first").mkdir()
    catalog_url = f"sqlite:///{tmp_path}/first/catalog.db" if target_url.startswith("sqlite") else target_url
    made = installation(tmp_path / "first", target_url, catalog_url, redis_url, spools[0])
    yield made
    made.close()


def installation(folder: Path, target_url: str, catalog_url: str, redis_url: str, spool_url: str) -> Site:
    """Return an installation with this target, catalog, Redis and spool, which keeps all else in its folder."""
    urls = {"TARGET_URL": target_url, "CATALOG_URL": catalog_url, "SPOOL_URL": spool_url, "REDIS_URL": redis_url}
    urls["SPOOL_CACHE"] = f"{folder}/copies"
    return Site(folder, urls | {"CHUNK_RECORDS": "1000", "LEASE_SECONDS": "2", "HEARTBEAT_SECONDS": "0.5", "SWEEP_SECONDS": "0.5"})


def spool(site: Site, *words: str) -> None:
    """Run `flask spool`."""
    group = next(command for command in cli.commands(site.settings) if command.name == "spool")
    done = CliRunner().invoke(group, words)
    assert done.exit_code == Exit.OK, done.output


def committed(site: Site) -> int:
    """Return how many chunks of all runs the ledger names."""
    target = open_target(site.settings.target_url)
    try:
        return sum(len(target.entries(run)) for run in target.runs())
    finally:
        target.close()


def copy_sqlite(source: Path, copy: Path) -> None:
    """Copy a database that is in use, as `sqlite3 FILE .backup` does."""
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(copy)) as new:
        old.backup(new)


def copy_spool(url: str, copy: str) -> None:
    """Copy all that a spool has, as `cp -a` or `rclone copy` do."""
    if url.startswith("file:"):
        shutil.copytree(url.removeprefix("file:"), copy.removeprefix("file:"))
        return
    old, new = Bucket(url), Bucket(copy)
    for meta in old.below(""):
        new.put(meta.key, old.get(meta.key) or b"")


def dumped(url: str, version: str) -> bytes:
    """Dump a PostgreSQL database that is in use."""
    program = postgresql.versions()[version] / "pg_dump"
    return subprocess.run([program, "--format=custom", url], check=True, stdout=subprocess.PIPE).stdout


def test_what_was_running_goes_on(
    site: Site, target_url: str, tmp_path: Path, redis_url: str, spools: tuple[str, str], request: pytest.FixtureRequest
) -> None:
    """Catalog, target and spool copied one after another while imports run come back whole: each row once, each record one result.

    The worst that can be: target and spool are copied only when the runs are over that the catalog's copy calls running and waiting.
    """
    control = site.store_control(INSERTED, [(None if target_url.startswith("sqlite") else "public", "things")])
    ended = site.batch(b"code,size\nearlier,1\n", control=control)
    site.start_worker()
    site.wait_over(ended)
    site.slow_down()
    spool(site, "hold")
    slow = 6 if target_url.startswith("sqlite") else 1000
    running, waiting = site.batch(rows("a", slow), control=control), site.batch(rows("b", slow), control=control)
    wait_for(lambda: committed(site) >= 2 and site.get(running).state is State.RUNNING)
    second = tmp_path / "second"
    second.mkdir()
    if target_url.startswith("sqlite"):
        copy_sqlite(tmp_path / "first" / "catalog.db", second / "catalog.db")
        assert site.get(running).state is State.RUNNING, "too quick for this test"
        site.wait_over(waiting)
        copy_sqlite(Path(target_url.removeprefix("sqlite:///")), second / "target.db")
        restored = (f"sqlite:///{second}/target.db", f"sqlite:///{second}/catalog.db")
    else:
        dump = second / "dump"
        dump.write_bytes(dumped(target_url, request.node.callspec.params["target_url"]))
        site.wait_over(waiting)
        restored = (brought_back(target_url, dump, request.node.callspec.params["target_url"]),) * 2
    copy_spool(*spools)
    spool(site, "release")
    assert site.spool.runs(), "nothing was held"
    site.close()
    back = installation(second, *restored, redis_url, spools[1])
    try:
        for batch in (running, waiting):
            assert back.get(batch).state in (State.RUNNING, State.SCHEDULED)
        spool(back, "release")
        spool(back, "verify")
        back.speed_up()
        back.start_worker()
        for batch, name in ((running, "a"), (waiting, "b")):
            counts = back.wait_over(batch).counts
            assert (counts.created, counts.errors) == (MANY, 0)
            lines = re.findall(r"^Core_Data_RecordCreated,[^,]*,Information,(\d+),", back.results(batch), re.MULTILINE)
            assert list(map(int, lines)) == list(range(2, MANY + 2))
            assert back.execute(f"SELECT count(*) FROM things WHERE code LIKE '{name}0%'") == [(MANY,)]
        assert back.results(ended) == site.results(ended)
        wait_for(lambda: not back.spool.runs())
    finally:
        back.close()


def brought_back(url: str, dump: Path, version: str) -> str:
    """Restore a dump into a database of its own beside the first."""
    server, _, name = url.rpartition("/")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}_back".encode())
    program = postgresql.versions()[version] / "pg_restore"
    subprocess.run([program, "--dbname", f"{server}/{name}_back", str(dump)], check=True)
    return f"{server}/{name}_back"


def test_an_older_catalog_beside_a_newer_target(lite: Web) -> None:
    """After `db restored` nothing runs that may have been carried out since the backup: it has failed, and says so; new imports run."""
    batches_of = [int(lite.ready()) for _ in range(3)]
    for batch_id in batches_of[:2]:
        batches.schedule(lite.catalog, batch_id, Options(), [(None, "airlines")])
    held = batches.claim(lite.catalog, "w", 30)
    assert held is not None
    group = next(command for command in cli.commands(lite.settings) if command.name == "db")
    done = CliRunner().invoke(group, ["restored"], input="y\n")
    assert (done.exit_code, sorted(map(int, done.stdout.split()))) == (Exit.OK, sorted(batches_of[:2])), done.output
    states = [(batch.state, batch.code) for batch in map(partial(batches.get, lite.catalog), batches_of) if batch]
    assert states == [(State.FAILED, "restored"), (State.FAILED, "restored"), (State.UPLOADING, "")]
    assert batches.heartbeat(lite.catalog, held.batch_id, held.fence, 30, 0.5, None) is Beat.LOST
    batches.schedule(lite.catalog, batches_of[2], Options(), [(None, "airlines")])
    claim = batches.claim(lite.catalog, "w", 30)
    assert claim is not None and claim.batch_id == batches_of[2]
