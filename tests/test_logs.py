"""What the log lines say."""

from __future__ import annotations

import io
import json
import logging

import pytest

import logs
from tests.web_parts import Web, lite

__all__ = ["lite"]


@pytest.mark.parametrize("log_format", ["logfmt", "json"])
def test_a_requests_line_names_request_key_and_batch(lite: Web, monkeypatch: pytest.MonkeyPatch, log_format: str) -> None:
    """The line of each request has its id, its key's and its batch's, whether the batch is named by the path, a form, or the reply."""
    handler = next(h for h in logging.getLogger().handlers if h.name == "lading")
    assert isinstance(handler, logging.StreamHandler) and isinstance(handler.formatter, logs.LineFormatter)
    written = io.StringIO()
    monkeypatch.setattr(handler, "stream", written)
    monkeypatch.setattr(handler.formatter, "_is_json", log_format == "json")
    batch = lite.ready()
    reply = lite.get(f"/api/batch/{batch}", headers={"X-Request-Id": "mine"})
    assert reply.status_code == 200
    lines = [line for line in written.getvalue().splitlines() if "request_id" in line]
    key_id = lite.key.split("_")[1]
    if log_format == "json":
        found = [json.loads(line) for line in lines]
        assert [(f["request_id"], f["key_id"], f["batch_id"]) for f in found[-1:]] == [("mine", key_id, int(batch))]
        assert [f.get("batch_id") for f in found] == [None, int(batch), int(batch), int(batch)]
    else:
        assert f"request_id=mine key_id={key_id} batch_id={batch}" in lines[-1]
        assert sum(f"batch_id={batch}" in line for line in lines) == 3
