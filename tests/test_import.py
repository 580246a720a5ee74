"""Imports in one call: every format, by body or form, waited for or not."""

import gzip
import json
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any

import pytest
from werkzeug.test import TestResponse

import clock
from catalog import batches
from catalog.batches import State
from engine.workbook import workbook
from tests.engine_parts import sql
from tests.web_parts import Web, lite, web, working

__all__ = ["lite", "web"]

CONTROL = b"""\
name: airlines
files:
  airlines.csv: {entity: Airline, action: Merge}
entities:
- entity: Airline
  table: airlines
  input: [carrier, name]
  mappings:
  - carrier:
  - name:
"""
CREATED = "Core_Data_RecordCreated,Record successfully created,Information"
ROWS = {
    "text/csv": b"carrier,name\nAA,American\n",
    "text/tab-separated-values": b"carrier\tname\nAA\tAmerican\n",
    "application/jsonl": b'{"carrier": "AA", "name": "American"}\n',
    "application/json": b'[{"carrier": "AA", "name": "American"}]',
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": b"".join(workbook([["carrier", "name"], ["AA", "American"]])),
}


def post(web: Web, data: bytes, query: str = "", kind: str = "text/csv", **options: Any) -> TestResponse:
    """Import some data."""
    return web.post(f"/api/import/airlines{query}", data, content_type=kind, buffered=True, **options)


@pytest.fixture
def ready(web: Web) -> Web:
    """Give the application with a control file and a target that takes imports."""
    web.control(CONTROL)
    web.app.test_cli_runner().invoke(args=["db", "upgrade"])
    return web


@pytest.fixture
def ready_lite(lite: Web) -> Web:
    """Give the same on SQLite."""
    lite.control(CONTROL)
    lite.app.test_cli_runner().invoke(args=["db", "upgrade"])
    return lite


@pytest.mark.parametrize("kind", ROWS)
def test_each_format_by_its_content_type(ready: Web, kind: str) -> None:
    """The body's type says how it is read, whatever the control file says; waiting gives the results themselves."""
    with working(ready):
        reply = post(ready, ROWS[kind], "?wait=30", kind)
    assert (reply.status_code, reply.headers["Import-Exit"], reply.mimetype) == (200, "0", "text/csv"), reply.text
    line = 1 if "json" in kind else 2
    assert reply.text.splitlines()[1] == f"{CREATED},{line},,AA,airlines.csv"
    assert sql(ready.settings.target_url, "SELECT carrier, name FROM airlines") == [("AA", "American")]
    assert post(ready, b"x", kind="text/csv").status_code == 202


def test_a_form_put_and_format(ready_lite: Web) -> None:
    """A form's file, a PUT as curl -T sends it, and a format or separator that is said, are all the same import."""
    with working(ready_lite):
        form = {"wait": "30", "file": (BytesIO(ROWS["application/jsonl"]), "../a.jsonl"), "format": "jsonl"}
        assert ready_lite.post("/api/import/airlines", form, buffered=True).text.splitlines()[1].startswith(CREATED)
        headers = {"Authorization": f"apikey {ready_lite.key}"}
        path = "/api/import/airlines?wait=30&separator=;"
        put = ready_lite.app.test_client().put(path, data=b"carrier;name\nBB;Beta\n", headers=headers, buffered=True)
        assert put.text.splitlines()[1].startswith(CREATED)
        curl = post(ready_lite, b"carrier,name\nCC,Gamma\n", "?wait=30", "application/x-www-form-urlencoded")  # curl --data-binary
        assert curl.text.splitlines()[1].startswith(CREATED)
    batch = ready_lite.get(put.headers["Location"], headers={"Accept": "application/json"}).get_json()
    assert (batch["files"][0]["name"], batch["fileName"]) == ("airlines.csv", "")


