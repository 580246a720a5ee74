"""Results, refused rows and errors over HTTP, from a live web process with batches as a worker leaves them."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest

from catalog import batches, files
from catalog.batches import Counts, Mode, Options, State
from engine import ledger
from engine.ledger import LedgerEntry
from engine.target import open_target
from tests.upload_parts import Web, running

HEADER = "#Code,Message,Severity,LineNumber,Properties,EntityId,File\n"
CONTROL = b"""
files:
  flights.csv: {entity: Flight, action: Insert}
  more.json: {entity: Flight, action: Insert}
  multi.csv: {}
entities:
- {entity: Flight, table: flights, input: [code, name], mappings: [code: , name: ]}
"""
FLIGHTS = 'code,name\n1,"=two\nlines"\n2,b\n3,c\n'
RESULTS = (
    HEADER
    + 'Bad,"=SUM(1); ""quoted""",Error,2,"{""name"": ""=two\\nlines"", ""code"": ""1""}",,flights.csv\n'
    + "Core_Data_RecordCreated,Record successfully created,Information,4,,-17,flights.csv\n"
    + 'Bad,again,Error,5,"{""name"": ""c""}",,flights.csv\n'
    + "Core_Data_RecordCreated,Record successfully created,Information,1,,18,more.json\n"
    + "Worse,ünknown,Error,2,,,more.json\n"
)


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """A web process."""
    with running(tmp_path_factory.mktemp("web"), 1_000_000) as process:
        yield process


def put(web: Web, data: bytes) -> str:
    """Store some bytes."""
    with web.spool.receive() as receiver:
        receiver.write(data)
        return receiver.commit()[0]


def scheduled(web: Web, mode: Mode = Mode.IMPORT, key: str | None = None) -> int:
    """Make a batch with two files, and schedule it."""
    batch = int(web.batch(CONTROL, key))
    for name, data in (("flights.csv", FLIGHTS.encode()), ("more.json", b'[{"code": 1}, {"code": 2}]')):
        digest = put(web, data)
        files.add(web.catalog, digest, len(data), key_id=(key or web.key).split("_")[1], name=name)
        batches.attach(web.catalog, batch, name, digest)
    batches.schedule(web.catalog, batch, Options(mode), [(None, f"flights{batch}")])
    return batch


def ended(web: Web, batch: int, results: str | None, state: State = State.COMPLETED) -> None:
    """Let a worker claim the batch and end it with these results."""
    claim = batches.claim(web.catalog, "tester", 60)
    assert claim is not None and claim.batch_id == batch
    stored = {} if results is None else {"results_digest": put(web, results.encode()), "results_size": len(results.encode())}
    assert batches.finish(web.catalog, batch, claim.fence, state=state, counts=Counts(5, created=2, errors=3), **stored)


@pytest.fixture(scope="module")
def batch(web: Web) -> int:
    """A batch that is finished."""
    made = scheduled(web)
    ended(web, made, RESULTS)
    return made


def test_the_whole_log(web: Web, batch: int) -> None:
    """A finished run's results come as they were stored, by Range too, with their digest as ETag, under a name to save them by."""
    route = f"/api/batch/{batch}/results"
    assert web.curl(route) == RESULTS + " 200"
    assert web.answer("-r", "0-8", route) == b"#Code,Mes 206"
    head = web.curl("-I", route).lower()
    assert "content-type: text/csv; charset=utf-8" in head and f"filename=results-{batch}.csv" in head
    assert f"content-length: {len(RESULTS.encode())}" in head
    etag = head.partition("etag: ")[2].split()[0]
    assert web.curl("-H", f"If-None-Match: {etag}", route) == " 304"


def test_one_severity(web: Web, batch: int) -> None:
    """severity=Error leaves the errors only, with the header, each as it stands in the whole."""
    expected = HEADER + "".join(line for line in RESULTS.splitlines(keepends=True) if ",Error," in line)
    assert web.curl(f"/api/batch/{batch}/results?severity=Error") == expected + " 200"
    assert web.curl(f"/api/batch/{batch}/results?severity=Warning") == HEADER + " 200"
    assert "allowed: Information, Warning, Error" in web.curl(f"/api/batch/{batch}/results?severity=error")


def test_a_spreadsheet_runs_nothing(web: Web, batch: int) -> None:
    """?for=spreadsheet neutralises formulas and keeps numbers; the plain form stays byte for byte."""
    text = web.answer(f"/api/batch/{batch}/results?for=spreadsheet").removesuffix(b" 200").decode("utf-8-sig")
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert rows[1][1] == '\'=SUM(1); "quoted"'
    assert rows[2][5] == "-17"
    assert len(rows) == 6


def test_json_pages(web: Web, batch: int) -> None:
    """Pages hold the results as objects; `next` leads through all of them, exactly once each, and is null behind the last."""
    items: list[dict[str, Any]] = []
    sizes: list[int] = []
    cursor = 0
    while cursor is not None:
        page = json.loads(web.curl("-H", "Accept: application/json", f"/api/batch/{batch}/results?limit=2&cursor={cursor}")[:-4])
        items, cursor, sizes = items + page["items"], page["next"], [*sizes, len(page["items"])]
    assert sizes == [2, 2, 1]
    assert [i["line"] for i in items] == [2, 4, 5, 1, 2]
    assert items[0] == {
        "code": "Bad", "message": '=SUM(1); "quoted"', "severity": "Error", "line": 2, "properties": {"name": "=two\nlines", "code": "1"},
        "entity_id": None, "file": "flights.csv",
    }  # fmt: skip
    page = json.loads(web.curl("-H", "Accept: application/json", f"/api/batch/{batch}/results?severity=Error")[:-4])
    assert [i["code"] for i in page["items"]] == ["Bad", "Bad", "Worse"] and page["next"] is None
    for cursor in (3, 61, len(RESULTS.encode()) + 1, 99999):
        assert web.curl("-H", "Accept: application/json", f"/api/batch/{batch}/results?cursor={cursor}").endswith(" 400")


