"""How a batch stands, over HTTP."""

import threading
import time

import pytest

from catalog import batches
from catalog.batches import Counts, Execution, Mode, State
from schemas.requests import EXECUTIONS, MODES, STATES
from tests.web_parts import Web, lite, web

__all__ = ["lite", "web"]
JSON = {"Accept": "application/json"}
COUNTS = ["input", "success", "created", "updated", "deleted", "skip", "error", "unprocessed"]
FIELDS = ["id", "control", "comment", "state", "mode", "status_msg", *(f"{name}_count" for name in COUNTS)]
FIELDS += ["progress", "rows_per_second", "eta_seconds", "created_at", "started_at", "completed_at", "files"]
RESULTS = (
    b"#Code,Message,Severity,LineNumber,Properties,EntityId,File\n"
    b"Core_Data_RecordCreated,Record successfully created,Information,2,,1,a.csv\n"
    b'Core_NotNullValidator,"name: empty, but needed",Error,3,"{""name"": """"}",,a.csv\n'
    b'Core_Data_X,"size: too large",Error,4,"{""size"": ""9""}",,a.csv\n'
)


def finished(web: Web, state: State = State.COMPLETED, code: str = "", mode: str = "import", **counts: int) -> str:
    """Schedule a batch and end its run as a worker would; return its identifier."""
    batch = web.ready(comment="of the night")
    assert web.post("/api/schedule", {"batch": batch, "mode": mode}).status_code == 200
    claim = batches.claim(web.catalog, "a test", 30)
    assert claim is not None
    with web.app.extensions["lading"].spool.receive() as receiver:
        receiver.write(RESULTS)
        digest, size = receiver.commit()
    ended = {"state": state, "counts": Counts(**counts), "code": code, "results_digest": digest, "results_size": size}
    assert batches.finish(web.catalog, claim.batch_id, claim.fence, **ended)
    return batch


def test_one_line(web: Web) -> None:
    """As text the status is one line without a newline, to the letter as documented."""
    reply = web.get(f"/api/batch/{finished(web, input=200, created=190, updated=6, deleted=1, errors=3)}")
    assert (reply.status_code, reply.text) == (200, "completed input=200 success=197 error=3 skip=0")
    assert (reply.mimetype, reply.headers["Import-Exit"], reply.headers.get("Retry-After")) == ("text/plain", "2", None)


def test_the_line_holds_the_count_law(lite: Web) -> None:
    """Records that were not processed, and why, stand at the line's end, so that its numbers always add up."""
    reply = lite.get(f"/api/batch/{finished(lite, State.FAILED, 'digest_mismatch', input=5, created=1, unprocessed=4)}")
    assert reply.text == "failed input=5 success=1 error=0 skip=0 unprocessed=4 code=digest_mismatch"


def test_json_has_every_field(web: Web) -> None:
    """As JSON the status has every documented field, its times with Z, its files with digest and size."""
    batch = finished(web, mode="dry-run", input=4, created=1, skipped=1, errors=2)
    reply = web.get(f"/api/batch/{batch}", headers=JSON)
    status = reply.get_json()
    assert set(FIELDS) <= set(status)
    assert (status["id"], status["state"], status["mode"], status["comment"]) == (int(batch), "completed", "dry-run", "of the night")
    counts = {name: status[name] for name in FIELDS if name.endswith("_count") and status[name]}
    assert counts == {"input_count": 4, "success_count": 1, "created_count": 1, "skip_count": 1, "error_count": 2}
    assert status["progress"] == 1 and status["completed_at"].endswith("Z") and status["created_at"] < status["completed_at"]
    [file] = status["files"]
    assert (file["name"], file["size"], len(file["digest"])) == ("airlines.csv", 25, 64)
    assert "errors" not in status


def test_the_first_errors(web: Web) -> None:
    """With include_errors the first max_errors errors come along, each with line, column, code and values."""
    batch = finished(web, input=3, created=1, errors=2)
    first = web.get(f"/api/batch/{batch}?include_errors=true&max_errors=1", headers=JSON).get_json()["errors"]
    assert [{k: e[k] for k in ("message", "data_row", "line", "column", "code")} for e in first] == [
        {
            "message": "name: empty, but needed",
            "data_row": {"name": ""},
            "line": 3,
            "column": "name",
            "code": "Core_NotNullValidator",
        }
    ]
    both = web.get(f"/api/batch/{batch}?include_errors=true", headers=JSON).get_json()["errors"]
    assert [e["line"] for e in both] == [3, 4]


