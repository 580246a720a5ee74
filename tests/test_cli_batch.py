"""Imports by command, without web process, Redis or worker."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import cli
from catalog.batches import Mode, Options, State
from cli.base import Exit
from dev.servers import end_with_parent
from settings import Settings
from tests.jobs_parts import CONTROL, ROOT, Site, wait_for

NOWHERE = "redis://127.0.0.1:1/0"  # no test but one needs a queue
ROWS = b"code,size\n" + b"".join(b"c%d,%d\n" % (n, n) for n in range(1500))
MIXED = b"code,size\na,1\nb,no\nc,3\na,4\n,5\n"


def site_of(target_url: str, folder: Path, **more: str) -> Site:
    """Make an installation; the catalog lies in the same PostgreSQL database, or beside the SQLite file."""
    urls = {"TARGET_URL": target_url, "SPOOL_URL": f"file:{folder}/spool", "REDIS_URL": NOWHERE}
    urls["CATALOG_URL"] = f"sqlite:///{folder}/catalog.db" if target_url.startswith("sqlite") else target_url
    return Site(folder, urls | {"CHUNK_RECORDS": "100", "LEASE_SECONDS": "2", "HEARTBEAT_SECONDS": "0.5", "SWEEP_SECONDS": "1"} | more)


@pytest.fixture
def site(target_url: str, tmp_path: Path) -> Iterator[Site]:
    """Give an installation without Redis or workers, and its control file beside it."""
    made = site_of(target_url, tmp_path)
    (tmp_path / "control.yaml").write_text(CONTROL, encoding="utf-8")
    yield made
    made.close()


@pytest.fixture
def lite(target_url_sqlite: str, tmp_path: Path) -> Iterator[Site]:
    """Give the same on SQLite, for what no database can change."""
    made = site_of(target_url_sqlite, tmp_path)
    (tmp_path / "control.yaml").write_text(CONTROL, encoding="utf-8")
    yield made
    made.close()


def run(settings: Settings, *words: str) -> Result:
    """Run `flask batch run` in this process."""
    group = next(command for command in cli.commands(settings) if command.name == "batch")
    return CliRunner().invoke(group, ["run", *words])


def imported(site: Site, data: bytes, *words: str) -> Result:
    """Import one file by the site's control file."""
    (site.folder / "things.csv").write_bytes(data)
    return run(site.settings, "--control", str(site.folder / "control.yaml"), *words, str(site.folder / "things.csv"))


def started(site: Site, *words: str) -> subprocess.Popen[str]:
    """Start the command in a process of its own, as users do."""
    command = [sys.executable, "-m", "flask", "batch", "run", "--control", str(site.folder / "control.yaml"), *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=ROOT, env=os.environ | site.environment, stdout=pipe, stderr=pipe, text=True, preexec_fn=end_with_parent
    )


def batch_of(talk: str) -> int:
    """Return the batch that the command spoke of."""
    found = re.search(r"^batch (\d+)", talk, re.MULTILINE)
    assert found, talk
    return int(found[1])


@pytest.mark.parametrize("mode", ["dry-run", "import"])
def test_the_receipts_are_those_of_the_service(target_url: str, tmp_path: Path, redis_url: str, mode: str) -> None:
    """The command prints, byte for byte, what a worker stores for the same files, and the target is the same."""
    site = site_of(target_url, tmp_path, REDIS_URL=redis_url)
    try:
        (tmp_path / "control.yaml").write_text(CONTROL, encoding="utf-8")
        # What differs between two real runs is the id that the database gives a row.
        done = imported(site, MIXED, *(["--dry-run"] if mode == "dry-run" else []))
        rows = site.execute("SELECT code, size FROM things ORDER BY code")
        site.execute("DELETE FROM things")
        other = site.batch(MIXED, Options(Mode(mode)))
        site.start_worker()
        site.wait_over(other)
        assert f"batch_id={other} run=1" in site.logged()
        assert without_ids(done.stdout) == without_ids(site.results(other))
        assert (done.exit_code, "input=5 success=3 error=2" in done.stderr) == (Exit.REFUSED, True)
        assert rows == site.execute("SELECT code, size FROM things ORDER BY code") == ([("a", 4), ("c", 3)] if mode == "import" else [])
    finally:
        site.close()


def without_ids(results: str) -> list[str]:
    """Return the lines of results without the ids of rows."""
    return [re.sub(r",\d*,things\.csv$", ",,things.csv", line) for line in results.splitlines()]


def test_exit_statuses_and_what_goes_where(site: Site) -> None:
    """0 all well, 1 taken back, 2 rows refused; results on stdout or in a file, JSON in their place, all else on stderr."""
    good = imported(site, b"code,size\na,1\n")
    assert (good.exit_code, good.stdout.count("\n")) == (Exit.OK, 2), good.exception
    assert re.fullmatch(r"batch \d+\nbatch \d+: completed input=1 success=1 error=0 skip=0\n", good.stderr)
    taken_back = imported(site, MIXED, "--all-or-none", "--json")
    assert taken_back.exit_code == Exit.FAILED
    status = json.loads(taken_back.stdout)
    assert (status["state"], status["error_count"], status["files"][0]["name"]) == ("failed", 2, "things.csv")
    there = site.folder / "results.csv"
    refused = imported(site, MIXED, "--json", "--results", str(there))
    assert (refused.exit_code, json.loads(refused.stdout)["error_count"]) == (Exit.REFUSED, 2)
    assert there.read_text(encoding="utf-8") == site.results(json.loads(refused.stdout)["id"])


