"""Errors and traces, told to a receiver that takes what Sentry and OpenTelemetry's collectors take."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

import observe
from app import about
from catalog import batches
from catalog.batches import State
from cli import doctor
from engine import run as engine
from engine.target import open_target
from errors import SettingInvalid
from jobs import carry, queues
from routes import health
from settings import Settings
from tests.jobs_parts import ROOT, Site, wait_for
from tests.observe_parts import Receiver, receiving
from tests.web_parts import Web, lite, working

__all__ = ["lite"]
SECRET = b"Hippopotamus"  # stands in a cell, a name, a header or an error's words; never leaves


def make_ledger(web: Web) -> None:
    """Make the target ready for imports."""
    target = open_target(web.settings.target_url)
    target.create_ledger()
    target.close()


@contextmanager
def told(web: Web, receiver: Receiver, of: Any = about) -> Iterator[None]:
    """Have this process tell a receiver."""
    observe.start(Settings.from_environment({**receiver.settings, "CATALOG_URL": web.settings.catalog_url}), of)
    try:
        yield
    finally:
        observe.stop()


def test_a_worker_tells_of_each_batch(tmp_path: Path, redis_url: str, target_url_sqlite: str) -> None:
    """A real worker's forks tell of every batch with its ids, control file and counts, and the worker of its errors: never of a cell."""
    urls = {"TARGET_URL": target_url_sqlite, "CATALOG_URL": f"sqlite:///{tmp_path}/catalog.db", "SPOOL_URL": f"file:{tmp_path}/spool"}
    with receiving() as receiver:
        # So long a delay that what arrives of OpenTelemetry has been sent by the end of the fork, which waits for it.
        site = Site(tmp_path, {**urls, "REDIS_URL": redis_url, **receiver.settings, "OTEL_BSP_SCHEDULE_DELAY": "600000"})
        site.start_worker()
        redis = Redis.from_url(redis_url)
        redis.hset(b"rq:job:" + SECRET, mapping={"data": b"{}", "origin": "batches", "created_at": "2027-01-01T00:00:00Z"})
        redis.rpush("rq:queue:batches", SECRET)
        batch_id = site.batch(b"code,size\n%s,1\nB,2\nC,%s\n" % (SECRET, SECRET))
        queues.enqueue(redis, batch_id)
        wait_for(lambda: receiver.events("transaction") and receiver.events())
        assert not receiver.spans()
        site.close()
        span, attributes = receiver.spans()[0]
        counts = {f"lading.{name}": 0 for name in ("updated", "deleted", "skipped", "unprocessed")}
        counts |= {"lading.input": 3, "lading.created": 2, "lading.errors": 1}
        ids = {"lading.batch_id": batch_id, "lading.run": 1, "lading.attempt": 1, "lading.control": site.control}
        assert attributes == ids | counts | {"lading.state": "completed"}
        assert (span.name, span.kind) == ("batch import", span.SPAN_KIND_CONSUMER)
        assert 0 < span.end_time_unix_nano - span.start_time_unix_nano < 60e9
        transaction = receiver.events("transaction")[0]
        assert transaction["contexts"]["trace"]["data"] == attributes and transaction["transaction"] == "batch import"
        assert all(event["logentry"]["message"].startswith("refused message %r: ") for event in receiver.events())
        assert SECRET not in receiver.all_bytes() and b"dsnkey" not in receiver.all_bytes()
    assert SECRET in site.logged().encode()


