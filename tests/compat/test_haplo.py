"""Haplo's batch import: its four steps, as its scripts send them."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from werkzeug.test import TestResponse

from catalog import batches
from tests.engine_parts import sql
from tests.security_parts import got, look, work_off
from tests.upload_parts import running
from tests.web_parts import BAD_CONTROL, CONTROL, Web, lite, web

__all__ = ["lite", "web"]

BASE = "/api/haplo-data-import-batch"
DATA = b"carrier,name\nAA,American\nBB,Best\n"
DIGEST = hashlib.sha256(CONTROL).hexdigest()


def send(web: Web, step: str, key: str | None = None, form: bool = False, **fields: Any) -> TestResponse:
    """Send a step as the scripts do: the key is the password of the user `haplo`."""
    password = b64encode(f"haplo:{key or web.key}".encode()).decode()
    files = {name: (BytesIO(value), f"{name}.dat") if isinstance(value, bytes) else value for name, value in fields.items()}
    kind = {"content_type": "multipart/form-data"} if form or step in ("control", "file") else {}
    return web.app.test_client().post(f"{BASE}/{step}", data=files, headers={"Authorization": f"Basic {password}"}, **kind)


def said(reply: TestResponse) -> tuple[int, str]:
    """Return a reply's status and its text, which is plain in all of them."""
    look(reply, reply.request.path)
    assert reply.content_type == "text/plain; charset=utf-8"
    return reply.status_code, reply.text


def filled(web: Web) -> str:
    """Make a batch that has its one required file."""
    assert send(web, "control", file=CONTROL).status_code == 200
    batch = send(web, "batch", control=DIGEST).text
    assert send(web, "file", batch=batch, name="airlines.csv", file=DATA).status_code == 200
    return batch


def test_the_four_steps(web: Web) -> None:
    """Each step answers 200 with the bare value, and the file's rows end in the table."""
    assert said(send(web, "control", comment="Airlines", file=CONTROL)) == (200, DIGEST)
    status, batch = said(send(web, "batch", comment="Nightly", control=DIGEST))
    assert (status, batch.isdecimal()) == (200, True)
    stored = said(send(web, "file", batch=batch, name="airlines.csv", file=DATA))
    assert stored == (200, hashlib.sha256(DATA).hexdigest())
    assert said(send(web, "schedule", batch=batch)) == (200, "SCHEDULED")
    work_off(web)
    assert sql(web.settings.target_url, "SELECT carrier, name FROM airlines ORDER BY carrier") == [("AA", "American"), ("BB", "Best")]
    found = web.get(f"/api/batch/{batch}", headers={"Accept": "application/json"}).json
    assert found is not None
    assert (found["state"], found["comment"], found["success_count"]) == ("completed", "Nightly", 2)


def test_a_dry_run(web: Web) -> None:
    """`mode=dry-run` changes nothing in the table; the log tells what would have been."""
    batch = filled(web)
    assert said(send(web, "schedule", batch=batch, mode="dry-run")) == (200, "SCHEDULED")
    work_off(web)
    assert sql(web.settings.target_url, "SELECT * FROM airlines") == []
    assert web.get(f"/api/batch/{batch}").text == "completed input=2 success=2 error=0 skip=0"
    assert len(got(web, f"/api/batch/{batch}/results").text.splitlines()) == 3


@pytest.mark.parametrize("mode", ["import", ""])
def test_modes_that_are_no_dry_run(lite: Web, mode: str) -> None:
    """Without a mode, or with an empty one, the import is for good."""
    batch = filled(lite)
    assert said(send(lite, "schedule", batch=batch, mode=mode)) == (200, "SCHEDULED")
    work_off(lite)
    assert len(sql(lite.settings.target_url, "SELECT * FROM airlines")) == 2


@pytest.mark.parametrize("mode", ["dryrun", "DRY-RUN", " dry-run", "true"])
def test_a_misspelt_mode_is_no_import(lite: Web, mode: str) -> None:
    """A mode that only resembles a dry run is refused, and the batch still waits: it never becomes a real import."""
    batch = filled(lite)
    status, text = said(send(lite, "schedule", batch=batch, mode=mode))
    assert (status, text.splitlines()[0]) == (400, "Bad request (failed validation)")
    assert lite.get(f"/api/batch/{batch}").text.startswith("uploading")
    in_query = lite.post(f"{BASE}/schedule?mode=dry-run", {"batch": batch})
    assert in_query.status_code == 400
    assert lite.post(f"{BASE}/control?comment=x", {"file": (BytesIO(CONTROL), "c")}).status_code == 400
    named = {"batch": batch, "name": "more.csv", "file": (BytesIO(DATA), "f")}
    assert lite.post(f"{BASE}/file?name=airlines.csv", named).status_code == 400
    assert lite.get(f"/api/batch/{batch}").text.startswith("uploading")


