"""A call of another system's that is sent once more, because its reply was lost, makes nothing a second time."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
from sqlalchemy import func, select
from werkzeug.test import TestResponse

from catalog.tables import batch_files, batches, control_comments, handles, import_schemas, runs
from schemas.requests import COLLECTION_TYPE
from tests.compat.test_onkey import BASE
from tests.web_parts import CONTROL, Web, lite, working

__all__ = ["lite"]

APP = CONTROL.replace(b"name: airlines\n", b"name: crm.airlines\n").replace(b"  more.csv: {entity: Airline, action: Merge}\n", b"")
HAPLO = "/api/haplo-data-import-batch"
QUEUE = "/API/WorkflowImportQueue/CreateBatch?fileName=x&importProcessId=crm.airlines&creationPath=X"
SCHEMA = {"name": "Mine", "schema": "entities:\n- entity: Airlines\n  input: [carrier]\n  mappings: [carrier: ]\n"}
RECORDS = '[{"entityType": "Airlines", "action": "Insert", "properties": {"carrier": "AA", "name": "A"}}]'
ROWS = "!Airlines\nAirlines,Insert,AA,A\n"
CSV = b"carrier,name\nAA,American\n"


def imported(web: Web) -> tuple[str, dict[str, Any]]:
    """Upload a file as ELMA365's clients do, and return how its import is started."""
    handle = str(uuid.uuid4())
    assert web.post(f"/pub/v1/disk/file/upload?hash={handle}", CSV).status_code == 200
    return "/pub/v1/app/crm/airlines/import", {"json": {"fileHash": handle, "format": "csv"}}


CALLS: dict[str, Callable[[Web], tuple[str, dict[str, Any]]]] = {
    "Haplo batch": lambda web: (f"{HAPLO}/batch", {"data": {"control": "crm.airlines"}}),
    "Haplo schedule": lambda web: (f"{HAPLO}/schedule", {"data": {"batch": web.ready()}}),
    "import queue": lambda web: (QUEUE, {"data": '{"carrier": "AA", "name": "A"}'}),
    "ELMA365 import": imported,
    "WorkSpan load": lambda web: ("/bulk/v1/bulkload/crm.airlines", {"data": CSV, "content_type": "text/csv"}),
    "On Key collection": lambda web: (BASE, {"data": RECORDS, "content_type": COLLECTION_TYPE}),
    "On Key rows": lambda web: (f"{BASE}/files?mode=PerRecord", {"data": ROWS, "content_type": "text/csv"}),
    "On Key file": lambda web: (f"{BASE}/files/upload", {"data": {"file": ROWS.encode()}}),
    "On Key schema": lambda web: (f"{BASE}/schemas", {"json": {"properties": SCHEMA}}),
}
BY_THEMSELVES: dict[str, Callable[[Web], tuple[str, dict[str, Any]]]] = {
    "Haplo control": lambda web: (f"{HAPLO}/control", {"data": {"file": APP}}),
    "Haplo file": lambda web: (f"{HAPLO}/file", {"data": {"batch": web.batch(), "name": "airlines.csv", "file": CSV}}),
    "ELMA365 file": lambda web: (f"/pub/v1/disk/file/upload?hash={uuid.UUID(int=1)}", {"data": CSV}),
    "ELMA365 directory": lambda web: (f"/pub/v1/disk/directory/d/upload?hash={uuid.UUID(int=1)}", {"data": CSV}),
}


def counted(web: Web) -> list[int]:
    """Return how many there are of everything that a call may make."""
    with web.catalog.connect() as connection:
        return [
            connection.scalar(select(func.count()).select_from(table)) or 0
            for table in (batches, runs, batch_files, control_comments, handles, import_schemas)
        ]


def with_files(options: dict[str, Any]) -> dict[str, Any]:
    """Return a request's options, the bytes in its form as files."""
    form = options.get("data")
    if not isinstance(form, dict):
        return options
    return {"data": {name: (BytesIO(value), "a.csv") if isinstance(value, bytes) else value for name, value in form.items()}}


def sent_twice(web: Web, call: Callable[[Web], tuple[str, dict[str, Any]]], headers: dict[str, str]) -> tuple[TestResponse, TestResponse]:
    """Send a call, and send it again; hold that the second time nothing is made."""
    web.app.test_cli_runner().invoke(args=["db", "upgrade"])
    web.control(APP)
    address, options = call(web)
    before = counted(web)
    with working(web):
        first = web.post(address, headers=headers, buffered=True, **with_files(options))
        made = counted(web)
        second = web.post(address, headers=headers, buffered=True, **with_files(options))
    assert made != before or "control" in address, first.text
    assert counted(web) == made
    return first, second


@pytest.mark.parametrize("name", CALLS)
def test_under_one_key_a_call_is_carried_out_once(lite: Web, name: str) -> None:
    """Whatever a call makes, it makes it once under its Idempotency-Key, and its reply names the same thing again."""
    first, second = sent_twice(lite, CALLS[name], {"Idempotency-Key": "the same"})
    assert first.status_code == second.status_code < 300, first.text
    assert first.headers.get("OnKey-Resource-Id") == second.headers.get("OnKey-Resource-Id")
    assert first.data == second.data


@pytest.mark.parametrize("name", BY_THEMSELVES)
def test_uploads_may_be_repeated_as_they_are(lite: Web, name: str) -> None:
    """What is known by its digest, its name in a batch, or a hash of the client's choosing, is there once however often it is sent."""
    first, second = sent_twice(lite, BY_THEMSELVES[name], {})
    assert (first.status_code, first.data) == (second.status_code, second.data) and first.status_code == 200


def test_a_key_is_not_for_another_schema(lite: Web) -> None:
    """A schema is told from another by its body, of whatever type that is."""
    for name, status in (("Mine", 201), ("Yours", 422)):
        body = json.dumps({"properties": SCHEMA | {"name": name}})
        assert lite.post(f"{BASE}/schemas", body, content_type="text/plain", headers={"Idempotency-Key": "k"}).status_code == status
