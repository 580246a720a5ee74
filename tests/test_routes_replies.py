"""What all replies have in common: their form, their headers, their failures; and replies that are given again."""

import json
import logging
import shutil
import threading
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest

import catalog
from app import create_app, say_if_spool_is_another
from catalog import markers
from jobs import queues
from logs import LineFormatter
from tests.web_parts import CONTROL, Web, lite, settings_for, web

__all__ = ["lite", "web"]


@pytest.mark.parametrize(
    ("accept", "is_json"),
    [
        ("*/*", False),
        ("", False),
        ("text/html,*/*;q=0.8", False),
        ("application/json", True),
        ("application/problem+json", True),
        ("application/json, text/plain, */*", True),
        ("application/json;q=0.5, text/plain", False),
        ("application/json;q=0", False),
    ],
)
def test_json_is_for_who_asks_for_it(lite: Web, accept: str, is_json: bool) -> None:
    """JSON is given to who names it and does not like plain text better; curl gets plain lines."""
    reply = lite.get("/api/batch/x", headers={"Accept": accept})
    assert reply.mimetype == ("application/problem+json" if is_json else "text/plain")


def test_every_reply_has_its_headers(lite: Web) -> None:
    """Replies of all kinds have a request id and safe headers; a sane id of the caller's is kept, another is not (T81)."""
    for path in ("/healthz", "/nowhere", "/api/batches", "/api/batch/x"):
        reply = lite.get(path)
        assert len(reply.headers["X-Request-Id"]) == 16
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert lite.get("/healthz", headers={"X-Request-Id": "abc-1.2"}).headers["X-Request-Id"] == "abc-1.2"
    for bad in ("a b", "x" * 65, "<script>"):
        assert lite.get("/healthz", headers={"X-Request-Id": bad}).headers["X-Request-Id"] != bad


def test_unknown_ways(lite: Web) -> None:
    """An unknown path is 404, a wrong method 405 with what is allowed, in the form that is asked for."""
    assert lite.get("/api/nothing").status_code == 404
    reply = lite.get("/api/schedule", headers={"Accept": "application/json"})
    assert (reply.status_code, reply.get_json()["code"]) == (405, "method_not_allowed")
    assert "POST" in reply.headers["Allow"]


def test_a_failure_of_ours_tells_nothing_but_its_id(lite: Web, caplog: pytest.LogCaptureFixture) -> None:
    """An unexpected error is 500 with the request's id; what happened is in the log (T82)."""
    nothing: dict[str, str] = {}
    lite.app.view_functions["health.healthz"] = lambda: nothing["the secret"]
    reply = lite.get("/healthz")
    assert reply.status_code == 500 and "secret" not in reply.text and reply.headers["X-Request-Id"] in reply.text
    assert "the secret" in caplog.text and reply.headers["X-Request-Id"] in caplog.text


def test_a_catalog_that_is_away(lite: Web) -> None:
    """Without its catalog the service answers 503, and says nothing of where that is."""
    lite.app.extensions["lading"].catalog.dispose()
    with catalog.connect(lite.settings.catalog_url).begin() as connection:
        connection.exec_driver_sql("DROP TABLE idempotency")
        connection.exec_driver_sql("ALTER TABLE keys RENAME TO gone")
    reply = lite.get("/api/batches")
    assert (reply.status_code, "keys" in reply.text, "Retry-After" in reply.headers) == (503, False, True)


@pytest.mark.parametrize("is_json", [False, True])
def test_log_lines(is_json: bool) -> None:
    """A request is one line, as logfmt or JSON, whatever its path holds; a failure's traceback stays within it."""
    record = logging.LogRecord("app", logging.INFO, "", 0, "request", (), None)
    record.fields = {"path": '/a"b\nlevel=error', "status": 200, "key_id": None}
    line = LineFormatter(is_json).format(record)
    assert "\n" not in line
    if is_json:
        assert json.loads(line)["path"] == '/a"b\nlevel=error'
    else:
        assert line.endswith('path="/a\\"b\\nlevel=error" status=200 key_id=')


def test_requests_are_logged_without_their_query(lite: Web, caplog: pytest.LogCaptureFixture) -> None:
    """The log has method, path, status, time, request id and key id, but never a query or a key."""
    caplog.set_level(logging.INFO)
    lite.get("/api/batches?creationPath=SECRET", headers={"X-Request-Id": "one"})
    [fields] = [r.fields for r in caplog.records if r.message == "request"]  # type: ignore[attr-defined]
    assert fields.pop("ms") >= 0
    key_id = lite.key.split("_")[1]
    assert fields == {"method": "GET", "path": "/api/batches", "status": 200, "request_id": "one", "key_id": key_id}


# Idempotency keys ---------------------------------------------------------------------------------------------------------
def test_the_same_reply_again(web: Web) -> None:
    """The same request under the same key gives the first reply again and makes one batch; fields may change their order (T01)."""
    web.control()
    key = {"Idempotency-Key": "night 1"}
    first = web.post("/api/batch", {"control": "airlines", "comment": "x"}, headers=key)
    again = web.post("/api/batch", {"comment": "x", "control": "airlines"}, headers=key)
    assert (again.status_code, again.text, again.headers["Idempotent-Replayed"]) == (200, first.text, "true")
    assert again.mimetype == "text/plain" and "Idempotent-Replayed" not in first.headers
    assert len(web.get("/api/batches").text.splitlines()) == 1