def test_comments_are_optional(lite: Web) -> None:
    """Without a comment, or with an empty one, a control file and a batch have one that says so."""
    batch = filled(lite)
    unnamed = send(lite, "batch", control=DIGEST, comment="").text
    assert send(lite, "control", file=CONTROL, comment="").status_code == 200
    made = batches.get(lite.catalog, int(unnamed))
    assert made is not None and made.comment == "Unnamed batch"
    found = batches.get(lite.catalog, int(batch))
    assert found is not None and found.comment == "Unnamed batch"
    listed = lite.get("/api/controls", headers={"Accept": "application/json"}).get_json()["uploads"]
    assert [(e["digest"], e["comment"]) for e in listed] == [(DIGEST, "Unnamed control file")]
    assert send(lite, "control", file=CONTROL, comment="x" * 2001).status_code == 400
    assert send(lite, "batch", control=DIGEST, comment="x" * 2001).status_code == 400


def test_another_comment_is_a_second_entry(lite: Web) -> None:
    """The same control file with another comment is kept a second time, with the same one not; its digest is the same always."""
    for comment in ("Nightly", "Weekly", "Nightly"):
        assert said(send(lite, "control", comment=comment, file=CONTROL)) == (200, DIGEST)
    listed = lite.get("/api/controls", headers={"Accept": "application/json"}).get_json()["uploads"]
    assert [(e["digest"], e["comment"]) for e in listed] == [(DIGEST, "Weekly"), (DIGEST, "Nightly")]
    limited = lite.new_key("import", limits={"controls": ["others"]})
    assert lite.get("/api/controls", key=limited, headers={"Accept": "application/json"}).get_json()["uploads"] == []


def test_a_control_file_needs_no_second_upload(lite: Web) -> None:
    """A control file that anybody has uploaded serves every key by its digest."""
    digest = lite.control()
    other = lite.new_key("import")
    status, batch = said(send(lite, "batch", key=other, control=digest))
    assert status == 200
    assert said(send(lite, "file", key=other, batch=batch, name="airlines.csv", file=DATA))[0] == 200
    assert said(send(lite, "schedule", key=other, batch=batch)) == (200, "SCHEDULED")


def test_refusals(lite: Web) -> None:
    """What is not there, or comes too late, is 400 with the text that scripts look for, without a newline."""
    unknown = "0" * 64
    assert said(send(lite, "batch", control=unknown)) == (400, f"Control file not found: {unknown}")
    for none in ("4711", "abc", "0", "9" * 40):
        assert said(send(lite, "file", batch=none, name="airlines.csv", file=DATA)) == (400, f"Batch not found: {none}")
        assert said(send(lite, "schedule", batch=none)) == (400, f"Batch not found: {none}")
    batch = filled(lite)
    assert send(lite, "schedule", batch=batch, mode="dry-run").status_code == 200
    late = f"Batch {batch} is not in the 'uploading' state"
    for mode in ("dry-run", "import"):
        assert said(send(lite, "schedule", batch=batch, mode=mode)) == (400, late)
    assert said(send(lite, "file", batch=batch, name="more.csv", file=DATA)) == (400, late)
    work_off(lite)
    assert said(send(lite, "schedule", batch=batch)) == (400, late)


def test_of_many_that_schedule_one_does(lite: Web) -> None:
    """Of requests that come at once one is answered SCHEDULED, and each other that the batch takes nothing in any more."""
    batch = filled(lite)
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: said(send(lite, "schedule", batch=batch)), range(8)))
    late = (400, f"Batch {batch} is not in the 'uploading' state")
    assert sorted(replies) == [(200, "SCHEDULED"), *[late] * 7]


def test_anothers_batch_is_not_found(lite: Web) -> None:
    """A batch of another key's is answered like one that never was (T87)."""
    batch, stranger = filled(lite), lite.new_key("import", "read")
    assert said(send(lite, "schedule", key=stranger, batch=batch)) == (400, f"Batch not found: {batch}")
    assert said(send(lite, "file", key=stranger, batch=batch, name="more.csv", file=DATA)) == (400, f"Batch not found: {batch}")


def test_faults_of_a_control_file(lite: Web) -> None:
    """A control file with faults is 400, all of them told, and nothing of it is kept."""
    worse = BAD_CONTROL + b"surplus: 1\n"
    status, text = said(send(lite, "control", file=worse))
    first, *faults = text.splitlines()
    assert (status, first) == (400, "Invalid control file:")
    assert "airliners" in text and "surplus" in text and all(re.match("  line [0-9]+: [a-z]", fault) for fault in faults)
    assert said(send(lite, "batch", control=hashlib.sha256(worse).hexdigest()))[0] == 400


def test_a_control_file_in_json(lite: Web) -> None:
    """A control file may be JSON, as Haplo's own are."""
    as_json = json.dumps(yaml.safe_load(CONTROL)).encode()
    digest = hashlib.sha256(as_json).hexdigest()
    assert said(send(lite, "control", file=as_json)) == (200, digest)
    batch = send(lite, "batch", control=digest).text
    assert said(send(lite, "file", batch=batch, name="airlines.csv", file=DATA))[0] == 200


