"""The commands that look after an installation, and control files without the service."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import fields, replace
from datetime import timedelta
from io import BytesIO
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import update

import cli
import clock
from catalog import batches, files, tables
from catalog.database import writing
from cli.base import Exit
from engine.control import snapshot
from engine.target import open_target
from jobs import queues
from settings import Settings
from spool import open_spool
from tests.engine_parts import sql
from tests.spool_parts import Place, place
from tests.web_parts import BAD_CONTROL, CONTROL, Web, lite, web, web_on_each_spool

__all__ = ["lite", "place", "web", "web_on_each_spool"]
ROOT = Path(__file__).parent.parent


def run(settings: Settings, *words: str) -> Result:
    """Run a command as `flask` does."""
    found = {command.name: command for command in cli.commands(settings)}
    return CliRunner().invoke(found[words[0]], words[1:])


# Control files ---------------------------------------------------------------------------------------------------------------
def test_the_faults_are_those_of_the_service(web: Web, tmp_path: Path) -> None:
    """`control check` finds what the upload finds, word for word, asking the target or its saved tables."""
    bad, saved = tmp_path / "bad.yaml", tmp_path / "tables.json"
    bad.write_bytes(BAD_CONTROL + b"- entity: Two\n  table: none\n  input: [a]\n  mappings: [{a: }]\n")
    reply = web.post("/api/control", {"file": (BytesIO(bad.read_bytes()), "c")}, headers={"Accept": "application/json"})
    saved.write_text(run(web.settings, "control", "tables").stdout, encoding="utf-8")
    offline = Settings.from_environment({"TARGET_URL": "postgresql://nobody@127.0.0.1:1/nothing"})
    for checked in (
        run(web.settings, "control", "check", "--json", str(bad)),
        run(offline, "control", "check", "--json", "--tables", str(saved), str(bad)),
    ):
        assert checked.exit_code == Exit.FAILED
        assert reply.json is not None
        found = json.loads(checked.stdout)["faults"]
        assert [(f["line"], f["path"], f["message"], f["allowed"]) for f in found] == [
            (e.get("line"), e.get("path", ""), e["message"], e.get("allowed", [])) for e in reply.json["errors"]
        ]
    assert run(offline, "control", "check", str(bad)).exit_code == Exit.UNREACHABLE


def test_a_good_control_file_is_good_offline_too(web: Web, tmp_path: Path) -> None:
    """With saved tables a control file without faults passes, and `control generate` prints what the service would."""
    good, saved = tmp_path / "good.yaml", tmp_path / "tables.json"
    good.write_bytes(CONTROL)
    saved.write_text(run(web.settings, "control", "tables").stdout, encoding="utf-8")
    passed = run(web.settings, "control", "check", "--json", "--tables", str(saved), str(good))
    assert (passed.exit_code, json.loads(passed.stdout)["faults"]) == (Exit.OK, [])
    made = run(web.settings, "control", "generate", "--tables", str(saved), "airlines")
    assert made.stdout == web.get("/api/entity/airlines/control").text == run(web.settings, "control", "generate", "airlines").stdout
    assert run(web.settings, "control", "generate", "nothing").exit_code == Exit.FAILED


def test_saved_tables_are_the_tables(target_url: str) -> None:
    """Whatever a table has (keys, references, enums, arrays, generated columns) comes back from JSON as it was reflected."""
    sql(target_url, "CREATE TABLE one (id integer PRIMARY KEY, code varchar(9) UNIQUE NOT NULL, amount numeric(9,2) DEFAULT 1)")
    sql(target_url, "CREATE TABLE two (a integer, b integer REFERENCES one (id), c integer GENERATED ALWAYS AS (a * 2) STORED)")
    if target_url.startswith("postgresql"):
        sql(target_url, "CREATE TYPE mood AS ENUM ('sad', 'glad')")
        sql(target_url, "CREATE TABLE three (m mood, list mood[], at timestamptz, id bigint GENERATED ALWAYS AS IDENTITY)")
    target = open_target(target_url)
    try:
        seen = target.tables()
        loaded, dialect = snapshot.load(json.loads(json.dumps(snapshot.dump(seen, target.dialect))))
        assert (loaded.names(), dialect) == (tuple(seen.names()), target.dialect)
        assert all(loaded.get(*key) == seen.get(*key) for key in seen.names())
    finally:
        target.close()


@pytest.mark.parametrize("text", ["[]", "no", '{"lading_tables": 1, "dialect": "sqlite", "tables": [{}]}', '{"lading_tables": 0}'])
def test_other_files_are_no_tables(lite: Web, tmp_path: Path, text: str) -> None:
    """A file that `control tables` did not write is refused with 64."""
    (tmp_path / "x.json").write_text(text, encoding="utf-8")
    (tmp_path / "c.yaml").write_bytes(CONTROL)
    refused = run(lite.settings, "control", "check", "--tables", str(tmp_path / "x.json"), str(tmp_path / "c.yaml"))
    assert (refused.exit_code, refused.stdout) == (Exit.USAGE, "")


# The spool -------------------------------------------------------------------------------------------------------------------
def test_verify_names_what_is_altered_and_what_is_missing(web_on_each_spool: Web, place: Place) -> None:
    """`spool verify` is content with a whole spool, and names a blob whose bytes are others and a file that is gone."""
    web, store = web_on_each_spool, place.open()
    web.ready()
    whole = run(web.settings, "spool", "verify", "--json")
    assert (whole.exit_code, json.loads(whole.stdout)) == (Exit.OK, {"checked": 2, "altered": [], "missing": {}})
    file, control = sorted(store.digests(0), key=lambda digest: store.size(digest) or 0)
    place.alter(control, b"x" * (store.size(control) or 0))
    assert store.delete(file, 0)
    torn = run(web.settings, "spool", "verify", "--json")
    assert (torn.exit_code, json.loads(torn.stdout)) == (Exit.FAILED, {"checked": 1, "altered": [control], "missing": {file: "file"}})
    assert f"missing {file} (file)" in run(web.settings, "spool", "verify").stdout


def test_sweep_tells_what_it_deleted(web_on_each_spool: Web, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """`spool sweep` deletes a file whose time is over, and says so; what is younger stays."""
    web, store = web_on_each_spool, place.open()
    with store.receive() as receiver:
        receiver.write(b"old")
        digest, size = receiver.commit()
    files.add(web.catalog, digest, size, key_id="k1", name="x.csv")
    kept = run(web.settings, "spool", "sweep", "--json")
    assert json.loads(kept.stdout) == {"uploads": 0, "files": [], "batches": 0, "results": 0, "blobs": []}
    ago = clock.now() - timedelta(days=web.settings.keep_files_days + 1)
    with writing(web.catalog) as connection:
        connection.execute(update(tables.files).values(used_at=ago))
    place.age((web.settings.keep_files_days + 1) * 86400, monkeypatch)
    old = int(web.batch())
    with writing(web.catalog) as connection:
        connection.execute(update(tables.batches).values(created_at=ago))
    swept = run(replace(web.settings, keep_batches_days=1), "spool", "sweep", "--json")
    assert batches.get(web.catalog, old) is None
    assert json.loads(swept.stdout) == {"uploads": 0, "files": [digest], "batches": 1, "results": 0, "blobs": [digest]}
    assert store.size(digest) is None


# The doctor ------------------------------------------------------------------------------------------------------------------
def doctor(**env: str) -> tuple[int, dict[str, list[dict[str, str]]]]:
    """Run `flask doctor --json` with this environment, and none of ours; return its exit status, and what it found by part."""
    cleared: dict[str, str | None] = dict.fromkeys([*(f.name.upper() for f in fields(Settings)), "DATABASE_URL"])
    done = CliRunner(env=cleared | env).invoke(cli.doctor.command(), ["--json"])
    found: dict[str, list[dict[str, str]]] = {}
    for finding in json.loads(done.stdout):
        found.setdefault(finding["part"], []).append(finding)
    assert not done.stderr
    return done.exit_code, found


def environment(settings: Settings) -> dict[str, str]:
    """Return settings as variables."""
    names = ("target_url", "catalog_url", "spool_url", "redis_url")
    return {name.upper(): getattr(settings, name) for name in names}


def test_a_healthy_installation(web: Web) -> None:
    """Where all is well every part is `ok`, and the exit status 0; that no worker lives is doubtful."""
    redis = queues.connect(web.settings.redis_url)
    open_target(web.settings.target_url).create_ledger()
    status, found = doctor(**environment(web.settings))
    assert status == Exit.OK
    assert [f["health"] for f in found["redis"]] == ["ok", "doubtful"]
    redis.config_set("maxmemory-policy", "allkeys-lru")
    assert "(allkeys-lru)" in doctor(**environment(web.settings))[1]["redis"][1]["said"]
    redis.config_set("maxmemory-policy", "noeviction")
    queues.say_alive(redis, "w", open_spool(web.settings.spool_url).marker())
    status, found = doctor(**environment(web.settings))
    assert status == Exit.OK
    assert {f["health"] for each in found.values() for f in each} == {"ok"}
    queues.say_alive(redis, "x", "another")
    status, found = doctor(**environment(web.settings))
    assert (status, found["redis"][-1]["health"]) == (Exit.FAILED, "wrong")
    redis.close()


def test_every_wrong_setting_is_named(tmp_path: Path) -> None:
    """The doctor names all bad settings at once, where any other command says only that one is bad, without a traceback."""
    status, found = doctor(PORT="x", WEB_THREADS="0", TARGET_URL="oracle://u:secret@h/d")
    assert (status, set(found)) == (Exit.FAILED, {"PORT", "WEB_THREADS", "TARGET_URL"})
    assert "secret" not in json.dumps(found)
    for words, status in ((("key", "list", "--json"), Exit.USAGE), (("doctor",), Exit.FAILED)):
        command = [sys.executable, "-m", "flask", *words]
        done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PORT": "x"}, capture_output=True, text=True, check=False)
        assert done.returncode == status
        assert "PORT is 'x'" in (done.stderr if words[0] == "key" else done.stdout)
        assert "Traceback" not in done.stderr
    same = {"TARGET_URL": f"sqlite:///{tmp_path}/x.db", "CATALOG_URL": f"sqlite:///{tmp_path}/x.db"}
    assert set(doctor(**same)[1]) == {"CATALOG_URL"}


def test_what_cannot_be_reached_is_named_with_advice(tmp_path: Path) -> None:
    """With nothing there, each part says so and what to do, and the exit status is 69."""
    nowhere = "postgresql://nobody@127.0.0.1:1/nothing"
    (tmp_path / "file").write_text("x")
    status, found = doctor(
        TARGET_URL=nowhere,
        CATALOG_URL=nowhere,
        REDIS_URL="redis://127.0.0.1:1/0",
        SPOOL_URL=f"file:{tmp_path}/file/spool",
        SMTP_URL="smtp://127.0.0.1:1",
        MAIL_FROM="a@example.org",
    )
    assert status == Exit.UNREACHABLE
    assert all(
        found[part][0]["health"] == "unreachable" and found[part][0]["advice"] for part in ("target", "catalog", "redis", "spool", "mail")
    )


def test_an_old_catalog_and_another_spool(lite: Web, tmp_path: Path) -> None:
    """Tables that are missing want `flask db upgrade`; a spool that is not the catalog's is wrong."""
    lite.get("/readyz")
    open_target(lite.settings.target_url).create_ledger()
    status, found = doctor(**environment(lite.settings) | {"SPOOL_URL": f"file:{tmp_path}/other"})
    assert (status, [f["health"] for f in found["spool"]]) == (Exit.FAILED, ["ok", "wrong"])
    sql(lite.settings.target_url, "DROP TABLE lading_head")
    status, found = doctor(**environment(lite.settings) | {"CATALOG_URL": f"sqlite:///{tmp_path}/none.db"})
    assert "flask db upgrade" in found["catalog"][0]["advice"] and "flask db upgrade" in found["target"][-1]["advice"]
    assert status == Exit.FAILED