def test_an_error_in_a_batch_is_told_without_its_words(lite: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that quotes a cell fails its batch; kind, place and batch are told of it and of what caused it, words are not."""

    def breaks(*_: object) -> None:
        local = SECRET.decode()
        try:
            raise KeyError(local)
        except KeyError as cause:
            raise RuntimeError(f"row {local}") from cause

    monkeypatch.setattr(engine, "carry_out", breaks)
    batch_id = lite.ready(comment=SECRET.decode())
    with receiving() as receiver, told(lite, receiver, carry.about):
        lite.post("/api/schedule", {"batch": batch_id})
        with working(lite):
            wait_for(lambda: (found := batches.get(lite.catalog, int(batch_id))) and found.state is State.FAILED)
        observe.flush()
    event, (span, attributes) = receiver.events()[0], next(s for s in receiver.spans() if "lading.state" in s[1])
    assert [raised["type"] for raised in event["exception"]["values"]] == ["KeyError", "RuntimeError"]
    frame = event["exception"]["values"][-1]["stacktrace"]["frames"][-1]
    assert (frame["filename"], frame["function"], "vars" in frame) == ("tests/test_observe.py", "breaks", False)
    assert event["tags"] == {"batch_id": batch_id, "run": "1"}
    assert event["logentry"]["message"] == f"batch {batch_id}: internal error"
    assert (attributes["lading.code"], span.status.code) == ("internal_error", span.status.STATUS_CODE_ERROR)
    assert [{a.key: a.value.string_value for a in e.attributes}["exception.type"] for e in span.events][:1] == ["builtins.RuntimeError"]
    assert SECRET not in receiver.all_bytes()


def test_requests_are_told_by_their_routes(lite: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request is told by method, route, status and ids, below its caller's span; nothing that the caller chose freely is among it."""
    monkeypatch.setattr(health, "all_said", lambda: 1 / 0)
    secret = SECRET.decode()
    with receiving() as receiver, told(lite, receiver):
        batch_id = lite.ready(comment=secret, fileName=secret)
        caller = f"00-{'a' * 32}-{'b' * 16}-01"
        reply = lite.get(f"/api/batch/{batch_id}?wait=0", headers={"traceparent": caller, "User-Agent": secret})
        assert lite.get(f"/{secret}").status_code == 404
        assert lite.get("/metrics", key=lite.new_key("read:all")).status_code == 500
        assert lite.post("/api/schedule", {"batch": batch_id, "mode": secret}).status_code == 400
        observe.flush()
    spans = {span.name: (span, attributes) for span, attributes in receiver.spans()}
    assert set(spans) == {
        "POST /api/control",
        "POST /api/batch",
        "POST /api/file",
        "GET /api/batch/<batch>",
        "no route",
        "POST /api/schedule",
    }
    span, attributes = spans["GET /api/batch/<batch>"]
    assert (span.trace_id, span.parent_span_id) == (b"\xaa" * 16, b"\xbb" * 8)
    of_request = {"http.request.method": "GET", "http.route": "/api/batch/<batch>", "http.response.status_code": 200}
    assert attributes == of_request | {"lading.request_id": reply.headers["X-Request-Id"], "lading.batch_id": int(batch_id)}
    assert spans["no route"][1].keys() == {"http.response.status_code", "lading.request_id"}
    assert [event["exception"]["values"][0]["type"] for event in receiver.events()] == ["ZeroDivisionError"]
    assert len(receiver.events("transaction")) == len(receiver.spans())
    assert SECRET not in receiver.all_bytes() and lite.key.encode() not in receiver.all_bytes()


def test_a_silent_receiver_holds_nothing_up(lite: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody answers, requests and batches take no longer, and the end of a process a moment only; nor is one told for ever."""
    make_ledger(lite)
    batch_id = lite.ready()
    with receiving(is_silent=True) as receiver, told(lite, receiver):
        began = time.monotonic()
        lite.post("/api/schedule", {"batch": batch_id})
        with working(lite):
            wait_for(lambda: (found := batches.get(lite.catalog, int(batch_id))) and found.state is State.COMPLETED)
        assert time.monotonic() - began < 5
        wait_for(lambda: len(receiver.arrived) >= 2)
        monkeypatch.setattr(observe, "FLUSH_SECONDS", 1)
        began = time.monotonic()
        observe.flush()
        assert 1 <= time.monotonic() - began < 1.9
        monkeypatch.setattr(observe, "SENT_WITHIN_SECONDS", 0)
        monkeypatch.setattr(observe, "FLUSH_SECONDS", 60)
        began = time.monotonic()
        observe.flush()
        assert time.monotonic() - began < 5


def test_nothing_is_loaded_for_those_who_want_none(tmp_path: Path) -> None:
    """Without the settings neither package is loaded, by the web process or by a worker."""
    code = "import sys, worker, wsgi; print([m for m in sys.modules if m.startswith(('sentry', 'opentelemetry.exporter', 'requests'))])"
    env = {"PATH": os.environ["PATH"], "CATALOG_URL": f"sqlite:///{tmp_path}/c.db", "SPOOL_URL": f"file:{tmp_path}/spool"}
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout
    assert said == "[]\n"


def test_a_package_that_lacks_is_named(monkeypatch: pytest.MonkeyPatch, lite: Web) -> None:
    """Where a setting is there and its package is not, the start says so, and the doctor says what to do."""
    monkeypatch.setitem(sys.modules, "sentry_sdk", None)
    monkeypatch.delitem(sys.modules, "observe.sentry", raising=False)
    env = {"SENTRY_DSN": "https://abc@sentry.invalid/7", "CATALOG_URL": lite.settings.catalog_url}
    with pytest.raises(SettingInvalid, match=r"SENTRY_DSN is set, but .* sentry-sdk.*requirements-observe\.txt"):
        observe.start(Settings.from_environment(env))
    monkeypatch.setenv("SENTRY_DSN", "https://abc@127.0.0.1:9/7")
    monkeypatch.setenv("CATALOG_URL", env["CATALOG_URL"])
    found = [finding for finding in doctor.findings() if finding.part == "errors and traces"]
    assert [finding.health for finding in found] == [doctor.Health.WRONG, doctor.Health.UNREACHABLE]
    assert "sentry-sdk" in found[0].said and "requirements-observe.txt" in found[0].said and "SENTRY_DSN" in found[1].advice


def test_the_doctor_looks_at_receivers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The doctor connects to what is told; settings that are no addresses are refused."""
    with receiving() as receiver:
        settings = Settings.from_environment(receiver.settings)
        assert [found[0] for found in doctor._observers(settings)] == [doctor.Health.OK] * 2
    assert [found[1] for found in doctor._observers(Settings.from_environment({}))] == [
        "nothing is told: SENTRY_DSN and OTEL_EXPORTER_OTLP_ENDPOINT are unset"
    ]
    for name, value in (("SENTRY_DSN", "https://sentry.example.org/7"), ("SENTRY_TRACES_SAMPLE_RATE", "1.5")):
        with pytest.raises(SettingInvalid, match=name):
            Settings.from_environment({name: value})
