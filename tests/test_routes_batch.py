"""Steps 2 and 4: batches made, scheduled, cancelled and listed over HTTP."""

import time
from datetime import timedelta
from pathlib import Path

import pytest

import clock
from app import create_app
from catalog import batches
from catalog.batches import Counts, State
from jobs import queues
from tests.web_parts import CONTROL, Web, lite, settings_for, web

__all__ = ["lite", "web"]
JSON = {"Accept": "application/json"}


def hints(web: Web) -> list[str]:
    """Return the batches for which a hint is in the queue."""
    return queues.queue(web.app.extensions["lading"].redis).job_ids


def end_run(web: Web, state: State = State.COMPLETED, **counts: int) -> None:
    """Claim the oldest batch and finish it, as a worker would."""
    claim = batches.claim(web.catalog, "a test", 30)
    assert claim is not None
    assert batches.finish(web.catalog, claim.batch_id, claim.fence, state=state, counts=Counts(**counts))


def test_a_batch_is_a_number(web: Web) -> None:
    """The reply is a decimal number below 2^53 and nothing else; all that was sent is kept."""
    digest = web.control()
    sent = {"sendFailureEmailTo": "a@example.org, b@example.org", "comment": "Nacht \u2603", "fileName": "f", "creationPath": "ERP_1"}
    reply = web.post("/api/batch", {**sent, "control": digest})
    assert (reply.status_code, reply.mimetype) == (200, "text/plain")
    assert reply.text.isdecimal() and 0 < int(reply.text) < 2**53
    made = batches.get(web.catalog, int(reply.text))
    assert made is not None and (made.control, made.comment, made.file_name, made.creation_path) == (digest, "Nacht \u2603", "f", "ERP_1")
    assert made.addresses == ("failure:a@example.org", "failure:b@example.org")


def test_json_instead_of_a_form(lite: Web) -> None:
    """A JSON object with the same fields does what a form does, the identifier being a number or a text, also where it is called a form."""
    lite.control()
    called_a_form = {"data": '{"control": "airlines"}', "content_type": "application/x-www-form-urlencoded"}
    assert lite.post("/api/batch", **called_a_form).status_code == 200
    made = lite.post("/api/batch", json={"control": "airlines", "comment": "x"}, headers=JSON)
    assert made.status_code == 200 and isinstance(made.get_json()["batch"], int)
    batch = lite.ready()
    for given in (batch, int(batch), float(batch)):
        reply = lite.post("/api/schedule", json={"batch": given, "ordered": True}, headers=JSON)
        assert reply.get_json() == {"status": "SCHEDULED", "batch": int(batch), "run": 1, "mode": "import"}


@pytest.mark.parametrize(
    ("path", "form", "status", "said"),
    [
        ("batch", {}, 400, "control: Missing data for required field."),
        ("batch", {"control": "nobody"}, 404, "nobody"),
        ("batch", {"control": "airlines", "creationPath": "lower"}, 400, "creationPath"),
        ("batch", {"control": "airlines", "sendSuccessEmailTo": "nobody"}, 400, "'nobody'"),
        ("batch", {"control": "airlines", "comment": "a\0b"}, 400, "NUL"),
        ("batch", {"control": "airlines", "coment": "x"}, 400, "allowed: control, comment, fileName"),
        ("schedule", {"batch": "B", "mode": "dryrun"}, 400, "mode: Not an allowed value. (allowed: dry-run, import)"),
        ("schedule", {"batch": "B", "execution": "perrecord"}, 400, "allowed: PerRecord, AllOrNone"),
        ("schedule", {"batch": "B", "whenBusy": "?", "ordered": "perhaps"}, 400, "ordered: Not a valid boolean."),
        ("schedule", {"batch": "B", "at": "2026-11-22 02:00"}, 400, "RFC 3339"),
        ("schedule", {"batch": "B", "at": "2026-02-30T02:00:00Z"}, 400, "RFC 3339"),
        ("schedule", {"batch": "B", "wait": "NaN"}, 400, "wait"),
        ("schedule", {"batch": "12x"}, 400, "no batch identifier"),
        ("schedule", {"batch": str(2**53)}, 400, "no batch identifier"),
        ("schedule", {"batch": "12345"}, 404, "There is no batch 12345."),
    ],
)
def test_what_is_wrong_is_said(lite: Web, path: str, form: dict[str, str], status: int, said: str) -> None:
    """A field that is missing, misspelt or out of range is refused, with what is allowed, and nothing happens."""
    batch = lite.ready()
    reply = lite.post(f"/api/{path}", {name: batch if value == "B" else value for name, value in form.items()})
    assert reply.status_code == status and said in reply.text, reply.text
    assert batches.get(lite.catalog, int(batch)).state is State.UPLOADING  # type: ignore[union-attr]


