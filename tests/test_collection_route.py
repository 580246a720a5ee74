"""`POST /api/import`: an entity collection in one call, and the same collection as a file of a batch."""

import json
from io import BytesIO
from typing import Any

import pytest
from werkzeug.test import TestResponse

from schemas.requests import COLLECTION_TYPE
from tests.engine_parts import sql
from tests.web_parts import Web, lite, web, working

__all__ = ["lite", "web"]

RECORDS = [
    {"entityType": "Airlines", "action": "Insert", "userObjectId": f"u{n}", "properties": {"carrier": carrier, "name": name}}
    for n, (carrier, name) in enumerate([("AA", "American"), ("AA", "Again"), ("BB", None)])
]


def post(web: Web, records: Any, query: str = "?wait=30", kind: str = COLLECTION_TYPE, **options: Any) -> TestResponse:
    """Import a collection."""
    return web.post(f"/api/import{query}", json.dumps(records), content_type=kind, buffered=True, **options)


@pytest.fixture
def ready(web: Web) -> Web:
    """Give the application on a target that takes imports."""
    web.app.test_cli_runner().invoke(args=["db", "upgrade"])
    return web


@pytest.fixture
def ready_lite(lite: Web) -> Web:
    """Give it on SQLite."""
    lite.app.test_cli_runner().invoke(args=["db", "upgrade"])
    return lite


def test_a_collection_needs_no_control_file(ready: Web) -> None:
    """The target's own tables serve; each result says which record it is of, and the failed records come out as they stood."""
    with working(ready):
        reply = post(ready, RECORDS)
        batch = reply.headers["Location"]
        failed = ready.get(f"{batch}/failed/records.json", buffered=True)
        errors = ready.get(f"{batch}/errors")
        status = ready.get(f"{batch}?include_errors=true", headers={"Accept": "application/json"}).get_json()
    assert reply.headers["Import-Exit"] == "2"
    lines = reply.text.splitlines()[1:]
    told = '"{{""entityType"": ""Airlines"", ""userObjectId"": ""u{}""}}"'
    assert lines[0] == f"Core_Data_RecordCreated,Record successfully created,Information,1,{told.format(0)},AA,records.json"
    assert [line.split(",")[0] for line in lines[1:]] == ["Core_Data_RecordExists", "Core_NotNullValidator"]
    assert failed.get_json() == RECORDS[1:] and failed.content_type == COLLECTION_TYPE
    assert "1 Core_Data_RecordExists carrier" in errors.text
    assert status["errors"][0]["data_row"]["userObjectId"] == "u1" and status["errors"][0]["column"] == "carrier"
    assert sql(ready.settings.target_url, "SELECT name FROM airlines") == [("American",)]


@pytest.mark.parametrize(
    ("query", "state", "rows"),
    [
        ("?wait=30&mode=AllOrNone", "failed", 0),
        ("?wait=30&execution=AllOrNone", "failed", 0), ("?wait=30&mode=PerRecord", "completed", 1),
        ("?wait=30&mode=dry-run", "completed", 0),
    ],
)  # fmt: skip
def test_how_a_collection_is_run(ready_lite: Web, query: str, state: str, rows: int) -> None:
    """`mode` takes the words of `execution` too; a dry run and all-or-none keep nothing of a collection with an error in it."""
    with working(ready_lite):
        reply = post(ready_lite, RECORDS, query, headers={"Accept": "application/json"})
    assert (reply.get_json()["state"], reply.get_json()["error_count"]) == (state, 2)
    assert sql(ready_lite.settings.target_url, "SELECT count(*) FROM airlines") == [(rows,)]


def test_groups_in_order(ready_lite: Web) -> None:
    """`ordered=true` takes smaller groups first; results stay in the order of the records."""
    records = [record | {"groupOrder": group} for record, group in zip(RECORDS, ("2", "1", "3"), strict=True)]
    with working(ready_lite):
        reply = post(ready_lite, records, "?wait=30&ordered=true")
    assert [line.split(",")[0] for line in reply.text.splitlines()[1:3]] == ["Core_Data_RecordExists", "Core_Data_RecordCreated"]


def test_refusals(ready_lite: Web) -> None:
    """Another kind of body, a limited key and a field that would say how records are read are refused, and nothing is stored."""
    limited = ready_lite.new_key("import", limits={"controls": ["airlines"]})
    assert post(ready_lite, RECORDS, kind="application/json").status_code == 415
    assert post(ready_lite, RECORDS, key=limited).status_code == 403
    assert post(ready_lite, RECORDS, "?format=csv").status_code == 400
    assert post(ready_lite, RECORDS, key=ready_lite.new_key("read")).status_code == 403
    assert ready_lite.get("/api/batches").text == ""


def test_a_body_that_is_no_array(ready_lite: Web) -> None:
    """A body that is no JSON array ends the batch, which says why."""
    with working(ready_lite):
        reply = post(ready_lite, RECORDS[0], headers={"Accept": "application/json"})
    assert (reply.get_json()["state"], reply.get_json()["code"]) == ("failed", "file_refused")


def test_the_four_steps_with_a_collection(ready_lite: Web) -> None:
    """A control file may say that a file is a collection, beside files of other kinds; a key limited to it may then import one."""
    control = b"name: mixed\nfiles:\n  records.json: {read: collection}\n"
    digest = ready_lite.control(control)
    key = ready_lite.new_key("import", "read", limits={"controls": ["mixed"]})
    with working(ready_lite):
        batch = ready_lite.post("/api/batch", {"control": digest}, key=key).text
        form = {"batch": batch, "name": "records.json", "file": (BytesIO(json.dumps(RECORDS).encode()), "x.json")}
        assert ready_lite.post("/api/file", form, key=key).status_code == 200
        assert ready_lite.post("/api/schedule", {"batch": batch}, key=key).text == "SCHEDULED"
        assert ready_lite.get(f"/api/batch/{batch}?wait=30", key=key).text.startswith("completed input=3 success=1 error=2")
    as_json = ready_lite.post("/api/import/mixed?format=json", b"[]", content_type="application/json")
    assert as_json.status_code == 422
