"""What may be sent again: a request whose reply was lost, a file that was imported the night before."""

from __future__ import annotations

import json
import socket
import time
from base64 import b64encode
from functools import partial

import pytest
from sqlalchemy.exc import OperationalError

import clock
from catalog import batches, idempotency
from tests.engine_parts import sql
from tests.security_parts import got, imported, work_off
from tests.test_routes_live import Live, live
from tests.web_parts import CONTROL, Web, lite, web

__all__ = ["lite", "live", "web"]


def sent_and_left(live: Live, path: str, form: str, key: str) -> None:
    """Send a POST and go away without reading the reply, as a client does that is killed just then."""
    user = b64encode(f"api:{live.web.key}".encode()).decode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {user}\r\nIdempotency-Key: {key}\r\n"
    body = f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(form)}\r\n\r\n{form}"
    with socket.create_connection(("127.0.0.1", live.port)) as connection:
        connection.sendall((head + body).encode())


def again(live: Live, path: str, form: str, key: str) -> str:
    """Send it again until the first one is answered; return the body."""
    for _ in range(100):
        body, status = live.curl(path, "-d", form, "-H", f"Idempotency-Key: {key}").rsplit(" ", 1)
        if status != "409":
            assert status == "200", body
            return body
        time.sleep(0.1)
    raise AssertionError("the first request is never answered")


def test_a_client_that_is_killed_before_it_reads_the_reply_may_ask_again(live: Live) -> None:
    """Whether the lost request was carried out or not, the same again makes one batch and one run (T07)."""
    live.web.control(CONTROL.replace(b", required: true", b""))
    for number in range(3):
        sent_and_left(live, "/api/batch", "control=airlines", f"night-{number}")
        batch = again(live, "/api/batch", "control=airlines", f"night-{number}")
        sent_and_left(live, "/api/schedule", f"batch={batch}", f"run-{number}")
        assert again(live, "/api/schedule", f"batch={batch}", f"run-{number}") == "SCHEDULED"
        found = batches.get(live.web.catalog, int(batch))
        assert found is not None and found.run is not None and found.run.number == 1
    assert len(got(live.web, "/api/batches").text.splitlines()) == 3


def test_every_post_honours_the_key(web: Web) -> None:
    """Whatever a POST of a batch's life does, it does it once under its key, and gives the same reply again (T01)."""
    web.control()
    batch = web.ready()
    for path, form in [("/api/batch", {"control": "airlines"}), ("/api/schedule", {"batch": batch}), (f"/api/batch/{batch}/cancel", {})]:
        first, second = (web.post(path, form, headers={"Idempotency-Key": f"k {path}"}) for _ in range(2))
        assert first.status_code == second.status_code == 200, first.text
        assert (first.data, first.mimetype) == (second.data, second.mimetype)
        assert (first.headers.get("Idempotent-Replayed"), second.headers.get("Idempotent-Replayed")) == (None, "true")
    assert len(got(web, "/api/batches").text.splitlines()) == 2


@pytest.mark.parametrize("path", ["/api/import/airlines?name=airlines.csv", "/api/batch"])
def test_a_request_that_breaks_off_after_its_work(web: Web, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """Where a batch is made and then the catalog cannot be reached, the same again gives that batch, and makes no other (T07)."""
    web.control()
    keep = idempotency.complete

    def cut_off(*_: object, **__: object) -> bool:
        monkeypatch.setattr(idempotency, "complete", keep)
        raise OperationalError("UPDATE", {}, ConnectionError("cut off"))

    monkeypatch.setattr(idempotency, "complete", cut_off)
    form = {"control": "airlines"} if path == "/api/batch" else b"carrier,name\nAA,American\n"
    first, second, third = (web.post(path, form, headers={"Idempotency-Key": "night"}) for _ in range(3))
    assert (first.status_code, second.status_code) == (503, 202 if "import" in path else 200), second.text
    assert (second.text, third.headers["Idempotent-Replayed"]) == (third.text, "true")
    assert got(web, "/api/batches").text.count("\n") == 1


def test_a_request_that_was_taken_for_dead(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """It makes no batch when it goes on after all, and however often its repetitions break off, there is one (T07)."""

    def begun(fingerprint: str = "f") -> idempotency.Held:
        found = idempotency.begin(web.catalog, "k", "i", fingerprint)
        assert isinstance(found, idempotency.Fresh), found
        return idempotency.Held("k", "i", found.ticket)

    def later() -> None:
        moved = clock.now() + idempotency.ABANDONED_AFTER
        monkeypatch.setattr(clock, "now", lambda: moved)

    made = partial(batches.create, web.catalog, control=web.control(), key_id="k")
    slow = begun()
    later()
    again = begun()
    with pytest.raises(idempotency.TakenOver):
        made(held=slow)
    batch = made(held=again)
    later()
    assert made(held=begun()) == batch
    later()
    assert idempotency.begin(web.catalog, "k", "i", "another request") == idempotency.Conflict()
    assert len(got(web, "/api/batches").text.splitlines()) <= 1


def test_the_same_files_the_next_night_change_nothing(web: Web) -> None:
    """The same file, control file and mode once more: the batch runs, every row is unchanged, and a script ends well (T14)."""
    data = b"carrier,name\nAA,American\nUA,United\n"
    first = imported(web, data, "airlines.csv", CONTROL)
    before = sql(web.settings.target_url, "SELECT * FROM airlines ORDER BY carrier")
    second = imported(web, data, "airlines.csv", CONTROL)
    assert first != second and got(web, f"/api/batch/{first}").text == "completed input=2 success=2 error=0 skip=0"
    reply = got(web, f"/api/batch/{second}")
    assert (reply.text, reply.headers["Import-Exit"]) == ("completed input=2 success=0 error=0 skip=2", "0")
    codes = [line.split(",")[0] for line in got(web, f"/api/batch/{second}/results").text.splitlines()[1:]]
    assert codes == ["Core_Data_RecordUnchanged"] * 2
    assert sql(web.settings.target_url, "SELECT * FROM airlines ORDER BY carrier") == before


def test_the_results_of_a_dry_run_outlast_the_import(web: Web) -> None:
    """A dry run and then the import of one batch: the results of both can be fetched, and differ in nothing but the ids (T09)."""
    batch = web.ready()
    for mode in ("dry-run", "import"):
        assert web.post("/api/schedule", json.dumps({"batch": batch, "mode": mode}), content_type="application/json").text == "SCHEDULED"
        work_off(web)
    dry, real = (got(web, f"/api/batch/{batch}/results?run={mode}").text for mode in ("dry-run", "import"))
    assert dry.replace(",,,airlines.csv", ",,AA,airlines.csv") == real and ",AA," in real and ",AA," not in dry
