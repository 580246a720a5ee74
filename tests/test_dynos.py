"""A platform's way to run the service: dynos that share no disk, come and go, and find everything in their environment."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from redis.exceptions import RedisError

from catalog import keys
from dev.servers import free_port
from dev.stack import ROOT
from jobs import queues
from settings import Settings
from tests.dyno_parts import PROCESSES, STOP_SECONDS, Dyno, ask, tls_before
from tests.jobs_parts import CONTROL, Site, wait_for

ROWS = b"code,size\n" + b"".join(b"c%d,%d\n" % (n, n) for n in range(1500))


@pytest.fixture(params=["bucket", "mounted folder"])
def site(request: pytest.FixtureRequest, pg_database: str, tmp_path: Path, redis_url: str) -> Iterator[Site]:
    """Give a PostgreSQL database with a table, a Redis behind TLS, and a spool that dynos reach, in the variables that a platform sets."""
    spool = {"SPOOL_URL": f"file:{tmp_path}/mounted/spool"}
    if request.param == "bucket":
        spool = {"SPOOL_URL": request.getfixturevalue("bucket_url")} | request.getfixturevalue("object_store").environment()
    with tls_before(urlsplit(redis_url).port or 0) as port:
        urls = {
            "DATABASE_URL": pg_database.replace("postgresql://", "postgres://"),
            "REDIS_URL": f"rediss://:@127.0.0.1:{port}{urlsplit(redis_url).path}",
        }
        # The test's own copies of what is in the bucket; each dyno keeps its own, on its own disk.
        more = {
            "SPOOL_CACHE": str(tmp_path / "copies"),
            "CHUNK_RECORDS": "100",
            "WAIT_CAP_SECONDS": "20",
            "WEB_CONCURRENCY": "2",
            "SWEEP_SECONDS": "1",
        }
        made = Site(tmp_path, urls | spool | more)
        made.store_control(CONTROL, [("public", "things")], "things")
        yield made
        made.close()


def test_imports_go_on_across_restarts(site: Site, tmp_path: Path) -> None:
    """Both dynos are stopped in the middle of an import, end in time, and come back on empty disks: each row and receipt is there once."""
    port = free_port()
    config = {name: value for name, value in site.environment.items() if name != "SPOOL_CACHE"}
    web = Dyno("web.1", tmp_path / "web", config | {"PORT": str(port)})
    worker = Dyno("worker.1", tmp_path / "worker", config)
    address, key = f"http://127.0.0.1:{port}", keys.create(site.catalog, "k", ["import", "read"])
    site.slow_down()
    try:
        for dyno in (web, worker):
            dyno.start()
        wait_for(lambda: ask(f"{address}/readyz")[0] == 200, 120)
        status, batch = ask(f"{address}/api/import/things", key, ROWS)
        assert status == 202, batch
        wait_for(lambda: site.execute("SELECT count(*) FROM things")[0][0] >= 300)
        status, later = ask(f"{address}/api/import/things", key, b"code,size\nc1,7\n")
        assert status == 202, later
        took = [dyno.stop() for dyno in (web, worker)]
        assert max(took) < STOP_SECONDS
        assert "handed back" in worker.logged()
        assert 300 <= site.execute("SELECT count(*) FROM things")[0][0] < 1500
        site.speed_up()
        for dyno in (web, worker):
            dyno.start()
        wait_for(lambda: ask(f"{address}/readyz")[0] == 200, 120)
        assert ask(f"{address}/api/batch/{batch}?wait=20", key) == (200, "completed input=1500 success=1500 error=0 skip=0")
        assert ask(f"{address}/api/batch/{later}?wait=20", key) == (200, "completed input=1 success=1 error=0 skip=0")
        results = ask(f"{address}/api/batch/{batch}/results", key)[1]
        assert [int(n) for n in re.findall(r"^Core_Data_RecordCreated,[^,]*,Information,(\d+),", results, re.MULTILINE)] == list(
            range(2, 1502)
        )
        assert site.execute("SELECT count(*), sum(size) FROM things") == [(1500, sum(range(1500)) + 6)]
    finally:
        for dyno in (web, worker):
            dyno.kill()


def test_a_certificate_is_checked_where_that_is_asked_for(site: Site) -> None:
    """The platform's own certificate is taken as it is, and refused with `?ssl_cert_reqs=required`."""
    url = site.environment["REDIS_URL"]
    taken, strict = queues.connect(url), queues.connect(f"{url}?ssl_cert_reqs=required")
    assert taken.ping()
    with pytest.raises(RedisError, match=r"(?i)certificate"):
        strict.ping()
    for client in (taken, strict):
        client.close()


def test_app_json_says_what_the_procfile_says() -> None:
    """app.json has the Procfile's processes, add-ons for what they need, and no variables but settings."""
    app = json.loads((ROOT / "app.json").read_text(encoding="utf-8"))
    assert set(app["formation"]) == set(PROCESSES) - {"release"}
    assert {addon["plan"].partition(":")[0] for addon in app["addons"]} >= {"heroku-postgresql", "heroku-redis"}
    variables = {f.name.upper() for f in fields(Settings)} | {
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_REGION",
        "AWS_ENDPOINT_URL",
    }
    assert set(app["env"]) <= variables
    given = {name: said["value"] for name, said in app["env"].items() if said.get("value") and name in variables}
    Settings.from_environment(given)
    assert app["env"]["SECRET_KEY"] == {"description": app["env"]["SECRET_KEY"]["description"], "generator": "secret"}