def test_refused_rows(web: Web, batch: int) -> None:
    """The refused rows come as they stood, with the header; of a JSON array as an array; and the reasons beside them."""
    assert web.curl(f"/api/batch/{batch}/failed/flights.csv") == 'code,name\n1,"=two\nlines"\n3,c\n 200'
    assert json.loads(web.curl(f"/api/batch/{batch}/failed/more.json")[:-4]) == [{"code": 2}]
    reasons = web.curl(f"/api/batch/{batch}/failed/flights.csv/reasons")
    assert reasons == HEADER + "".join(x for x in RESULTS.splitlines(keepends=True) if ",Error," in x and "flights" in x) + " 200"
    assert web.curl(f"/api/batch/{batch}/failed/multi.csv").endswith(" 404")
    assert "failed-flights.csv" in web.curl("-I", f"/api/batch/{batch}/failed/flights.csv")


def test_errors_rolled_up(web: Web, batch: int) -> None:
    """Errors are grouped by code, column and value, as lines or JSON."""
    groups = json.loads(web.curl("-H", "Accept: application/json", f"/api/batch/{batch}/errors")[:-4])
    assert groups["errors"] == 3
    assert groups["groups"][1] == {
        "code": "Bad", "column": "name", "value": "c", "count": 1, "example": "again", "lines": [{"file": "flights.csv", "line": 5}],
    }  # fmt: skip
    lines = web.curl(f"/api/batch/{batch}/errors").splitlines()
    assert lines[1] == "1 Bad name: again (flights.csv:5)" and len(lines) == 4


def test_each_run_keeps_its_results(web: Web) -> None:
    """?run= chooses a run; the last is the default; a run that never was is 404."""
    made = scheduled(web, Mode.DRY_RUN)
    ended(web, made, HEADER + "Dry,run,Information,2,,,flights.csv\n")
    assert "run" in web.curl(f"/api/batch/{made}/results?run=import") and web.curl(f"/api/batch/{made}/results?run=import").endswith(" 404")
    batches.schedule(web.catalog, made, Options(Mode.IMPORT), [(None, f"flights{made}")])
    ended(web, made, HEADER + "Real,run,Information,2,,,flights.csv\n")
    assert "Dry,run" in web.curl(f"/api/batch/{made}/results?run=dry-run")
    assert "Real,run" in web.curl(f"/api/batch/{made}/results?run=import")
    assert "Real,run" in web.curl(f"/api/batch/{made}/results")


def test_a_running_batch(web: Web) -> None:
    """While it runs, the committed chunks can be read, up to the first that is missing; what needs the end says so."""
    made = scheduled(web)
    route = f"/api/batch/{made}/results"
    assert web.curl(route) == HEADER + " 200"
    claim = batches.claim(web.catalog, "tester", 60)
    assert claim is not None and claim.batch_id == made
    first, second, late = (f"Core_Data_RecordCreated,ok,Information,{n},,{n},flights.csv\n" for n in (2, 3, 9))
    run = f"{made}-{claim.run}"
    assert web.curl(route).endswith(" 503")  # the target has no ledger yet: that is said before the reply has begun
    web.spool.write_segment(run, f"00000001-{claim.fence}", second.encode())
    target = open_target("sqlite:///" + str(web.spool_dir.parent / "target.db"))
    target.create_ledger()
    connection = target.connect_raw()
    fence = ledger.take_over(connection, run, "host", 1, "now", target.dialect)
    for chunk, segment in ((0, first.encode()), (1, None), (3, late.encode())):
        entry = LedgerEntry(run, chunk, fence if chunk != 1 else claim.fence, 0, chunk, 1, chunk + 3, segment=segment)
        connection.execute("BEGIN")
        ledger.add(connection, entry, target.dialect)
        connection.execute("COMMIT")
    connection.close()
    target.close()
    assert web.curl(route) == HEADER + first + second + " 200"
    assert "Retry-After: 1" in web.curl("-i", route)
    page = json.loads(web.curl("-H", "Accept: application/json", route)[:-4])
    assert [i["line"] for i in page["items"]] == [2, 3] and page["next"] == len(HEADER + first + second)
    page = json.loads(web.curl("-H", "Accept: application/json", f"{route}?cursor={page['next']}")[:-4])
    assert page["items"] == [] and page["next"] == len(HEADER + first + second)
    assert web.curl(f"/api/batch/{made}/failed/flights.csv").endswith(" 409")
    assert batches.finish(web.catalog, made, claim.fence, state=State.FAILED, counts=Counts(), code="x")
    # It was given up without its results being stored, so the ledger still tells them.
    assert web.curl(route) == HEADER + first + second + " 200"


def test_others_see_nothing(web: Web, batch: int) -> None:
    """Another key's batch is 404 on every route, as one that is not there; without a key it is 401; before a run there are no results."""
    other = web.new_key("read")
    for tail in ("results", "failed/flights.csv", "failed/flights.csv/reasons", "errors"):
        assert web.curl(f"/api/batch/{batch}/{tail}", key=other).endswith(" 404")
        assert web.curl(f"/api/batch/{batch}/{tail}", key="lad_x_y").endswith(" 401")
        assert web.curl(f"/api/batch/{web.batch()}/{tail}").endswith(" 404")
        assert web.curl(f"/api/batch/x/{tail}").endswith(" 400")