def test_errors_of_a_batch_that_has_not_run(lite: Web) -> None:
    """A batch that has not run yet has no errors, which is no failure."""
    batch = lite.ready()
    for _ in range(2):
        assert lite.get(f"/api/batch/{batch}?include_errors=true", headers=JSON).get_json()["errors"] == []
        lite.post("/api/schedule", {"batch": batch})


@pytest.mark.parametrize(
    ("state", "counts", "expected"),
    [
        (State.COMPLETED, {"input": 1, "skipped": 1}, "0"),
        (State.COMPLETED, {"input": 1, "errors": 1}, "2"),
        (State.FAILED, {"input": 1, "unprocessed": 1}, "1"),
        (State.CANCELLED, {}, "1"),
    ],
)
def test_import_exit(lite: Web, state: State, counts: dict[str, int], expected: str) -> None:
    """Import-Exit is 0 only where every record is well; fail=rows turns 2, and only 2, into 422 with the same body."""
    batch = finished(lite, state, **counts)  # type: ignore[arg-type]
    plain, strict = lite.get(f"/api/batch/{batch}"), lite.get(f"/api/batch/{batch}?fail=rows")
    assert (plain.status_code, plain.headers["Import-Exit"]) == (200, expected)
    assert (strict.status_code, strict.text) == (422 if expected == "2" else 200, plain.text)


def test_not_finished(web: Web) -> None:
    """A batch on its way says Import-Exit 3, and when to ask again."""
    batch = web.ready()
    assert web.get(f"/api/batch/{batch}").headers["Import-Exit"] == "3"
    web.post("/api/schedule", {"batch": batch})
    reply = web.get(f"/api/batch/{batch}")
    assert (reply.headers["Import-Exit"], reply.headers["Retry-After"]) == ("3", "1")
    assert reply.text == "scheduled input=0 success=0 error=0 skip=0"


def test_waiting_ends_with_the_run(web: Web) -> None:
    """With wait the reply comes as soon as the run has ended, and not before."""
    batch = web.ready()
    web.post("/api/schedule", {"batch": batch})

    def carry_out() -> None:
        claim = batches.claim(web.catalog, "a test", 30)
        time.sleep(0.5)
        assert claim is not None
        batches.finish(web.catalog, claim.batch_id, claim.fence, state=State.COMPLETED, counts=Counts())

    worker = threading.Thread(target=carry_out)
    start = time.monotonic()
    worker.start()
    reply = web.get(f"/api/batch/{batch}?wait=20")
    worker.join()
    assert reply.text.startswith("completed ") and 0.4 < time.monotonic() - start < 5


def test_waiting_has_an_end(lite: Web) -> None:
    """A wait ends after its time, or after the cap if that is less, with the batch as it is."""
    batch = lite.ready()
    start = time.monotonic()
    assert lite.get(f"/api/batch/{batch}?wait=0.3").text.startswith("uploading ")
    object.__setattr__(lite.app.extensions["lading"].settings, "wait_cap_seconds", 0.3)
    reply = lite.post("/api/schedule", {"batch": batch, "wait": "600"})
    assert (reply.text, reply.headers["Import-Exit"]) == ("SCHEDULED", "3")
    assert 0.6 <= time.monotonic() - start < 3


@pytest.mark.parametrize("query", ["wait=-1", "wait=x", "max_errors=0", "run=both", "fail=all", "colour=red", "wait=1&wait=2"])
def test_bad_queries(lite: Web, query: str) -> None:
    """A query that cannot be meant is 400."""
    assert lite.get(f"/api/batch/{lite.ready()}?{query}").status_code == 400


@pytest.mark.parametrize("text", ["abc", "0", "-1", "1.0", "9007199254740992", "%F0%9F%92%A9", "\uff11\uff12", "1%20"])
def test_a_text_that_is_no_id(lite: Web, text: str) -> None:
    """A text that is no batch identifier is 400; a number that none has is 404; a run that is not there too."""
    assert lite.get(f"/api/batch/{text}").status_code == 400
    assert lite.get("/api/batch/9007199254740991").status_code == 404
    assert lite.get(f"/api/batch/{lite.ready()}?run=dry-run").status_code == 404


def test_the_states_are_those_of_the_catalog() -> None:
    """The words that requests may use are those that the catalog has."""
    assert (set(STATES), set(MODES), set(EXECUTIONS)) == (set(State), set(Mode), set(Execution))