def test_fields_in_the_query_are_refused(lite: Web) -> None:
    """A dry run that is asked for in the query string is refused: passed over, it would be a real import."""
    batch = lite.ready()
    assert lite.post("/api/schedule?mode=dry-run", {"batch": batch}).status_code == 400
    assert lite.post("/api/schedule", {"batch": batch, "mode": ["dry-run", "import"]}).status_code == 400


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"[1]", "application/json", 400),
        (b'{"control":"airlines","control":"x"}', "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b'{"control": NaN}', "application/json", 400),
        (b'{"control": ["airlines"]}', "application/json", 400),
        (b'{"control": "\\ud800"}', "application/json", 400),
        (b"control=airlines", "text/csv", 415),
        (b"x" * (2**20 + 1), "application/json", 413),
        (b"comment=" + b"x" * (2**20), "application/x-www-form-urlencoded", 413),
        (b"{" + b"x" * (2**20), "application/x-www-form-urlencoded", 413),
        (b"{x", "application/x-www-form-urlencoded", 400),
    ],
)
def test_bodies_of_no_use(lite: Web, body: bytes, kind: str, status: int) -> None:
    """A body that cannot be read is refused, never a failure of ours."""
    reply = lite.post("/api/batch", body, content_type=kind)
    assert reply.status_code == status, reply.text


def test_scheduling_sends_a_hint(web: Web) -> None:
    """A schedule is committed, answers SCHEDULED, and leaves the batch's id in the queue; a repeated one changes nothing (T08)."""
    batch = web.ready()
    for _ in range(2):
        reply = web.post("/api/schedule", {"batch": batch})
        assert (reply.status_code, reply.text, reply.headers.get("Queue-Delayed")) == (200, "SCHEDULED", None)
    assert hints(web) == [batch]
    found = batches.get(web.catalog, int(batch))
    assert found is not None and found.run is not None and (found.state, found.run.number) == (State.SCHEDULED, 1)
    assert web.post("/api/schedule", {"batch": batch, "execution": "AllOrNone"}).status_code == 409


def test_options_are_kept(web: Web) -> None:
    """Each field of a schedule reaches the run."""
    batch, start = web.ready(), (clock.now() + timedelta(hours=1)).replace(microsecond=0)
    fields = {"mode": "dry-run", "execution": "AllOrNone", "ordered": "true", "at": start.isoformat(), "whenBusy": "refuse"}
    assert web.post("/api/schedule", {"batch": batch, **fields}).status_code == 200
    run = batches.runs_of(web.catalog, int(batch))[0]
    assert (run.options.mode, run.options.execution, run.options.is_ordered, run.options.start_at) == ("dry-run", "AllOrNone", True, start)
    assert hints(web) == []


def test_a_required_file_is_missing(web: Web) -> None:
    """A batch without a file that its control file requires cannot be scheduled; the reply names it (T12)."""
    reply = web.post("/api/schedule", {"batch": web.batch()}, headers=JSON)
    assert reply.status_code == 422
    assert (reply.get_json()["code"], [e["path"] for e in reply.get_json()["errors"]]) == ("files_missing", ["airlines.csv"])


def test_busy_and_refuse(web: Web) -> None:
    """With whenBusy=refuse a batch whose table is busy is refused, and may be scheduled otherwise later."""
    first, second = web.ready(), web.ready()
    assert web.post("/api/schedule", {"batch": first}).status_code == 200
    reply = web.post("/api/schedule", {"batch": second, "whenBusy": "refuse"}, headers=JSON)
    assert (reply.status_code, reply.get_json()["code"], "Retry-After" in reply.headers) == (409, "blocked", True)
    assert web.post("/api/schedule", {"batch": second}).status_code == 200


