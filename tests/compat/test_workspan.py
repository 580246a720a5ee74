"""WorkSpan's bulk API: loading, and the status of an execution."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from werkzeug.test import TestResponse

import clock
from catalog import batches, keys
from catalog.database import writing
from catalog.tables import keys as stored_keys, runs
from engine.workbook import workbook
from routes.compat import workspan
from tests.engine_parts import sql
from tests.security_parts import look, work_off
from tests.web_parts import Web, settings_for

NAME = "WS-Integration_1"
CONTROL = b"""\
name: WS-Integration_1
files:
  DEFAULT: {entity: Opportunity, action: Merge}
entities:
- entity: Opportunity
  table: opportunities
  input: [opportunity_id, close_date, amount, secret]
  mappings:
  - id: {converter: {type: CodeReferenceLookup, input: opportunity_id, column: opportunity_id}}
  - opportunity_id:
  - close_date:
  - amount:
  - secret: {masked: true}
"""
TABLE = "CREATE TABLE opportunities (opportunity_id varchar(7) PRIMARY KEY, close_date date, amount numeric(20,2), secret varchar(3))"
ROWS: list[dict[str, Any]] = [
    {"opportunity_id": "aw1", "close_date": "2021-01-20", "amount": 100},
    {"opportunity_id": "aw2", "close_date": "20-jan-2020", "amount": 250000},
    {"opportunity_id": "aw3", "close_date": "2021-01-20", "amount": "-"},
    {"opportunity_id": "", "close_date": "2020-10-20", "amount": 75000.5},
    {"opportunity_id": "aw4", "close_date": "2021-01-21", "amount": 1, "more": {"a": [True, None]}},
]


@pytest.fixture
def bulk(target_url: str, tmp_path: Path, redis_url: str) -> Any:
    """Give the application with an integration, on SQLite and on PostgreSQL."""
    made = made_with(target_url, tmp_path, redis_url)
    yield made
    made.close()


@pytest.fixture
def lite_bulk(target_url_sqlite: str, tmp_path: Path, redis_url: str) -> Any:
    """Give the same on SQLite."""
    made = made_with(target_url_sqlite, tmp_path, redis_url)
    yield made
    made.close()


def made_with(url: str, folder: Path, redis_url: str) -> Web:
    """Make the application with its table and its control file."""
    sql(url, TABLE)
    made = Web(settings_for(url, folder, redis_url, SECRET_KEY="x" * 40, PUBLIC_URL="https://bulk.example.org"))
    made.control(CONTROL)
    return made


def load(web: Web, data: Any = ROWS, kind: str = "application/json", query: str = "", **options: Any) -> TestResponse:
    """Load some data."""
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    return web.post(f"/bulk/v1/bulkload/{NAME}{query}", body, content_type=kind, **options)


def executed(web: Web, *arguments: Any, **options: Any) -> str:
    """Load some data, carry the import out, and return its execution."""
    reply = load(web, *arguments, **options)
    assert reply.status_code == 200, reply.text
    work_off(web)
    return str(reply.get_json()["execution_id"])


def status(web: Web, execution: str, query: str = "", name: str = NAME, **options: Any) -> TestResponse:
    """Ask how an execution stands."""
    reply = web.get(f"/bulk/v1/status/{name}?execution_id={execution}{query}", buffered=True, **options)
    look(reply, query)
    assert reply.mimetype in ("application/json", "application/problem+json")
    return reply


def test_the_documented_status(bulk: Web) -> None:
    """A finished execution has its counts, its times with milliseconds, and each error with its key and its whole row in JSON's types."""
    execution = executed(bulk)
    told = status(bulk, execution, "&include_errors=true&max_errors=10").get_json()
    assert (told.pop("started_at") < told.pop("completed_at")) is True
    errors = told.pop("errors")
    assert told == {
        "integration_id": NAME, "execution_id": execution, "status": "completed", "input_count": 5, "error_count": 3, "success_count": 2,
        "skip_count": 0, "include_errors": True, "max_errors": 10,
    }  # fmt: skip
    assert [(e["id"], e["data_row"]) for e in errors] == [("aw2", ROWS[1]), ("aw3", ROWS[2]), ("", ROWS[3])]
    assert "close_date" in errors[0]["message"] and "amount" in errors[1]["message"] and "opportunity_id" in errors[2]["message"]
    assert set(errors[0]) == {"id", "message", "data_row"}