def test_wrong_calls(lite: Site) -> None:
    """A file that is not there, or has no place; a control file that is not there, or has faults; a required file missing: and why."""
    control = lite.folder / "control.yaml"
    control.write_text(CONTROL.replace("Merge}", "Merge, required: true}"), encoding="utf-8")
    data = lite.folder / "data.csv"
    data.write_bytes(b"code,size\n")
    for words, status, reason in [
        (["--control", str(control), "none.csv"], Exit.USAGE, "there is no file none.csv"),
        (["--control", str(control), str(data)], Exit.USAGE, "it has: things.csv"),
        (["--control", "nobody", str(data)], Exit.USAGE, "no control file of this name"),
        (["--control", str(control), f"things.csv={data}", f"things.csv={data}"], Exit.USAGE, "two files"),
        ([str(data)], Exit.USAGE, "--control"),
        (["--control", str(data), str(data)], Exit.FAILED, "faults"),
    ]:
        refused = run(lite.settings, *words)
        assert (refused.exit_code, refused.stdout) == (status, ""), refused.output
        assert reason in refused.stderr
    more = "- entity: Other\n  table: other\n  input: [a]\n  mappings: [{a: }]\n"
    control.write_text(CONTROL.replace("action: Merge", "action: Merge, sort: 1") + more, encoding="utf-8")
    refused = run(lite.settings, "--control", str(control), f"things.csv={data}")
    both = "line 3" in refused.stderr and "line 13" in refused.stderr  # what has a wrong shape, and what the target lacks
    assert (refused.exit_code, both) == (Exit.FAILED, True), refused.output


def test_it_needs_nothing_but_the_target(target_url_sqlite: str, tmp_path: Path) -> None:
    """Where there is no catalog, ledger or spool yet, they are made; a control file is known by its digest then."""
    at = {"TARGET_URL": target_url_sqlite, "CATALOG_URL": f"sqlite:///{tmp_path}/new/catalog.db", "SPOOL_URL": f"file:{tmp_path}/new/spool"}
    settings = Settings.from_environment(at | {"REDIS_URL": NOWHERE})
    site_of(target_url_sqlite, tmp_path).close()
    (tmp_path / "control.yaml").write_text(CONTROL, encoding="utf-8")
    (tmp_path / "out.csv").write_bytes(b"code,size\na,1\n")
    first = run(settings, "--control", str(tmp_path / "control.yaml"), "--json", f"things.csv={tmp_path}/out.csv")
    assert first.exit_code == Exit.OK, first.output
    again = run(settings, "--control", json.loads(first.stdout)["control"], f"things.csv={tmp_path}/out.csv")
    assert (again.exit_code, "skip=1" in again.stderr) == (Exit.OK, True)


def test_an_unreachable_target_or_catalog(tmp_path: Path) -> None:
    """A database that does not answer is named, and the exit status is 69."""
    (tmp_path / "control.yaml").write_text(CONTROL, encoding="utf-8")
    (tmp_path / "things.csv").write_bytes(b"code,size\n")
    nowhere = "postgresql://nobody@127.0.0.1:1/nothing"
    for name in ("TARGET_URL", "CATALOG_URL"):
        at = {"TARGET_URL": f"sqlite:///{tmp_path}/t.db", "CATALOG_URL": f"sqlite:///{tmp_path}/c.db", name: nowhere}
        settings = Settings.from_environment(at | {"SPOOL_URL": f"file:{tmp_path}/spool"})
        failed = run(settings, "--control", str(tmp_path / "control.yaml"), str(tmp_path / "things.csv"))
        assert (failed.exit_code, failed.stdout) == (Exit.UNREACHABLE, "")
        assert name.partition("_")[0].lower() in failed.stderr


def test_what_waits_before_it_comes_first(site: Site) -> None:
    """A batch of the same table that was scheduled earlier is carried out before the command's own, one scheduled later is left alone."""
    earlier = site.batch(b"code,size\na,1\n")
    done = imported(site, b"code,size\na,2\n")
    assert done.exit_code == Exit.OK
    assert site.get(earlier).state is State.COMPLETED
    assert site.execute("SELECT code, size FROM things") == [("a", 2)]


def test_a_killed_one_goes_on_where_it_was(site: Site) -> None:
    """After kill -9 the same command goes on with the same batch, after its last committed chunk: every row once, every receipt once."""
    (site.folder / "things.csv").write_bytes(ROWS)
    site.slow_down()
    first = started(site, str(site.folder / "things.csv"))
    wait_for(lambda: site.execute("SELECT count(*) FROM things")[0][0] >= 300)
    first.kill()
    talk = first.communicate()[1]
    before = site.execute("SELECT count(*) FROM things")[0][0]
    assert before < 1500
    site.speed_up()
    second = imported(site, ROWS)
    assert second.exit_code == Exit.OK, second.output
    assert "goes on" in second.stderr
    assert batch_of(talk) == batch_of(second.stderr)
    assert site.execute("SELECT count(*), min(size), max(size) FROM things") == [(1500, 0, 1499)]
    assert second.stdout.count("Core_Data_RecordCreated") == 1500


def test_sigterm_ends_it_at_a_chunk_border(site: Site) -> None:
    """On SIGTERM the command hands its batch back within seconds and exits with 3; the same command goes on with it."""
    (site.folder / "things.csv").write_bytes(ROWS)
    site.slow_down()
    first = started(site, str(site.folder / "things.csv"))
    wait_for(lambda: site.execute("SELECT count(*) FROM things")[0][0] >= 300)
    first.send_signal(signal.SIGTERM)
    assert first.wait(30) == Exit.UNFINISHED
    results, talk = first.communicate()
    assert (results, "not finished" in talk) == ("", True)
    assert site.get(batch_of(talk)).state is State.SCHEDULED
    site.speed_up()
    second = imported(site, ROWS)
    assert (second.exit_code, second.stdout.count("Core_Data_RecordCreated")) == (Exit.OK, 1500)