def test_a_dry_run_and_then_the_import(web: Web) -> None:
    """After its dry run a batch may be scheduled for good; the results of both runs are kept apart (T09)."""
    batch = web.ready()
    web.post("/api/schedule", {"batch": batch, "mode": "dry-run"})
    end_run(web, input=2, created=1, errors=1)
    assert web.post("/api/schedule", {"batch": batch}).text == "SCHEDULED"
    end_run(web, input=2, updated=2)
    assert web.get(f"/api/batch/{batch}?run=dry-run").text == "completed input=2 success=1 error=1 skip=0"
    assert web.get(f"/api/batch/{batch}").text == "completed input=2 success=2 error=0 skip=0"


def test_redis_is_down(web: Web, tmp_path: Path) -> None:
    """Without Redis a batch is scheduled all the same, within two seconds, and the reply says that it may take a little longer (T20)."""
    batch = web.ready()
    web.close()
    web.app = create_app(settings_for(web.settings.target_url, tmp_path, "redis://127.0.0.1:1/0"))
    start = time.monotonic()
    reply = web.post("/api/schedule", {"batch": batch})
    assert time.monotonic() - start < 2
    assert (reply.status_code, reply.text, reply.headers["Queue-Delayed"]) == (200, "SCHEDULED", "true")
    assert batches.waiting(web.catalog) == [int(batch)]


def test_cancel(web: Web) -> None:
    """A waiting batch is cancelled at once, and again; a running one is asked to stop; a finished one is 409."""
    waiting, running = web.ready(), web.ready()
    web.post("/api/schedule", {"batch": running})
    claim = batches.claim(web.catalog, "a test", 30)
    for _ in range(2):
        assert web.post(f"/api/batch/{waiting}/cancel").text == "CANCELLED"
    assert web.post(f"/api/batch/{running}/cancel").text == "CANCELLING"
    assert claim is not None and batches.heartbeat(web.catalog, claim.batch_id, claim.fence, 30) == "cancel"
    batches.finish(web.catalog, claim.batch_id, claim.fence, state=State.COMPLETED, counts=Counts())
    assert web.post(f"/api/batch/{running}/cancel").status_code == 409
    assert web.get(f"/api/batch/{waiting}").headers["Import-Exit"] == "1"


def test_lists_have_pages(web: Web) -> None:
    """Batches are listed newest first, in pages that a new batch does not shift, until there is no next."""
    made = [web.batch() for _ in range(5)]
    seen, cursor = [], ""
    for _ in range(3):
        page = web.get(f"/api/batches?limit=2{cursor}", headers=JSON).get_json()
        seen += [str(b["id"]) for b in page["batches"]]
        cursor = f"&cursor={page['next']}"
        web.batch()
    assert seen == made[::-1] and page["next"] is None


def test_lists_are_filtered(web: Web) -> None:
    """Each filter keeps what it names, and nothing else."""
    plain, marked = web.batch(), web.ready(creationPath="ERP")
    web.post("/api/schedule", {"batch": marked})
    control = web.control(CONTROL.replace(b"name: airlines\n", b""))
    other = web.post("/api/batch", {"control": control}).text
    since = batches.get(web.catalog, int(other)).created_at.isoformat().replace("+", "%2B")  # type: ignore[union-attr]
    for query, expected in {
        "state=scheduled": [marked],
        "creationPath=ERP": [marked],
        "control=airlines": [marked, plain],
        f"control={control}": [other],
        f"since={since}": [other],
        f"key={web.key.split('_')[1]}": [other, marked, plain],
        "key=nobody": [],
    }.items():
        assert [line.split()[0] for line in web.get(f"/api/batches?{query}").text.splitlines()] == expected, query
    for query in ("state=done", "cursor=x", "limit=0", "limit=201", "colour=red", "since=yesterday"):
        assert web.get(f"/api/batches?{query}").status_code == 400, query