def test_another_request_under_the_same_key(web: Web) -> None:
    """Another body, or another path, under the key is 422 and does nothing; another API key has keys of its own (T02, T04)."""
    web.control()
    key = {"Idempotency-Key": "k"}
    first = web.post("/api/batch", {"control": "airlines"}, headers=key).text
    assert web.post("/api/batch", {"control": "airlines", "comment": "y"}, headers=key).status_code == 422
    assert web.post(f"/api/batch/{first}/cancel", headers=key).status_code == 422
    other = web.post("/api/batch", {"control": "airlines"}, headers=key, key=web.new_key("import"))
    assert other.status_code == 200 and other.text != first


def test_a_refused_request_may_be_mended(lite: Web) -> None:
    """A request that was refused leaves its key free (T06)."""
    lite.control()
    key = {"Idempotency-Key": "k"}
    assert lite.post("/api/batch", {"control": "nobody"}, headers=key).status_code == 404
    assert lite.post("/api/batch", {"control": "airlines"}, headers=key).status_code == 200


@pytest.mark.parametrize(("sent", "status"), [("", 400), ("x" * 255, 200), ("x" * 256, 400), ("a\tb", 400), ("\u00e9", 400)])
def test_what_may_be_a_key(lite: Web, sent: str, status: int) -> None:
    """An Idempotency-Key has 1 to 255 printable ASCII characters; the refusal says so (T05)."""
    lite.control()
    reply = lite.post("/api/batch", {"control": "airlines"}, headers={"Idempotency-Key": sent})
    assert reply.status_code == status and (status == 200 or "1 to 255" in reply.text)


def test_twenty_at_once_make_one_batch(web: Web) -> None:
    """Of twenty equal requests at the same instant one makes a batch; the others are told the same, or that it is on its way (T03)."""
    web.control()
    barrier = threading.Barrier(20)
    replies: list[tuple[int, str]] = []

    def send() -> None:
        barrier.wait()
        reply = web.post("/api/batch", {"control": "airlines"}, headers={"Idempotency-Key": "k"})
        replies.append((reply.status_code, reply.text if reply.status_code == 200 else ""))

    threads = [threading.Thread(target=send) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {status for status, _ in replies} <= {200, 409} and len(replies) == 20
    assert len({text for status, text in replies if status == 200}) == 1
    assert len(web.get("/api/batches").text.splitlines()) == 1


def test_uploads_are_told_apart_by_their_bytes(lite: Web) -> None:
    """Two control files of one length under one key are two requests, whatever the boundary; the same one is replayed."""
    key = {"Idempotency-Key": "k"}

    def send(data: bytes) -> tuple[int, str | None]:
        reply = lite.post("/api/control", {"file": (BytesIO(data), "c")}, headers=key)
        return reply.status_code, reply.headers.get("Idempotent-Replayed")

    assert [send(CONTROL), send(CONTROL), send(CONTROL.replace(b"more", b"less"))] == [(200, None), (200, "true"), (422, None)]


# Health -------------------------------------------------------------------------------------------------------------------
def ready(web: Web) -> tuple[int, dict[str, str]]:
    """Return what /readyz says, by part."""
    reply = web.app.test_client().get("/readyz")
    return reply.status_code, dict(line.split(": ", 1) for line in reply.text.splitlines())


def test_alive_and_ready(web: Web) -> None:
    """Without a key /healthz says ok; /readyz names each part, and is 200 once a worker that sees this spool lives."""
    assert web.app.test_client().get("/healthz").text == "ok"
    assert ready(web)[1] == {"catalog": "ok", "redis": "ok", "spool": "ok", "target": "ok", "worker": "none has given a sign of life"}
    parts = web.app.extensions["lading"]
    queues.say_alive(parts.redis, "w1", parts.spool.marker())
    assert ready(web) == (200, dict.fromkeys(("catalog", "redis", "spool", "target", "worker"), "ok"))
    queues.say_alive(parts.redis, "w2", "another")
    status, said = ready(web)
    assert status == 503 and "another spool" in said["worker"]


def test_another_spool_is_not_ready(web: Web) -> None:
    """A web process that sees another spool than the first process did is not ready, and says so (T64)."""
    markers.record_marker(web.catalog, "spool", "the first one's")
    status, said = ready(web)
    assert status == 503 and "not the spool that the catalog knows" in said["spool"]


def test_nothing_is_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With every part away /readyz still answers, naming each, and telling nobody where they are (T82)."""
    settings = settings_for("postgresql://u:secret@127.0.0.1:1/x", tmp_path, "redis://127.0.0.1:1/0")
    app = create_app(settings)
    client = app.test_client()
    shutil.rmtree(tmp_path / "spool")
    (tmp_path / "spool").write_text("a file where a folder should be")
    reply = client.get("/readyz", headers={"Accept": "application/json"})
    assert reply.status_code == 503 and client.get("/healthz").status_code == 200
    parts = reply.get_json()["parts"]
    assert list(parts) == ["catalog", "redis", "spool", "target", "worker"] and "ok" not in parts.values()
    assert "127.0.0.1" not in reply.text and "secret" not in caplog.text
    say_if_spool_is_another(settings)
    assert "could not compare the spool" in caplog.text
    app.extensions["lading"].close()


def test_a_process_with_another_spool_says_so_loudly(lite: Web, caplog: pytest.LogCaptureFixture) -> None:
    """At its start a process logs an error where its spool is not the one that the catalog knows."""
    say_if_spool_is_another(lite.settings)
    assert "SPOOL_URL" not in caplog.text
    say_if_spool_is_another(replace(lite.settings, spool_url=f"{lite.settings.spool_url}-other"))
    assert "SPOOL_URL" in caplog.text
