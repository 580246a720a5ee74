"""Values that break things, in every field that the routes for other systems' clients read."""

from __future__ import annotations

import re
from io import BytesIO
from typing import Any

import pytest

from tests.security_parts import NAUGHTY, look, work_off
from tests.web_parts import CONTROL, Web, lite

__all__ = ["lite"]

HAPLO, QUEUE, BULK = "/api/haplo-data-import-batch", "/API/WorkflowImportQueue/CreateBatch", "/bulk/v1"
PROCESS = {"fileName": "x", "importProcessId": "airlines", "creationPath": "X"}
LINES = b'{"carrier": "AA", "name": "American"}\n'
# Method, path, where the fields stand, what a good request has, and the field that is made a bad one.
FIELDS: list[tuple[str, str, str, dict[str, str], list[str]]] = [
    ("POST", f"{HAPLO}/control", "multipart", {}, ["comment", "x"]),
    ("POST", f"{HAPLO}/batch", "form", {"control": "airlines"}, ["control", "comment", "x"]),
    ("POST", f"{HAPLO}/file", "multipart", {"batch": "1", "name": "airlines.csv"}, ["batch", "name", "x"]),
    ("POST", f"{HAPLO}/schedule", "form", {"batch": "1"}, ["batch", "mode", "x"]),
    ("POST", QUEUE, "query", PROCESS, [*PROCESS, "sendSuccessEmailTo", "sendFailureEmailTo", "x"]),
    ("GET", f"{BULK}/status/airlines", "query", {"execution_id": "1"}, ["execution_id", "include_errors", "max_errors", "x"]),
    ("POST", f"{BULK}/bulkload/airlines", "query", {}, ["data_format", "column_delimiter", "upload_token", "x"]),
    ("POST", f"{BULK}/bulkload/airlines", "multipart", {}, ["data_format", "column_delimiter", "x"]),
    ("GET", f"{BULK}/bulkload/airlines/upload_url", "query", {}, ["file_name", "x"]),
    ("PUT", f"{BULK}/upload", "query", {}, ["token", "x"]),
]


@pytest.mark.parametrize(("method", "path", "where", "good", "names"), FIELDS, ids=lambda value: value if isinstance(value, str) else "")
def test_each_field(lite: Web, method: str, path: str, where: str, good: dict[str, str], names: list[str]) -> None:
    """Whatever a field holds, the reply is an answer or a refusal; none of it comes back as a header or a page (T05, T60, T81, T82)."""
    lite.control(re.sub(rb"(?m)^  more.csv.*\n", b"", CONTROL).replace(b"airlines.csv:", b"DEFAULT:").replace(b", required: true", b""))
    for name in names:
        for value in NAUGHTY:
            fields = good | {name: value.encode(errors="replace").decode()}
            options: dict[str, Any] = {"data": fields}
            if where == "query":
                options = {"query_string": fields, "data": b"" if "upload_token" in fields else LINES}
            elif where == "multipart":
                options = {"data": fields | {"file": (BytesIO(b"carrier,name\nAA,A\n"), "a.csv")}}
            reply = lite.app.test_client().open(
                path, method=method, headers={"Authorization": f"Bearer {lite.key}"}, buffered=True, **options
            )
            look(reply, (path, name, value))
            assert name == "x" or "\0" not in value or reply.status_code == 400, (path, name, value)
    work_off(lite)


BODIES = (
    b"",
    b"\0",
    b"\xff\xfe\x00",
    b"{",
    b"[",
    b'{"a": 1',
    b'"' * 5000,
    b"{}" * 3000,
    b"\n" * 9000,
    b"[" * 100_000,
    b"PK\x03\x04" + b"\0" * 500,
)


@pytest.mark.parametrize("kind", ["json", "jsonl", "csv", "xlsx", "tsv"])
def test_bodies_that_are_no_data(lite: Web, kind: str) -> None:
    """Whatever a body holds, the batch ends, and its status tells of every record without failing (T81)."""
    lite.control(re.sub(rb"(?m)^  more.csv.*\n", b"", CONTROL).replace(b"airlines.csv:", b"DEFAULT:").replace(b", required: true", b""))
    for body in BODIES:
        reply = lite.post(f"{BULK}/bulkload/airlines?data_format={kind}", body)
        look(reply, body[:20])
        assert reply.status_code == 200, reply.text
        work_off(lite)
        execution = reply.get_json()["execution_id"]
        told = lite.get(f"{BULK}/status/airlines?execution_id={execution}&include_errors=true&max_errors=5", buffered=True)
        look(told, body[:20])
        found = told.get_json()
        assert (told.status_code, found["status"]) == (200, "completed"), body[:20]
        assert found["input_count"] == found["success_count"] + found["error_count"] + found["skip_count"]
        assert len(found["errors"]) == min(found["error_count"], 5)
