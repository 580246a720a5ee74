"""ELMA365's data import: upload by a hash of the client's choosing, in parts or whole, import into an app, status."""

from __future__ import annotations

import hashlib
import subprocess
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import time_machine
from werkzeug.test import TestResponse

from catalog import batches
from catalog.batches import Counts, State
from dev import demo
from dev.servers import free_port
from dev.stack import Stack
from engine.workbook import workbook
from jobs import retention
from routes import last_second
from tests.engine_parts import sql
from tests.security_parts import work_off
from tests.web_parts import CONTROL, Web, settings_for, web

__all__ = ["web"]

TEMPORARY = "/pub/v1/disk/file/upload"
DIRECTORY = "/pub/v1/disk/directory/5f0c9a3e-2f57-4d0e-9a51-6c0d6f1f2a77/upload"
IMPORT = "/pub/v1/app/crm/airlines/import"
APP = CONTROL.replace(b"name: airlines\n", b"name: crm.airlines\n").replace(b"  more.csv: {entity: Airline, action: Merge}\n", b"")
DATA = b"carrier,name\nAA,American\nUA,United\n"
PART = 5 * 1024 * 1024


@pytest.fixture
def elma(web: Web) -> Web:
    """Give the application with an app: the control file `crm.airlines`."""
    web.control(APP)
    return web


def upload(web: Web, data: bytes, handle: str, path: str = TEMPORARY, content_range: str | None = None, **options: Any) -> TestResponse:
    """Send a file, or a part of it, under a hash."""
    headers = {"Content-Type": "application/octet-stream", "Content-Range": content_range or f"bytes 0-{len(data)}/{len(data)}"}
    return web.post(f"{path}?hash={handle}", data, headers=headers, **options)


def uploaded(web: Web, data: bytes = DATA, path: str = TEMPORARY) -> str:
    """Upload a file and return its hash."""
    handle = str(uuid.uuid4())
    reply = upload(web, data, handle, path)
    assert (reply.status_code, reply.get_json()["success"]) == (200, True), reply.text
    return handle


def start(web: Web, handle: str, form: str | None = "csv", **more: Any) -> TestResponse:
    """Start an import."""
    body = {"fileHash": handle, "format": form, "withEventHandlers": False} | more
    return web.app.test_client().post(IMPORT, json=body, headers={"Authorization": f"Bearer {web.key}"})


def status(web: Web, import_id: str, path: str = IMPORT) -> TestResponse:
    """Ask how an import stands."""
    return web.get(f"{path}/{import_id}")


def test_upload_import_and_status(elma: Web) -> None:
    """A file that is uploaded by its hash and imported into an app ends in its table; the status tells the count, the status and the id."""
    reply = start(elma, uploaded(elma))
    said = reply.get_json()
    assert (reply.status_code, said["status"], said["importedCount"]) == (200, "scheduled", 0)
    work_off(elma)
    told = status(elma, said["id"]).get_json()
    assert (told["id"], told["status"], told["importedCount"], told["errorCount"]) == (said["id"], "completed", 2, 0)
    assert set(said) == set(told)
    assert sorted(sql(elma.settings.target_url, "SELECT * FROM airlines")) == [("AA", "American"), ("UA", "United")]


def test_the_status_counts_what_was_refused(elma: Web) -> None:
    """Items that could not be imported are not counted as imported; the receipts tell of each."""
    import_id = start(elma, uploaded(elma, DATA + b"TOOLONG,x\n")).get_json()["id"]
    work_off(elma)
    told = status(elma, import_id).get_json()
    assert (told["status"], told["importedCount"], told["errorCount"]) == ("completed", 2, 1)
    assert len(elma.get(f"/api/batch/{import_id}/results", buffered=True).text.splitlines()) == 4


def test_a_failed_import_is_told(elma: Web) -> None:
    """An import of a file that cannot be read at all is `failed`, with the reason."""
    import_id = start(elma, uploaded(elma, b"not a workbook"), "xlsx").get_json()["id"]
    work_off(elma)
    told = status(elma, import_id).get_json()
    assert (told["status"], told["importedCount"]) == ("failed", 0) and told["message"]


