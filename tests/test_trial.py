"""A control file tried on a sample: what each record would become, with nothing stored, nothing written, and within limits."""

from __future__ import annotations

import gzip
import json
from io import BytesIO
from typing import Any

import pytest
from werkzeug.test import TestResponse

import routes.trial
from jobs import trial
from tests.engine_parts import sql
from tests.web_parts import BAD_CONTROL, CONTROL, Web, lite, web

__all__ = ["lite", "web"]

FLIGHTS = """\
name: flights
files:
  flights.csv: {entity: Flight, action: Merge}
  DEFAULT: {read: csv}
entities:
- entity: Airline
  table: airlines
  input: [carrier, name]
  mappings:
  - carrier:
  - name:
- entity: Flight
  table: flights
  input: [number, carrier, delay, note, secret]
  mappings:
  - id: {converter: {type: CodeReferenceLookup, input: number, column: number}}
  - number:
  - carrier: {converter: {type: CodeReferenceLookup, input: carrier, column: carrier}}
  - delay:
  - note: {empty: keep}
  - secret: {masked: true}
"""
SAMPLE = (
    "number,carrier,delay,note,secret\n"
    "1,AA,5,late,s3cret\n"  # is there
    "2,UA,0,,\n"  # is not
    "3,UX,soon,x,s3cret\n"  # its carrier is not there, and its delay is no number
    "2,AA,7,again,\n"  # the second of its key
)


@pytest.fixture
def flights(web: Web) -> Web:
    """Give the application with a second table, which refers to the first."""
    sql(web.settings.target_url, "INSERT INTO airlines VALUES ('AA', 'American'), ('UA', 'United')")
    sql(
        web.settings.target_url,
        "CREATE TABLE flights (number varchar(9) PRIMARY KEY, carrier varchar(2) REFERENCES airlines (carrier), delay integer, "
        "note text DEFAULT 'none', secret text)",
    )
    sql(web.settings.target_url, "INSERT INTO flights VALUES ('1', 'UA', 0, 'old', NULL)")
    return web


def tried(web: Web, text: str, sample: str | bytes, name: str = "flights.csv", key: str | None = None, **fields: Any) -> TestResponse:
    """Try a control file on a sample."""
    data = sample.encode() if isinstance(sample, str) else sample
    form = {"text": text, "name": name, "file": (BytesIO(data), name), **fields}
    return web.post("/api/controls/try", {k: v for k, v in form.items() if v is not None}, key, headers={"Accept": "application/json"})


def cells(record: dict[str, Any]) -> dict[str, str]:
    """Return what a record's columns would get: the value, or in brackets what it means instead."""
    return {c["column"]: c["value"] if c["means"] == "value" else f"<{c['means']}>" for c in record["cells"]}


def rows_of(web: Web) -> list[tuple[Any, ...]]:
    """Return all that the target's tables hold."""
    return sql(web.settings.target_url, "SELECT * FROM flights ORDER BY number") + sql(web.settings.target_url, "SELECT * FROM airlines")


def test_each_record_tells_what_it_would_become(flights: Web) -> None:
    """A record's operation, its converted and looked-up values, and what is wrong with it are told; the tables stay as they were."""
    before = rows_of(flights)
    reply = tried(flights, FLIGHTS, SAMPLE)
    assert reply.status_code == 200, reply.text
    known, new, wrong, again = reply.get_json()["records"]
    assert (known["line"], known["entity"], known["table"], known["operation"], known["row"]) == (2, "Flight", "flights", "update", "1")
    assert cells(known) == {"number": "1", "carrier": "AA", "delay": "5", "note": "late", "secret": "<masked>"}
    assert new["operation"] == "create" and new["is_certain"]
    assert cells(new) == {"number": "2", "carrier": "UA", "delay": "0", "note": "<default>", "secret": "<null>"}
    assert wrong["operation"] == "refuse" and cells(wrong)["delay"] == cells(wrong)["carrier"] == "<fault>"
    assert {(f["column"], f["value"]) for f in wrong["faults"]} == {("delay", "soon"), ("carrier", "UX")}
    assert again["operation"] == "create" and not again["is_certain"]
    assert "s3cret" not in reply.text and reply.get_json()["is_whole"] and rows_of(flights) == before
    assert flights.get("/api/controls").text == ""


def test_a_sample_of_several_entities(flights: Web) -> None:
    """Rows that name their entity, other control files and headers are tried by the same rules as in a run."""
    flights.control()
    sample = "#Entity,Action,carrier,name\nAirline,Delete,AA,\nAirline,Insert,AA,x\nAirline,Update,ZZ,x\n!airlines\nAirline,Merge,BB,Blue\n"
    header, gone, twice, missing, named = tried(flights, FLIGHTS, sample, "x.csv").get_json()["records"]
    assert header["operation"] == "skip" and gone["operation"] == "delete" and gone["row"] == "AA"
    assert (twice["operation"], twice["faults"][0]["code"]) == ("refuse", "Core_Data_RecordExists")
    assert (missing["operation"], missing["faults"][0]["code"]) == ("refuse", "Core_Data_RecordNotFound")
    assert named["operation"] == "create" and cells(named) == {"carrier": "BB", "name": "Blue"}