def test_counts_add_up(lite_bulk: Web) -> None:
    """Records that are up to date are skipped; input is always success, errors and skipped together."""
    executed(lite_bulk)
    again = status(lite_bulk, executed(lite_bulk, ROWS[:2])).get_json()
    assert (again["input_count"], again["success_count"], again["error_count"], again["skip_count"]) == (2, 0, 1, 1)


def test_times_are_of_milliseconds(lite_bulk: Web) -> None:
    """Times end with three digits and Z."""
    told = status(lite_bulk, executed(lite_bulk)).get_json()
    for name in ("started_at", "completed_at"):
        assert clock.now().strftime("%Y-") == told[name][:5] and told[name][10] == "T" and told[name][-5] == "." and told[name][-1] == "Z"


def test_errors_only_if_asked_for(lite_bulk: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without include_errors, or with false, there are none; max_errors and 1,000 bound them, and both come back as they were sent."""
    execution = executed(lite_bulk)
    told = status(lite_bulk, execution).get_json()
    assert ("errors" in told, told["include_errors"], "max_errors" in told) == (False, False, False)
    told = status(lite_bulk, execution, "&include_errors=false&max_errors=10").get_json()
    assert ("errors" in told, told["include_errors"], told["max_errors"]) == (False, False, 10)
    told = status(lite_bulk, execution, "&include_errors=&max_errors=").get_json()
    assert ("errors" in told, told["include_errors"], "max_errors" in told) == (False, False, False)
    for most, count in (("0", 0), ("1", 1), ("2", 2), ("1000000", 3)):
        told = status(lite_bulk, execution, f"&include_errors=true&max_errors={most}").get_json()
        assert (len(told["errors"]), told["max_errors"]) == (count, int(most))
    assert workspan._MOST_ERRORS == 1000
    monkeypatch.setattr(workspan, "_MOST_ERRORS", 2)
    for query in ("", "&max_errors=3"):
        assert len(status(lite_bulk, execution, f"&include_errors=true{query}").get_json()["errors"]) == 2
    good = executed(lite_bulk, ROWS[:1])
    assert status(lite_bulk, good, "&include_errors=true").get_json()["errors"] == []


@pytest.mark.parametrize(
    "query", ["&max_errors=x", "&max_errors=-1", "&max_errors=1.5", "&include_errors=perhaps", "&max_errors=1&max_errors=2"]
)
def test_wrong_parameters(lite_bulk: Web, query: str) -> None:
    """A parameter that is no number or no truth value is 400."""
    assert status(lite_bulk, executed(lite_bulk, ROWS[:1]), query).status_code == 400


def test_running_until_it_is_over(lite_bulk: Web) -> None:
    """An execution that has not ended is running, without a time that there is not yet."""
    execution = str(load(lite_bulk).get_json()["execution_id"])
    told = status(lite_bulk, execution, "&include_errors=true").get_json()
    assert (told["status"], told["errors"], "started_at" in told, "completed_at" in told) == ("running", [], False, False)
    work_off(lite_bulk)
    assert status(lite_bulk, execution).get_json()["status"] == "completed"
    uploading = batches.create(lite_bulk.catalog, control=lite_bulk.control(CONTROL), key_id=lite_bulk.key.split("_")[1])
    assert status(lite_bulk, str(uploading)).get_json()["status"] == "running"


def test_a_failure_is_told(lite_bulk: Web) -> None:
    """An execution that failed is completed, with a message of why; one that did not has no message."""
    execution = executed(lite_bulk, b"amount,amount\n1,2\n", "text/csv")
    told = status(lite_bulk, execution).get_json()
    assert told["status"] == "completed" and told["status_msg"]
    cancelled = str(load(lite_bulk).get_json()["execution_id"])
    lite_bulk.post(f"/api/batch/{cancelled}/cancel")
    assert "cancel" in status(lite_bulk, cancelled).get_json()["status_msg"]
    assert "status_msg" not in status(lite_bulk, executed(lite_bulk)).get_json()
    with writing(lite_bulk.catalog) as connection:
        connection.execute(update(runs).where(runs.c.batch_id == int(cancelled)).values(input=7, created=1, errors=2, unprocessed=4))
    told = status(lite_bulk, cancelled).get_json()
    assert (told["input_count"], told["success_count"], told["error_count"], told["skip_count"]) == (7, 1, 2, 4)


def test_what_is_not_found(lite_bulk: Web) -> None:
    """400 for what is no execution's id, 404 for an unknown integration or execution, or one of another integration; 401 without a key."""
    execution = executed(lite_bulk, ROWS[:1])
    for wrong in ("", "abc", "a64690c2450", "0", "-1", "9" * 30):
        assert status(lite_bulk, wrong).status_code == 400
    assert lite_bulk.get(f"/bulk/v1/status/{NAME}").status_code == 400
    lite_bulk.control(CONTROL.replace(NAME.encode(), b"other") + b"# another\n")
    unknown = [status(lite_bulk, "4711"), status(lite_bulk, execution, name="nobody"), status(lite_bulk, execution, name="other")]
    stranger = lite_bulk.new_key("read")
    unknown.append(status(lite_bulk, execution, key=stranger))
    assert {(reply.status_code, reply.get_json()["detail"]) for reply in unknown} == {(404, "integration_id or execution_id not found")}
    assert lite_bulk.app.test_client().get(f"/bulk/v1/status/{NAME}?execution_id={execution}").status_code == 401
    assert status(lite_bulk, execution, key=lite_bulk.new_key("import")).status_code == 403


def test_executions_of_an_older_control_file(lite_bulk: Web) -> None:
    """An execution stays its integration's when the name has moved to a newer control file."""
    execution = executed(lite_bulk, ROWS[:1])
    lite_bulk.control(CONTROL + b"# changed\n")
    assert status(lite_bulk, execution).get_json()["status"] == "completed"
    four_steps = batches.create(lite_bulk.catalog, control=lite_bulk.control(CONTROL + b"# changed\n"), key_id=lite_bulk.key.split("_")[1])
    assert status(lite_bulk, str(four_steps)).status_code == 200


XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
HEAD = ["opportunity_id", "close_date", "amount"]
FORMS = {
    "JSON": ("application/json", json.dumps(ROWS[:2]).encode()),
    "JSONL": ("application/jsonl", b"\n".join(json.dumps(row).encode() for row in ROWS[:2])),
    "CSV": ("text/csv", b"opportunity_id,close_date,amount\naw1,2021-01-20,100\naw2,20-jan-2020,250000\n"),
    "XLSX": (XLSX, b"".join(workbook([HEAD, ["aw1", "2021-01-20", "100"], ["aw2", "20-jan-2020", "250000"]]))),
}


@pytest.mark.parametrize("name", FORMS)
def test_each_format(bulk: Web, name: str) -> None:
    """JSON, CSV and XLSX come as the body, told by its type or by data_format, or as a form's file, told by its name."""
    kind, data = FORMS[name]
    sent = [load(bulk, data, kind), load(bulk, data, "application/octet-stream", f"?data_format={name.lower()}")]
    form = {"file": (BytesIO(data), f"opportunities.{name.lower()}")}
    sent.append(bulk.post(f"/bulk/v1/bulkload/{NAME}", form))
    sent.append(bulk.post(f"/bulk/v1/bulkload/{NAME}", {"file": (BytesIO(data), "data"), "data_format": name}))
    work_off(bulk)
    for reply in sent:
        told = reply.get_json()
        assert (reply.status_code, told["integration_id"], told["data_format"]) == (200, NAME, name), reply.text
        assert set(told) == {"integration_id", "execution_id", "created_at", "data_format"} and told["created_at"].endswith("Z")
        found = status(bulk, told["execution_id"], "&include_errors=true").get_json()
        assert (found["input_count"], found["error_count"], found["errors"][0]["id"]) == (2, 1, "aw2"), name
        row = found["errors"][0]["data_row"]
        assert row == (ROWS[1] if "JSON" in name else ROWS[1] | {"amount": "250000"})


@pytest.mark.parametrize("name", FORMS)
def test_a_format_that_nobody_tells(lite_bulk: Web, name: str) -> None:
    """Without data_format, Content-Type and a file's name, the format is what the first bytes can only mean; else it is CSV."""
    kind, data = FORMS[name]
    replies = [load(lite_bulk, data, unsaid) for unsaid in ("", "application/x-www-form-urlencoded", "text/plain")]
    replies.append(lite_bulk.post(f"/bulk/v1/bulkload/{NAME}", {"file": (BytesIO(data), "data")}))
    replies.append(lite_bulk.post(f"/bulk/v1/bulkload/{NAME}", {"file": (BytesIO(data), "data", kind)}))
    given = lite_bulk.get(f"/bulk/v1/bulkload/{NAME}/upload_url").get_json()
    assert lite_bulk.app.test_client().put(path_at(given["upload_url"]), data=data).status_code == 200
    replies.append(load(lite_bulk, b"", query=f"?upload_token={given['upload_token']}"))
    assert [reply.get_json()["data_format"] for reply in replies] == [name] * 6


def test_a_column_delimiter(lite_bulk: Web) -> None:
    """column_delimiter separates the columns of CSV, in the query or in a form."""
    data = FORMS["CSV"][1].replace(b",", b"|")
    execution = executed(lite_bulk, data, "text/csv", "?column_delimiter=%7C")
    assert status(lite_bulk, execution).get_json()["success_count"] == 1
    form = {"file": (BytesIO(data), "o.csv"), "column_delimiter": "|"}
    told = lite_bulk.post(f"/bulk/v1/bulkload/{NAME}", form).get_json()
    work_off(lite_bulk)
    found = status(lite_bulk, told["execution_id"], "&include_errors=true").get_json()
    assert (found["skip_count"], found["errors"][0]["data_row"]["close_date"]) == (1, "20-jan-2020")
    assert (told["data_format"], told["column_delimiter"]) == ("CSV", "|")


def test_loads_that_are_refused(lite_bulk: Web) -> None:
    """An unknown integration is 404, an unknown format, a form without a file or an unknown token 400 or 404, and nothing is begun."""
    assert lite_bulk.post("/bulk/v1/bulkload/nobody", b"[]", content_type="application/json").status_code == 404
    assert load(lite_bulk, query="?data_format=xml").status_code == 400
    assert load(lite_bulk, query="?column_delimiter=ab").status_code == 400
    assert lite_bulk.post(f"/bulk/v1/bulkload/{NAME}", {"data_format": "csv"}, content_type="multipart/form-data").status_code == 400
    assert load(lite_bulk, b"", query="?upload_token=abc").status_code == 400
    assert load(lite_bulk, b"", query="?upload_token=00000000-0000-0000-0000-000000000000").status_code == 404
    assert load(lite_bulk, query="?upload_token=00000000-0000-0000-0000-000000000000").status_code == 400  # and a body
    twice = {"data_format": "csv", "file": (BytesIO(b"x"), "x")}
    assert lite_bulk.post(f"/bulk/v1/bulkload/{NAME}?data_format=json", twice).status_code == 400
    assert load(lite_bulk, key=lite_bulk.new_key("read")).status_code == 403
    assert lite_bulk.get("/api/batches", headers={"Accept": "application/json"}).get_json()["batches"] == []


def path_at(address: str) -> str:
    """Return the path of an address of ours."""
    assert address.startswith("https://bulk.example.org/bulk/v1/upload?token=")
    return address.removeprefix("https://bulk.example.org")


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_a_direct_upload(lite_bulk: Web, method: str) -> None:
    """The address takes a file without a key; by the token it is loaded, as the format that its name tells."""
    given = lite_bulk.get(f"/bulk/v1/bulkload/{NAME}/upload_url?file_name=o.xlsx").get_json()
    assert set(given) == {"upload_url", "upload_token"}
    assert load(lite_bulk, b"", query=f"?upload_token={given['upload_token']}").status_code == 404  # nothing has come yet
    sent = lite_bulk.app.test_client().open(path_at(given["upload_url"]), method=method, data=FORMS["XLSX"][1])
    assert (sent.status_code, sent.get_json()["size"]) == (200, len(FORMS["XLSX"][1]))
    told = load(lite_bulk, b"", query=f"?upload_token={given['upload_token']}").get_json()
    assert told["data_format"] == "XLSX"
    work_off(lite_bulk)
    assert status(lite_bulk, told["execution_id"]).get_json()["success_count"] == 1
    stranger = lite_bulk.new_key("import", "read")
    assert load(lite_bulk, b"", query=f"?upload_token={given['upload_token']}", key=stranger).status_code == 404


def test_addresses_that_are_not_valid(lite_bulk: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that is altered, too old, or of a key that is valid no more, takes nothing; without a secret there is none (T87)."""
    key = lite_bulk.new_key("import")
    path = path_at(lite_bulk.get(f"/bulk/v1/bulkload/{NAME}/upload_url", key=key).get_json()["upload_url"])
    client = lite_bulk.app.test_client()
    altered = path[:-5] + ("A" if path[-5] != "A" else "B") + path[-4:]
    for wrong in (altered, "/bulk/v1/upload", "/bulk/v1/upload?token=x", path.replace(".", "x", 1), "/bulk/v1/upload?token=%00"):
        reply = client.put(wrong, data=b"x")
        look(reply, wrong)
        assert reply.status_code == (400 if "%00" in wrong else 401)
    assert client.put(path, data=b"x").status_code == 200
    with monkeypatch.context() as later:
        later.setattr("itsdangerous.TimestampSigner.get_timestamp", lambda _self: int(clock.now().timestamp()) + 3601)
        assert client.put(path, data=b"x").status_code == 401
    for permissions, status_code in ((["read"], 401), (["import"], 200)):
        with writing(lite_bulk.catalog) as connection:
            connection.execute(update(stored_keys).where(stored_keys.c.id == key.split("_")[1]).values(permissions=permissions))
        assert client.put(path, data=b"x").status_code == status_code
    keys.revoke(lite_bulk.catalog, key.split("_")[1])
    assert client.put(path, data=b"x").status_code == 401
    assert lite_bulk.get("/bulk/v1/bulkload/nobody/upload_url").status_code == 404


def test_masked_values_stay_hidden(lite_bulk: Web) -> None:
    """What a masked column holds stands in no row that an error tells, whatever the format, nor where the row cannot be read (T82)."""
    rows = [{"opportunity_id": "aw1", "close_date": "never", "secret": "abc"}, {"opportunity_id": "aw2", "secret": "too long"}]
    for data, kind in (
        (rows, "application/json"),
        (b"opportunity_id,close_date,secret\naw1,never,abc\naw2,,too long\n", "text/csv"),
        (b'opportunity_id,secret\naw3,"too long\naw4,too long,1\n', "text/csv"),
    ):
        execution = executed(lite_bulk, data, kind)
        reply = status(lite_bulk, execution, "&include_errors=true")
        assert len(reply.get_json()["errors"]) == 2
        assert "too long" not in reply.text.replace("is too long", "") and "abc" not in reply.text
        assert "***" in reply.text


def test_rows_that_cannot_be_read(lite_bulk: Web) -> None:
    """A row that cannot be read is told as it stands, without a key."""
    plain = CONTROL.replace(b"  - secret: {masked: true}\n", b"  - secret:\n")
    lite_bulk.control(plain)
    lines = b'{"opportunity_id": "aw1"\n[1]\n{"opportunity_id": "aw2", "amount": 1e400}\n{"opportunity_id": 12345678}\n'
    told = status(lite_bulk, executed(lite_bulk, lines, "application/jsonl"), "&include_errors=true").get_json()
    assert [(e["id"], e["data_row"]) for e in told["errors"]][:2] == [("", '{"opportunity_id": "aw1"'), ("", "[1]")]
    assert told["errors"][-1]["id"] == "12345678" and told["errors"][-1]["data_row"] == {"opportunity_id": 12345678}
    data = b'opportunity_id,close_date\naw1,"x\naw2,never\naw3\n'
    told = status(lite_bulk, executed(lite_bulk, data, "text/csv"), "&include_errors=true").get_json()
    assert [(e["id"], e["data_row"]) for e in told["errors"]] == [
        ("", 'aw1,"x'), ("aw2", {"opportunity_id": "aw2", "close_date": "never"}), ("", "aw3"),
    ]  # fmt: skip


def test_numbers_keep_their_digits(lite_bulk: Web) -> None:
    """A number in a row is told with the digits that it has in the file."""
    lite_bulk.control(CONTROL.replace(b"  - secret: {masked: true}\n", b"  - secret:\n"))
    line = b'{"opportunity_id": "aw1", "amount": 0.10000000000000000000001, "close_date": "never"}'
    reply = status(lite_bulk, executed(lite_bulk, line, "application/jsonl"), "&include_errors=true")
    assert '"amount": 0.10000000000000000000001' in reply.text


def test_a_file_that_is_gone(lite_bulk: Web) -> None:
    """Where a file is no longer kept, or its rows name their own entity, an error tells the values at fault that the results have."""
    execution = executed(lite_bulk)
    file = batches.files(lite_bulk.catalog, int(execution))[0]
    lite_bulk.app.extensions["lading"].spool.delete(file.digest, 0)
    errors = status(lite_bulk, execution, "&include_errors=true").get_json()["errors"]
    assert [e["id"] for e in errors] == ["", "", ""] and errors[0]["data_row"] == {"close_date": "20-jan-2020"}
    lite_bulk.control(CONTROL.replace(b"DEFAULT: {entity: Opportunity, action: Merge}", b"DEFAULT:"))
    data = b"#Entity,Action,opportunity_id,amount\nOpportunity,Merge,aw9,x\nNobody,Merge,aw9,1\n"
    told = status(lite_bulk, executed(lite_bulk, data, "text/csv"), "&include_errors=true").get_json()
    assert next((e["id"], e["data_row"]) for e in told["errors"]) == ("", {"amount": "x"}) and told["input_count"] == 2