@pytest.mark.parametrize("form", ["xlsx", ".xlsx", "csv", ".csv", None])
def test_formats(elma: Web, form: str | None) -> None:
    """The format is written with or without its dot; without one the control file says how the file is read."""
    rows = [["carrier", "name"], ["AA", "American"]]
    data = b"".join(workbook(rows)) if form and "xlsx" in form else DATA
    import_id = start(elma, uploaded(elma, data), form).get_json()["id"]
    work_off(elma)
    told = status(elma, import_id).get_json()
    assert (told["status"], told["importedCount"]) == ("completed", 1 if form and "xlsx" in form else 2)


@pytest.mark.parametrize(
    "wrong", [{"format": "xls"}, {"format": 1}, {"withEventHandlers": "perhaps"}, {"fileHash": "1"}, {"fileHash": None}]
)
def test_requests_that_are_wrong(elma: Web, wrong: dict[str, Any]) -> None:
    """Whatever is wrong with an import's request is 400, with a description in the body."""
    reply = start(elma, uploaded(elma), **({"form": wrong["format"]} if "format" in wrong else wrong))
    assert reply.status_code == 400
    assert (reply.get_json()["success"], bool(reply.get_json()["error"])) == (False, True)


def test_fields_are_optional(elma: Web) -> None:
    """The hash alone is enough, and fields that are not known are passed over."""
    body = {"fileHash": uploaded(elma), "zone": "x"}
    assert elma.post(IMPORT, json=body).get_json()["status"] == "scheduled"


def test_event_handlers_are_ignored_unless_wanted(elma: Web) -> None:
    """Whether events are told is passed on to the batch, and is off by default."""
    said = []
    more: dict[str, bool]
    for more in ({}, {"withEventHandlers": False}, {"withEventHandlers": True}):
        said.append(elma.post(IMPORT, json={"fileHash": uploaded(elma)} | more).get_json()["id"])
        work_off(elma)
    wanted = [batches.get(elma.catalog, int(import_id)) for import_id in said]
    assert [b.run.options.has_event_handlers for b in wanted if b and b.run] == [False, False, True]


def test_a_second_import_of_an_app_is_blocked(elma: Web) -> None:
    """While an import of the app goes on a second one is answered 200 `blocked` and not started; afterwards it may be."""
    first = start(elma, uploaded(elma)).get_json()["id"]
    handle = uploaded(elma)
    for headers in ({}, {"Idempotency-Key": "one"}):
        reply = elma.post(IMPORT, json={"fileHash": handle, "format": "csv"}, headers=headers)
        said = reply.get_json()
        assert (reply.status_code, said["status"], said["id"], said["importedCount"]) == (200, "blocked", "", 0)
        assert int(reply.headers["Retry-After"]) > 0
    assert len(elma.get("/api/batches").text.splitlines()) == 1
    work_off(elma)
    assert status(elma, first).get_json()["status"] == "completed"
    reply = elma.post(IMPORT, json={"fileHash": handle, "format": "csv"}, headers={"Idempotency-Key": "one"})
    assert reply.get_json()["status"] == "scheduled"