def test_not_waited_for(ready_lite: Web) -> None:
    """Without waiting the reply is the batch, with links; what is said of it is kept."""
    query = "?comment=tonight&creationPath=CRON&fileName=airlines.csv&mode=dry-run"
    plain = post(ready_lite, ROWS["text/csv"], query)
    assert (plain.status_code, plain.headers["Location"]) == (202, f"/api/batch/{plain.text}")
    told = post(ready_lite, ROWS["text/csv"], headers={"Accept": "application/json"}).get_json()
    assert set(told["links"]) == {"status", "results", "errors", "cancel"} and told["mode"] == "import"
    kept = batches.get(ready_lite.catalog, int(plain.text))
    assert kept is not None and kept.run is not None
    assert (kept.comment, kept.creation_path, kept.file_name, kept.mode) == ("tonight", "CRON", "airlines.csv", "dry-run")
    assert ready_lite.app.extensions["lading"].redis.llen("rq:queue:batches") == 2


def test_waiting_as_json_and_by_prefer(ready_lite: Web) -> None:
    """JSON has the status and the first results; the header Prefer asks for waiting too, and respond-async for none (RFC 7240)."""
    accept = {"Accept": "application/json"}
    bad = b"carrier,name\nAA,American\nTOO LONG,x\n"
    with working(ready_lite):
        reply = post(ready_lite, bad, "?wait=30&fail=rows&mode=dry-run", headers=accept)
        preferred = post(ready_lite, bad, headers={"Prefer": "wait=30"})
        assert post(ready_lite, bad, "?wait=30", headers={"Prefer": "respond-async"}).status_code == 202
    told = reply.get_json()
    assert (reply.status_code, told["state"], told["mode"], told["error_count"]) == (422, "completed", "dry-run", 1)
    assert [item["severity"] for item in told["results"]["items"]] == ["Information", "Error"]
    assert (preferred.status_code, preferred.headers["Import-Exit"]) == (200, "2")


def test_waiting_in_vain(ready_lite: Web) -> None:
    """What is not over when the time is up is answered as if nobody had waited."""
    reply = post(ready_lite, ROWS["text/csv"], "?wait=0.05")
    assert (reply.status_code, batches.get(ready_lite.catalog, int(reply.text)).state) == (202, State.SCHEDULED)  # type: ignore[union-attr]


def test_idempotency_key(ready_lite: Web) -> None:
    """The same import under a key is done once, however the reply is wanted; another is refused (T01, T02)."""
    key = {"Idempotency-Key": "tonight"}
    first = post(ready_lite, ROWS["text/csv"], headers=key)
    with working(ready_lite):
        again = post(ready_lite, ROWS["text/csv"], "?wait=30", headers=key)
    assert (again.headers["Location"], again.headers["Idempotent-Replayed"], again.status_code) == (first.headers["Location"], "true", 200)
    assert post(ready_lite, b"carrier,name\n", headers=key).status_code == 422
    assert post(ready_lite, ROWS["text/csv"], "?mode=dry-run", headers=key).status_code == 422


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ("?mode=dryrun", 400, "mode: Not an allowed value."),
        ("?moed=dry-run", 400, "moed: No such field."),
        ("?format=xml", 400, "format: Not an allowed value."),
        ("?wait=1&wait=2", 400, "wait: Given more than once."),
        ("?name=other.csv", 422, "name: Say which of them it is. (allowed: airlines.csv)"),
        ("?sha256=" + "0" * 64, 400, "Nothing was stored"),
        ("?batch=1", 400, "batch: No such field."),
    ],
)
def test_refusals(ready_lite: Web, query: str, status: int, said: str) -> None:
    """What is wrong is refused, all of it before anything is stored."""
    reply = post(ready_lite, ROWS["text/csv"], query)
    assert (reply.status_code, said in reply.text) == (status, True), reply.text
    assert ready_lite.get("/api/batches").text == ""


def test_refusals_by_the_control_file(ready_lite: Web) -> None:
    """An unknown control file, JSON where rows name their entities, other files that are required: nothing is stored."""
    assert ready_lite.post("/api/import/nobody", b"x", content_type="text/csv").status_code == 404
    ready_lite.control(CONTROL.replace(b"name: airlines\n", b"name: multi\n", 1).replace(b"{entity: Airline, action: Merge}", b"{}"))
    assert "JSON" in ready_lite.post("/api/import/multi", b"[]", content_type="application/json").text
    two = b"files:\n  b.csv: {entity: Airline, action: Merge, required: true}"
    ready_lite.control(CONTROL.replace(b"name: airlines\n", b"name: two\n", 1).replace(b"files:", two))
    assert (
        "b.csv: This required file is missing." in ready_lite.post("/api/import/two?name=airlines.csv", b"x", content_type="text/csv").text
    )
    assert "allowed: b.csv, airlines.csv" in ready_lite.post("/api/import/two", b"x", content_type="text/csv").text
    assert ready_lite.get("/api/batches").text == ""