def test_missing_parameters(lite: Web) -> None:
    """A step without what it needs is 400; so is a file that the control file has no place for, and a batch without a required one."""
    batch = filled(lite)
    fields: list[tuple[str, dict[str, Any]]] = [
        ("control", {"comment": "x"}), ("batch", {"comment": "x"}), ("schedule", {"mode": "dry-run"}),
        ("file", {"batch": batch, "file": DATA}), ("file", {"name": "airlines.csv", "file": DATA}),
        ("file", {"batch": batch, "name": "airlines.csv"}),
    ]  # fmt: skip
    for step, given in fields:
        status, text = said(send(lite, step, **given))
        assert (status, text.splitlines()[0]) == (400, "Bad request (failed validation)"), step
    assert said(send(lite, "file", batch=batch, name="planes.csv", file=DATA))[0] == 400
    empty = send(lite, "batch", control=DIGEST).text
    assert said(send(lite, "schedule", batch=empty))[0] == 400


def test_a_name_sent_twice_is_replaced(lite: Web) -> None:
    """Of two files of one name the later one is imported."""
    batch = filled(lite)
    later = b"carrier,name\nCC,Later\n"
    assert said(send(lite, "file", batch=batch, name="airlines.csv", file=later)) == (200, hashlib.sha256(later).hexdigest())
    assert send(lite, "schedule", batch=batch).status_code == 200
    work_off(lite)
    assert sql(lite.settings.target_url, "SELECT carrier FROM airlines") == [("CC",)]


def test_the_key(lite: Web) -> None:
    """The key is the password of the user `haplo`, or stands in X-ONEIS-Key; a wrong one is refused, and one without permission too."""
    client = lite.app.test_client()
    control = {"control": lite.control()}
    assert client.post(f"{BASE}/batch", data=control, headers={"X-ONEIS-Key": lite.key}).status_code == 200
    assert client.post(f"{BASE}/batch", data=control, headers={"x-oneis-key": lite.key}).status_code == 200
    assert client.post(f"{BASE}/batch", data=control, headers={"X-ONEIS-Key": "lad_0_0"}).status_code == 401
    assert client.post(f"{BASE}/batch", data=control).status_code == 401
    assert client.post("/api/batch", data=control, headers={"X-ONEIS-Key": lite.key}).status_code == 401
    assert said(send(lite, "batch", key=lite.new_key("read"), control=DIGEST))[0] == 403


def test_only_post(lite: Web) -> None:
    """The four paths take POST and nothing else."""
    for step in ("control", "batch", "file", "schedule"):
        for method in ("GET", "PUT", "DELETE", "PATCH"):
            reply = lite.app.test_client().open(f"{BASE}/{step}", method=method, headers={"X-ONEIS-Key": lite.key})
            assert reply.status_code == 405


def test_fields_that_nobody_knows(lite: Web) -> None:
    """Fields and names in the query that the steps do not know are passed over."""
    batch = filled(lite)
    assert said(send(lite, "batch", control=DIGEST, kind="x"))[0] == 200
    assert lite.post(f"{BASE}/schedule?x=1?y=2", {"batch": batch, "z": "3"}).status_code == 200


SCRIPT = """
set -euo pipefail
control=$(curl -sSf --user "haplo:$KEY" -F comment=Airlines -F file=@control.yaml "$SERVER/control")
batch=$(curl -sSf --user "haplo:$KEY" -d control="$control" -d comment=Nightly "$SERVER/batch")
curl -sSf --user "haplo:$KEY" -F batch="$batch" -F name=airlines.csv -F file=@airlines.csv "$SERVER/file" > digest
mode=$(curl -sSf --user "haplo:$KEY" -d batch="$batch" -d mode=dry-run "$SERVER/schedule")
again=$(curl -sS --user "haplo:$KEY" -d batch="$batch" -w ' %{http_code}' "$SERVER/schedule")
echo "$control|$mode|${again/$batch/B}"
"""


def test_a_script_of_curl(tmp_path: Path) -> None:
    """A shell script of the four calls, made by curl itself, runs through against the served application."""
    sql(f"sqlite:///{tmp_path / 'target.db'}", "CREATE TABLE airlines (carrier varchar(2) PRIMARY KEY, name text NOT NULL)")
    (tmp_path / "control.yaml").write_bytes(CONTROL)
    (tmp_path / "airlines.csv").write_bytes(DATA)
    with running(tmp_path, 1_000_000) as served:
        environment = {"KEY": served.key, "SERVER": served.url + BASE, "PATH": "/usr/bin:/bin"}
        run = subprocess.run(["bash", "-c", SCRIPT], cwd=tmp_path, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    assert run.stdout == f"{DIGEST}|SCHEDULED|Batch B is not in the 'uploading' state 400\n"
    assert (tmp_path / "digest").read_text() == hashlib.sha256(DATA).hexdigest()