def test_the_status_of_the_last_second(elma: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked more than once a second the status is the last second's, with Retry-After; then it is looked at anew."""
    assert last_second._KEPT_MS == 1000
    monkeypatch.setattr(last_second, "_KEPT_MS", 3000)  # as long as a slow machine may take for what follows
    import_id = start(elma, uploaded(elma)).get_json()["id"]
    first = status(elma, import_id)
    assert (first.get_json()["status"], "Retry-After" in first.headers) == ("scheduled", False)
    work_off(elma)
    again = status(elma, import_id)
    assert (again.get_json(), again.headers["Retry-After"]) == (first.get_json(), "1")
    time.sleep(3)
    later = status(elma, import_id)
    assert (later.get_json()["status"], "Retry-After" in later.headers) == ("completed", False)


def test_the_last_second_is_the_keys_own(elma: Web) -> None:
    """What one key was told within the last second is not told to another, that may not see the import."""
    import_id = start(elma, uploaded(elma)).get_json()["id"]
    assert status(elma, import_id).status_code == 200
    assert elma.get(f"{IMPORT}/{import_id}", key=elma.new_key("read")).status_code == 404
    assert status(elma, "12").status_code == 404
    assert status(elma, "x").status_code == 400


def test_an_import_of_another_app_is_not_found(elma: Web) -> None:
    """An import is found under its own app alone, within the same second too; it stays there when the app's control file is replaced."""
    elma.control(APP.replace(b"crm.airlines", b"crm.others"))
    import_id = start(elma, uploaded(elma)).get_json()["id"]
    assert status(elma, import_id).status_code == 200
    for app in ("crm/others", "crm/nothing"):
        reply = status(elma, import_id, IMPORT.replace("crm/airlines", app))
        assert (reply.status_code, reply.get_json()["success"]) == (404, False)
    elma.control(APP + b"# mended\n")
    assert status(elma, import_id).status_code == 200


@pytest.mark.parametrize("has_key", [False, True])
def test_the_body_is_json_whatever_its_type_says(elma: Web, has_key: bool) -> None:
    """curl -d calls every body a form where it is told no type; a member that is null is as if it were not there."""
    body = f'{{"fileHash": "{uploaded(elma)}", "format": null, "withEventHandlers": null}}'
    headers = {"Idempotency-Key": "one"} if has_key else {}
    reply = elma.post(IMPORT, body, content_type="application/x-www-form-urlencoded", headers=headers)
    assert (reply.status_code, reply.get_json()["status"]) == (200, "scheduled"), reply.text


def test_without_redis_the_status_is_looked_at_anew(target_url_sqlite: str, tmp_path: Path) -> None:
    """Where Redis is down the status is answered all the same."""
    sql(target_url_sqlite, "CREATE TABLE airlines (carrier varchar(2) PRIMARY KEY, name text NOT NULL)")
    lonely = Web(settings_for(target_url_sqlite, tmp_path, f"redis://127.0.0.1:{free_port()}/0"))
    try:
        lonely.control(APP)
        reply = start(lonely, uploaded(lonely))
        assert reply.headers["Queue-Delayed"] == "true"
        for _ in range(2):
            told = status(lonely, reply.get_json()["id"])
            assert (told.status_code, told.get_json()["status"], "Retry-After" in told.headers) == (200, "scheduled", False)
    finally:
        lonely.close()


def test_counts_while_it_runs(elma: Web) -> None:
    """While an import runs its status tells how many items are imported so far."""
    import_id = int(start(elma, uploaded(elma)).get_json()["id"])
    claim = batches.claim(elma.catalog, "w", 60)
    assert claim is not None and claim.batch_id == import_id
    batches.heartbeat(elma.catalog, import_id, claim.fence, 60, 0.5, Counts(input=5, created=3, updated=1, errors=1))
    told = status(elma, str(import_id)).get_json()
    assert (told["status"], told["importedCount"], told["errorCount"]) == ("running", 4, 1)
    batches.finish(elma.catalog, import_id, claim.fence, state=State.FAILED, counts=Counts(), status_msg="broke")


def test_an_app_is_a_control_file(elma: Web) -> None:
    """Namespace and code, with a dot between them, name a control file; where there is none, or the key is limited to others, it is 404."""
    for path in ("/pub/v1/app/crm/trains/import", "/pub/v1/app/airlines/crm/import"):
        assert elma.post(path, json={"fileHash": uploaded(elma)}).status_code == 404
    assert start(elma, uploaded(elma)).status_code == 200
    limited = elma.new_key("import", limits={"controls": ["crm.trains"]})
    handle = str(uuid.uuid4())
    assert upload(elma, DATA, handle, key=limited).status_code == 200
    assert elma.post(IMPORT, json={"fileHash": handle}, key=limited).status_code == 404


def test_a_hash_is_required(elma: Web) -> None:
    """Without a hash, or with one that is no UUID, an upload is 400; the page on directories spells it `Hash`."""
    for path in (TEMPORARY, DIRECTORY):
        assert elma.post(path, b"x").status_code == 400
        assert elma.post(f"{path}?hash=x", b"x").status_code == 400
        assert elma.post(f"{path}?Hash={uuid.uuid4()}&x=1", b"x").status_code == 200


def test_parts(elma: Web) -> None:
    """A file of 7 MB comes in a part of 5 MB, answered 206, and one of the rest, answered 200; then it is whole."""
    size = 7 * 1024 * 1024
    data = (b"carrier,name\n" + b"AA,American\n" * (size // 12))[: size - 1] + b"\n"
    handle = str(uuid.uuid4())
    reply = upload(elma, data[:PART], handle, content_range=f"bytes 0-{PART}/{size}")
    assert (reply.status_code, reply.get_json()) == (206, {"success": True, "error": ""})
    assert start(elma, handle).status_code == 400
    assert upload(elma, data[PART:], handle, content_range=f"bytes {PART}-{size}/{size}").status_code == 200
    told = elma.get(f"/api/handle/{handle}").get_json()
    assert (told["digest"], told["size"]) == (hashlib.sha256(data).hexdigest(), size)
    assert start(elma, handle).get_json()["status"] == "scheduled"


def test_parts_of_any_size(elma: Web) -> None:
    """Parts may be smaller than 5 MB, and differ in size."""
    handle, size = str(uuid.uuid4()), len(DATA)
    assert upload(elma, DATA[:3], handle, DIRECTORY, f"bytes 0-3/{size}").status_code == 206
    assert upload(elma, DATA[3:9], handle, DIRECTORY, f"bytes 3-9/{size}").status_code == 206
    assert upload(elma, DATA[9:], handle, DIRECTORY, f"bytes 9-{size}/{size}").status_code == 200


@pytest.mark.parametrize(
    ("said", "code"), [("bytes 10-20/34", "NoSuchUpload"), ("bytes 5-9/34", "InvalidPartOrder"), ("bytes 3-9/34", "InvalidPart")]
)
def test_parts_that_are_wrong(elma: Web, said: str, code: str) -> None:
    """A part that follows nothing, leaves a gap, or is not what it says, is 400 with the documented code in its message."""
    handle = str(uuid.uuid4())
    if code != "NoSuchUpload":
        assert upload(elma, DATA[:3], handle, content_range="bytes 0-3/34").status_code == 206
    reply = upload(elma, b"xyz", handle, content_range=said)
    assert (reply.status_code, reply.get_json()["code"]) == (400, code)
    assert code in reply.get_json()["error"]


def test_a_form_as_well(elma: Web) -> None:
    """The file may be the part `File` of a form; in a directory a second one of its name gets a number."""
    handles = [str(uuid.uuid4()) for _ in range(2)]
    for handle in handles:
        assert elma.post(f"{DIRECTORY}?hash={handle}", {"File": (BytesIO(DATA), "a.csv")}).status_code == 200
    names = [elma.get(f"/api/handle/{handle}").get_json()["name"] for handle in handles]
    assert names == ["a.csv", "a (1).csv"]


def test_temporary_files_live_60_minutes(elma: Web) -> None:
    """After 60 minutes a temporary file's hash is unknown, and one in a directory is not."""
    handle, kept = uploaded(elma), uploaded(elma, path=DIRECTORY)
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=59)):
        assert elma.get(f"/api/handle/{handle}").status_code == 200
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=61)):
        reply = start(elma, handle)
        assert (reply.status_code, reply.get_json()["code"]) == (400, "handle_unknown")
        assert start(elma, kept).get_json()["status"] == "scheduled"