def test_names_where_any_will_do(ready_lite: Web) -> None:
    """Where the control file takes any name, the file's own is its name, or one by its format."""
    ready_lite.control(CONTROL.replace(b"name: airlines\n", b"name: any\n", 1).replace(b"airlines.csv:", b"DEFAULT:"))
    for query, name in (("?fileName=mine.tsv", "mine.tsv"), ("", "data.csv"), ("?format=jsonl", "data.jsonl"), ("?name=a&fileName=b", "a")):
        reply = ready_lite.post(f"/api/import/any{query}", b"x", headers={"Accept": "application/json"})
        assert reply.get_json()["name"] == name
    packed = {"file": (BytesIO(gzip.compress(ROWS["text/csv"])), "Mine.CSV.GZ")}
    with working(ready_lite):
        reply = ready_lite.post("/api/import/any?wait=30", packed, buffered=True)
    assert ",AA,data.csv.gz" in reply.text


def test_a_key_that_may_not_read(ready_lite: Web) -> None:
    """A key that may import only gets the line of the status, and not the results."""
    with working(ready_lite):
        reply = post(ready_lite, ROWS["text/csv"], "?wait=30", key=ready_lite.new_key("import"))
    assert (reply.status_code, reply.text) == (200, "completed input=1 success=1 error=0 skip=0")


def test_a_later_start(ready_lite: Web) -> None:
    """With `at` nothing runs before that instant, and then it does; in the meantime no worker is woken for it (T31)."""
    at = (clock.now() + timedelta(seconds=2)).astimezone(UTC)
    reply = post(ready_lite, ROWS["text/csv"], f"?at={at:%Y-%m-%dT%H:%M:%S.%fZ}")
    batch = int(reply.text)
    assert ready_lite.app.extensions["lading"].redis.llen("rq:queue:batches") == 0 and batches.waiting(ready_lite.catalog) == []
    with working(ready_lite):
        found = ready_lite.get(f"/api/batch/{batch}?wait=30", headers={"Accept": "application/json"}).get_json()
    assert found["state"] == "completed" and datetime.fromisoformat(found["started_at"]) >= at


def test_failed_rows_of_another_format(ready_lite: Web) -> None:
    """Refused rows come back in the format in which they were sent, not in that of the control file."""
    lines = b'{"carrier": "AA", "name": "American"}\n{"carrier": "TOO LONG", "name": "x"}\n'
    with working(ready_lite):
        batch = post(ready_lite, lines, "?wait=30", "application/jsonl").headers["Location"]
        kept = ready_lite.get(f"{batch}/failed/airlines.csv", buffered=True)
    assert (json.loads(kept.data)["carrier"], kept.mimetype) == ("TOO LONG", "application/jsonl")


def test_rows_that_stand_in_the_order_of_the_inputs(ready_lite: Web) -> None:
    """Where the control file says `header: false`, the lines `#Entity,Action,...` of the multi-entity form are but a guide."""
    guided = CONTROL.replace(b"airlines.csv: {entity: Airline, action: Merge}", b"DEFAULT: {header: false}")
    ready_lite.control(guided.replace(b"name: airlines\n", b"name: guided\n"))
    data = b"#Entity,Action,name,carrier\nAirline,Merge,AA,American\n"
    with working(ready_lite):
        reply = ready_lite.post("/api/import/guided?wait=20", data, content_type="text/csv", buffered=True)
    assert [line.split(",")[0] for line in reply.text.splitlines()[1:]] == ["Core_ImportFile_SkippedHeaderLine", "Core_Data_RecordCreated"]
    assert ",Warning,1," in reply.text
    assert sql(ready_lite.settings.target_url, "SELECT * FROM airlines") == [("AA", "American")]