def test_a_look_up_that_an_earlier_record_may_decide(web: Web) -> None:
    """Where a record refers to its own table, or a trigger writes what nobody knows, what is told is as the table is now, and says so."""
    sql(web.settings.target_url, "CREATE TABLE parts (code varchar(9) PRIMARY KEY, part_of varchar(9) REFERENCES parts (code))")
    sql(web.settings.target_url, "INSERT INTO parts VALUES ('a', NULL)")
    control = (
        "entities:\n- entity: Part\n  table: parts\n  input: [code, part_of]\n  mappings:\n  - code:\n"
        "  - part_of: {converter: {type: CodeReferenceLookup, input: part_of, column: code}}\n"
        "files: {parts.csv: {entity: Part, action: Merge}}\n"
    )
    first, second = tried(web, control, "code,part_of\nb,a\nc,b\n", "parts.csv").get_json()["records"]
    assert cells(first) == {"code": "b", "part_of": "a"}
    assert cells(second) == {"code": "c", "part_of": "<later>"} and second["operation"] == "create" and not second["is_certain"]


def test_what_curl_is_told(lite: Web) -> None:
    """Without JSON each record is one line; the sample may come as text, and the control file by its name."""
    lite.control()
    form = {"control": "airlines", "sample": "carrier,name\nAA,American\nTOOLONG,\n"}
    reply = lite.post("/api/controls/try", form, content_type="multipart/form-data")
    ok, bad = reply.text.splitlines()
    assert ok == "2\tcreate\tAirline\tcarrier=AA name=American"
    assert bad.startswith("3\trefuse\tAirline\t") and "TOOLONG" in bad


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"text": BAD_CONTROL.decode()}, 400, "control_file_invalid"),
        ({"text": None}, 400, "request_invalid"),
        ({"control": "airlines"}, 400, "request_invalid"),
        ({"text": None, "control": "none"}, 404, "control_unknown"),
        ({"name": "other.csv"}, 422, "sample_refused"),
        ({"sample": "x" * 101, "file": None}, 413, "too_large"),
    ],
)
def test_what_cannot_be_tried(lite: Web, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], status: int, code: str) -> None:
    """A control file with faults, none or two of them, a file that it has no place for, and too large a sample are refused."""
    form = {"text": CONTROL.decode(), "name": "airlines.csv", "file": (BytesIO(b"carrier,name\n"), "a.csv")} | fields
    sent = {name: value for name, value in form.items() if value is not None}
    monkeypatch.setattr(routes.trial, "SAMPLE_BYTES", 100)
    reply = lite.post("/api/controls/try", sent, headers={"Accept": "application/json"}, content_type="multipart/form-data")
    assert (reply.status_code, reply.get_json()["code"]) == (status, code)


def test_who_may_try(lite: Web) -> None:
    """Without `import` nothing is looked up in the target; a key that is limited to some control files tries those only."""
    sql(lite.settings.target_url, "INSERT INTO airlines VALUES ('AA', 'American')")
    sample = "carrier,name\nAA,x\n"
    for key, operation in ((lite.new_key("control"), "read"), (lite.new_key("import"), "update")):
        assert tried(lite, CONTROL.decode(), sample, "airlines.csv", key).get_json()["records"][0]["operation"] == operation
    lite.control()
    limited = lite.new_key("import", limits={"controls": ["airlines"]})
    assert tried(lite, CONTROL.decode(), sample, "airlines.csv", limited).status_code == 403
    assert tried(lite, None, sample, "airlines.csv", limited, control="airlines").status_code == 200  # type: ignore[arg-type]
    assert tried(lite, CONTROL.decode(), sample, "airlines.csv", lite.new_key("read")).status_code == 403
    elsewhere = lite.new_key("import", limits={"tables": [[None, "others"]]})
    assert tried(lite, CONTROL.decode(), sample, "airlines.csv", elsewhere).status_code == 403


def test_a_sample_is_bounded(lite: Web) -> None:
    """Only the first records are tried; a small file that expands without end is refused."""
    many = tried(lite, CONTROL.decode(), "carrier,name\n" + "AA,x\n" * 300, "airlines.csv").get_json()
    assert len(many["records"]) == 200 and not many["is_whole"]
    control = CONTROL.decode().replace("airlines.csv", "airlines.csv.gz")
    bomb = gzip.compress(b"carrier,name\nAA," + b"x" * (64 << 20))
    reply = tried(lite, control, bomb, "airlines.csv.gz")
    assert (reply.status_code, reply.get_json()["code"]) == (422, "sample_refused") and "expands" in reply.get_json()["detail"]


@pytest.mark.parametrize(("limit", "value"), [("WALL_SECONDS", 0.01), ("_ROOT", "/")])
def test_a_process_that_does_not_end_well_is_given_up(lite: Web, monkeypatch: pytest.MonkeyPatch, limit: str, value: Any) -> None:
    """A trial that is killed for its time, or that dies, is the sample's refusal, and no error of the service; the next one is tried."""
    with monkeypatch.context() as patched:
        patched.setattr(trial, limit, value)
        reply = tried(lite, CONTROL.decode(), "carrier,name\nAA,x\n", "airlines.csv")
    assert (reply.status_code, reply.get_json()["code"]) == (422, "sample_too_costly")
    assert tried(lite, CONTROL.decode(), "carrier,name\nAA,x\n", "airlines.csv").status_code == 200


def test_memory_is_bounded(lite: Web) -> None:
    """A control file that makes much of little is stopped at the limit of its process, not at the service's."""
    columns = [f"c{n}" for n in range(1500)]
    sql(lite.settings.target_url, f"CREATE TABLE wide ({', '.join(f'{c} text' for c in columns)})")
    mappings = [{column: {"input": "a", "filters": ["upper"]}} for column in columns]
    control = {
        "files": {"a.csv": {"entity": "Wide", "action": "Insert"}},
        "entities": [{"entity": "Wide", "table": "wide", "input": ["a"], "mappings": mappings}],
    }
    sample = "a\n" + "\n".join(["x" * 60_000] * 6)
    reply = tried(lite, json.dumps(control), sample, "a.csv")
    assert (reply.status_code, reply.get_json()["code"]) == (422, "sample_too_costly")