def test_an_import_need_not_finish_in_60_minutes(elma: Web) -> None:
    """An import that was started keeps its temporary file beyond the 60 minutes."""
    import_id = start(elma, uploaded(elma)).get_json()["id"]
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=90)):
        retention.temporary_files(elma.catalog, elma.app.extensions["lading"].spool, elma.settings)
        work_off(elma)
        assert status(elma, import_id).get_json()["status"] == "completed"


def test_templates(elma: Web) -> None:
    """The template of an app is fetched as CSV and as a workbook, required columns marked."""
    assert elma.get("/api/control/crm.airlines/template.csv").text == "*carrier,*name\n"
    assert elma.get("/api/control/crm.airlines/template.xlsx").data[:2] == b"PK"


def test_more_than_50000_items(elma: Web) -> None:
    """More than 50,000 items need no directory: a temporary file will do."""
    rows = b"".join(b"%c%c,airline\n" % (65 + n % 26, 65 + n // 26 % 26) for n in range(50_001))
    import_id = start(elma, uploaded(elma, b"carrier,name\n" + rows)).get_json()["id"]
    work_off(elma)
    told = elma.get(f"/api/batch/{import_id}", headers={"Accept": "application/json"}).get_json()
    assert (told["state"], told["input_count"], told["success_count"]) == ("completed", 50_001, 676)


def test_the_key(elma: Web) -> None:
    """A key comes as a bearer's token, or as our own routes take it; without one it is 403, and so with one that may not import."""
    client, handle = elma.app.test_client(), uuid.uuid4()
    for header in (f"Bearer {elma.key}", f"apikey {elma.key}"):
        assert client.post(f"{TEMPORARY}?hash={handle}", data=b"x", headers={"Authorization": header}).status_code == 200
    reply = client.post(f"{TEMPORARY}?hash={handle}", data=b"x")
    assert (reply.status_code, reply.get_json()["success"]) == (403, False)
    assert elma.post(f"{TEMPORARY}?hash={handle}", b"x", key=elma.new_key("read")).status_code == 403


@pytest.fixture
def service(tmp_path: Path, redis_url: str) -> Iterator[Stack]:
    """Give the web process and a worker, on the demo's SQLite database."""
    demo.make_target(tmp_path / "target.db")
    stack = Stack(free_port(), tmp_path, demo.environment(tmp_path) | {"REDIS_URL": redis_url})
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


SCRIPT = r"""
set -e
hash=$(python3 -c 'import uuid; print(uuid.uuid4())')
api() { curl -sSf -H "Authorization: Bearer $KEY" "$@"; }
api -F comment=app -F file=@app.yaml "$LADING/api/control" > control
api -X POST "$LADING/pub/v1/disk/file/upload?hash=$hash" -H 'Content-Type: application/octet-stream' -H 'Content-Range: bytes 0-33/33' \
    --data-binary @airlines.csv > upload
import=$(api -X POST "$LADING/pub/v1/app/crm/airlines/import" -H 'Content-Type: application/json' \
    -d "{\"fileHash\": \"$hash\", \"format\": \"csv\", \"withEventHandlers\": false}" | sed -E 's/.*"id":"([0-9]+)".*/\1/')
for _ in $(seq 60); do
    status=$(api "$LADING/pub/v1/app/crm/airlines/import/$import")
    case $status in *completed*) break;; esac
    sleep 1
done
echo "$status"
"""


def test_a_script_of_curl(service: Stack, tmp_path: Path) -> None:
    """Upload, import and polling once a second, as a script of curl does them, on a running service."""
    (tmp_path / "app.yaml").write_bytes(APP.replace(b"carrier, name", b"carrier, name"))
    (tmp_path / "airlines.csv").write_bytes(b"carrier,name\nX1,One Air\nX2,Two A\n"[:33])
    env = {"LADING": service.address, "KEY": demo.make_key(service.env), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["bash", "-c", SCRIPT], cwd=tmp_path, env=env, check=True, stdout=subprocess.PIPE, text=True, timeout=120)
    assert '"status":"completed"' in done.stdout and '"importedCount":2' in done.stdout
