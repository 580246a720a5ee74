"""Keys that may write to some tables only, do some actions only, or come from some networks only: by every road there is."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from werkzeug.test import TestResponse

import cli
from catalog import batches, keys
from schemas.requests import COLLECTION_TYPE
from setting_texts import proxies
from tests.engine_parts import sql
from tests.pages_parts import Person, words
from tests.security_parts import got, imported, look, work_off
from tests.web_parts import CONTROL, Web, lite, settings_for, web

__all__ = ["lite", "web"]

TWO = b"""\
name: two
files:
  airlines.csv: {entity: Airline, action: Merge}
  ports.csv: {entity: Port, action: Merge}
  gone.csv: {entity: Airline, action: Delete}
  any.csv: {}
entities:
- entity: Airline
  table: airlines
  input: [carrier, name]
  mappings:
  - carrier:
  - name:
- entity: Port
  table: ports
  input: [code]
  mappings:
  - code:
"""
ROWS = b"""\
!two
#Entity,Action,carrier,name
Airline,Insert,AA,American
Airline,Delete,ZZ,
#Entity,Action,code
Port,Insert,JFK
"""
DATA = b"carrier,name\nAA,American\n"
ONKEY = "/api/tenants/acme/prd/modules/system/imports"


@pytest.fixture
def full(web: Web) -> Web:
    """Give the application on a target with two tables, one row in the first, and a control file of all."""
    sql(web.settings.target_url, "CREATE TABLE ports (code varchar(3) PRIMARY KEY)")
    sql(web.settings.target_url, "INSERT INTO airlines VALUES ('ZZ', 'Last')")
    assert web.control(TWO)
    return web


@pytest.fixture
def full_lite(lite: Web) -> Web:
    """Give it on SQLite."""
    sql(lite.settings.target_url, "CREATE TABLE ports (code varchar(3) PRIMARY KEY)")
    assert lite.control(TWO)
    return lite


def limited(web: Web, *permissions: str, **limits: Any) -> str:
    """Make a key with these limits; tables by their names."""
    schema = "public" if web.settings.target_url.startswith("postgresql") else None
    limits["tables"] = [(schema, name) for name in limits.get("tables", ())]
    return web.new_key(*(permissions or ("import", "read")), limits=keys.limits_of(**limits))


def rows(web: Web) -> tuple[list[Any], list[Any]]:
    """Return what the two tables hold."""
    url = web.settings.target_url
    return sorted(sql(url, "SELECT carrier FROM airlines")), sorted(sql(url, "SELECT code FROM ports"))


def lanes_taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that will hold the tables whose lanes runs take while they go on."""
    taken: list[str] = []
    add = batches.add_tables

    def noted(engine: Any, batch_id: int, fence: int, tables: Any) -> bool:
        taken.extend(name for _, name in tables)
        return add(engine, batch_id, fence, tables)

    monkeypatch.setattr(batches, "add_tables", noted)
    return taken


def refused(reply: TestResponse) -> str:
    """Return what a refusal says that is for the key's limits, and see that it is one."""
    look(reply, reply.text)
    assert reply.status_code == 403, reply.text
    return reply.text


def test_rows_beyond_the_limits_are_refused_one_by_one(full: Web) -> None:
    """Rows that name their own table and action are written where the key may, and each other one is refused with the reason (T87)."""
    key = limited(full, tables=["airlines"], actions=["Insert", "Merge"])
    batch = imported(full, ROWS, "any.csv", TWO, key)
    assert got(full, f"/api/batch/{batch}", key=key).text.startswith("completed input=3 success=1 error=2 ")
    assert rows(full) == ([("AA",), ("ZZ",)], [])
    results = got(full, f"/api/batch/{batch}/results", key=key).text
    assert results.count("Core_Data_KeyLimited") == 2
    assert "may not delete in" in results and "may not insert in" in results and "the actions Insert, Merge" in results


def test_all_or_none_of_them(full_lite: Web) -> None:
    """In an import of all or none one row beyond the limits keeps all of it out, and a dry run says so beforehand (T87)."""
    key = limited(full_lite, tables=["airlines"])
    batch = full_lite.post("/api/batch", {"control": "two"}, key=key).text
    form = {"batch": batch, "name": "any.csv", "file": (BytesIO(ROWS), "any.csv")}
    assert full_lite.post("/api/file", form, key=key).status_code == 200
    for mode in ("dry-run", "import"):
        assert full_lite.post("/api/schedule", {"batch": batch, "mode": mode, "execution": "AllOrNone"}, key=key).status_code == 200
        work_off(full_lite)
        assert "error=2" in got(full_lite, f"/api/batch/{batch}", key=key).text
    assert rows(full_lite) == ([], [])


def test_records_of_a_collection_are_limited_too(full: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """A collection names tables itself; of those that the key may not write no lane is taken, and their records are refused (T87)."""
    full.app.test_cli_runner().invoke(args=["db", "upgrade"])
    key = limited(full, tables=["airlines"], actions=["Insert"])
    records = [
        {"entityType": "Airlines", "action": "Insert", "properties": {"carrier": "AA", "name": "American"}},
        {"entityType": "Airlines", "action": "Update", "Id": "ZZ", "properties": {"name": "Taken over"}},
        {"entityType": "Ports", "action": "Insert", "properties": {"code": "JFK"}},
    ]
    lanes = lanes_taken(monkeypatch)
    reply = full.post("/api/import", json.dumps(records), key=key, content_type=COLLECTION_TYPE)
    work_off(full)
    assert "input=3 success=1 error=2" in got(full, f"/api/batch/{reply.text}", key=key).text
    assert rows(full) == ([("AA",), ("ZZ",)], [])
    assert sql(full.settings.target_url, "SELECT name FROM airlines WHERE carrier = 'ZZ'") == [("Last",)]
    assert lanes == ["airlines"]


def test_files_beyond_the_limits_are_refused_at_once(full_lite: Web) -> None:
    """What the control file says of a file is looked at before the batch is put into the queue, by both roads, and the limits are told."""
    key = limited(full_lite, tables=["airlines"], actions=["Merge"])
    for name, is_allowed in (("airlines.csv", True), ("ports.csv", False), ("gone.csv", False)):
        one_call = full_lite.post(f"/api/import/two?name={name}", DATA, key=key, content_type="text/csv")
        batch = full_lite.post("/api/batch", {"control": "two"}, key=key).text
        assert full_lite.post("/api/file", {"batch": batch, "name": name, "file": (BytesIO(DATA), "x")}, key=key).status_code == 200
        steps = full_lite.post("/api/schedule", {"batch": batch}, key=key)
        if is_allowed:
            assert (one_call.status_code, steps.status_code) == (202, 200)
            continue
        for reply in (one_call, steps):
            assert "airlines; the actions Merge" in refused(reply) and name in reply.text
        assert got(full_lite, f"/api/batch/{batch}", key=key).text.startswith("uploading")
    problem = full_lite.post(
        "/api/import/two?name=gone.csv", DATA, key=key, content_type="text/csv", headers={"Accept": "application/json"}
    )
    assert problem.get_json()["code"] == "key_limited"


def test_control_files_that_a_limited_key_may_send(full_lite: Web) -> None:
    """A control file of other tables or actions is refused; one that keeps to the limits is taken, and the key imports with it."""
    key = limited(full_lite, tables=["airlines"], actions=["Merge"])
    only = CONTROL.replace(b"name: airlines\n", b"", 1)

    def sent(data: bytes, **fields: str) -> TestResponse:
        return full_lite.post("/api/control", {"file": (BytesIO(data), "c"), **fields}, key=key)

    assert "ports" in refused(sent(TWO))
    assert "delete" in refused(sent(only.replace(b"Merge", b"Delete")))
    assert sent(only, name="mine").status_code == 200
    assert sent(only + b"# anew\n", name="mine").status_code == 200
    assert full_lite.post("/api/import/mine?name=airlines.csv", DATA, key=key, content_type="text/csv").status_code == 202
    # By a name of others they import, who may do more.
    assert "two is another control file's name" in refused(sent(only, name="two"))
    full_lite.control(only, name="shared")
    assert sent(only, name="shared").status_code == 200


def test_a_limited_key_changes_no_batch_of_another(full_lite: Web) -> None:
    """A key that may see all, but is limited, cannot have its files or its will run with another key's rights."""
    theirs = full_lite.post("/api/batch", {"control": "two"}).text
    for limits in ({"tables": ["airlines"]}, {"actions": ["Merge"]}, {"controls": ["two"]}):
        key = limited(full_lite, "import", "read:all", **limits)
        assert got(full_lite, f"/api/batch/{theirs}", key=key).status_code == 200
        file = {"batch": theirs, "name": "ports.csv", "file": (BytesIO(b"code\nJFK\n"), "x")}
        assert "of its own" in refused(full_lite.post("/api/file", file, key=key))
        metadata = f"batch {_base64(theirs)},name {_base64('ports.csv')}"
        headers = {"Tus-Resumable": "1.0.0", "Upload-Length": "5", "Upload-Metadata": metadata}
        assert "of its own" in refused(full_lite.post("/api/upload", key=key, headers=headers))
        assert "of its own" in refused(full_lite.post("/api/schedule", {"batch": theirs}, key=key))


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_compatible_routes_are_limited_too(full_lite: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Key's generated schemas and CSV, and a copy made on the pages, end at the same limits, and hold no lane beyond them (T87)."""
    lanes = lanes_taken(monkeypatch)
    full_lite.app.test_cli_runner().invoke(args=["db", "upgrade"])
    key = limited(full_lite, "import", "read", tables=["airlines"])
    csv = b"!Ports\n#Entity,Action,code\nPorts,Insert,JFK\n!Airlines\n#Entity,Action,carrier,name\nAirlines,Insert,AA,American\n"
    sent = full_lite.post(f"{ONKEY}/files/upload?executionMode=PerRecord", {"file": (BytesIO(csv), "x.csv")}, key=key)
    assert sent.status_code == 202, sent.text
    work_off(full_lite)
    assert rows(full_lite) == ([("AA",)], [])
    assert lanes == ["airlines"]
    theirs = full_lite.post("/api/import/two?name=ports.csv", b"code\nLAX\n", content_type="text/csv").text
    work_off(full_lite)
    person = Person(full_lite, limited(full_lite, "import", "read:all", tables=["airlines"]))
    again = person.post(f"/imports/{theirs}/again")
    assert again.status_code == 403 and "limited to the tables airlines" in words(again)


FROM = [  # who is trusted, whose connection it is, what X-Forwarded-For says, and who it is
    ("127.0.0.1", "192.0.2.7", None, "192.0.2.7"),
    ("127.0.0.1", "192.0.2.7", "10.0.0.1", "192.0.2.7"),  # from nobody who is believed
    ("127.0.0.1", "127.0.0.1", "10.0.0.1", "10.0.0.1"),
    ("127.0.0.1", "127.0.0.1", "10.0.0.1, 192.0.2.7", "192.0.2.7"),  # what the client made up stands before what the proxy saw
    ("127.0.0.1,172.16.0.0/12", "127.0.0.1", "10.0.0.1, 192.0.2.7:4711, 172.16.3.4", "192.0.2.7"),
    ("127.0.0.1", "127.0.0.1", "unknown", "unknown"),
    ("127.0.0.1", "", "[2001:db8::7]:443", "2001:db8::7"),  # a socket of the machine
    ("*", "198.51.100.9", "10.0.0.1, 192.0.2.7", "192.0.2.7"),
    ("*", "198.51.100.9", None, "198.51.100.9"),
]


def test_where_a_request_comes_from(lite: Web) -> None:
    """The address is the one that the last trusted proxy saw; nothing that a client says of itself is believed."""
    key = lite.new_key("read", limits=keys.limits_of(networks=["203.0.113.0/24"]))
    wired = lite.app.extensions["lading"]
    for trusted, peer, told, seen in FROM:
        lite.app.extensions["lading"] = replace(wired, settings=replace(wired.settings, forwarded_allow_ips=proxies(trusted)))
        headers = {} if told is None else {"X-Forwarded-For": told}
        reply = lite.get("/api/batches", key=key, headers=headers, environ_overrides={"REMOTE_ADDR": peer})
        assert f"from 203.0.113.0/24 only, and this request comes from {seen}." in reply.text
    lite.app.extensions["lading"] = wired


def test_a_key_is_good_in_its_networks_only(lite: Web) -> None:
    """A key with networks opens routes and pages from there and nowhere else; a session does not outlive the move of its cookie."""
    key = lite.new_key("read", "import", limits=keys.limits_of(networks=["192.0.2.0/24", "2001:db8::/32"]))
    for address, status in (("192.0.2.200", 200), ("2001:db8::1", 200), ("::ffff:192.0.2.1", 200), ("192.0.3.1", 403), ("::1", 403)):
        assert lite.get("/api/batches", key=key, environ_overrides={"REMOTE_ADDR": address}).status_code == status, address
    home: dict[str, Any] = {"environ_overrides": {"REMOTE_ADDR": "192.0.2.9"}}
    person = Person(lite, **home)
    assert person.sign_in(key).status_code == 303
    assert person.get("/").status_code == 200
    person.options = {"environ_overrides": {"REMOTE_ADDR": "198.51.100.1"}}
    assert person.get("/").status_code == 403
    assert Person(lite, **person.options).sign_in(key).status_code == 403


def test_a_signed_address_is_good_in_the_key_s_networks_only(target_url_sqlite: str, tmp_path: Path, redis_url: str) -> None:
    """An address that was given to a key takes no file from where the key itself would not be let in."""
    made = Web(settings_for(target_url_sqlite, tmp_path, redis_url, SECRET_KEY="s" * 32))
    sql(target_url_sqlite, "CREATE TABLE airlines (carrier varchar(2) PRIMARY KEY, name text NOT NULL)")
    made.control()
    key = made.new_key("import", limits=keys.limits_of(networks=["192.0.2.0/24"]))
    given = made.get("/bulk/v1/bulkload/airlines/upload_url?file_name=a.csv", key=key, environ_overrides={"REMOTE_ADDR": "192.0.2.1"})
    address = given.get_json()["upload_url"].partition("//")[2].partition("/")[2]
    for peer, status in (("198.51.100.1", 403), ("192.0.2.1", 200)):
        assert made.app.test_client().put(f"/{address}", data=DATA, environ_overrides={"REMOTE_ADDR": peer}).status_code == status
    made.close()


def run(web: Web, *words: str) -> Any:
    """Run `flask key`."""
    group = next(group for group in cli.commands(web.settings) if group.name == "key")
    return CliRunner().invoke(group, words)


def test_limits_by_the_command(full: Web) -> None:
    """`key create` takes tables by any name that a control file may give them, actions and networks; what there is not is refused."""
    limits = ("--table", "Airlines", "--action", "merge", "--network", "10.1.0.0/16", "--network", "192.0.2.7", "--control", "two")
    made = run(full, "create", "--name", "n", "--permission", "import", *limits)
    assert made.exit_code == 0, made.output
    key = keys.find(full.catalog, made.stdout.split("_")[1])
    assert key is not None and key.tables is not None
    assert ([name for _, name in key.tables], key.actions, key.control_names) == (["airlines"], {"Merge"}, {"two"})
    assert list(map(str, key.networks or ())) == ["10.1.0.0/16", "192.0.2.7/32"]
    listed = {row["id"]: row for row in json.loads(run(full, "list", "--json").stdout)}
    assert listed[key.id]["tables"] == [name if schema is None else f"{schema}.{name}" for schema, name in key.tables]
    assert listed[key.id]["networks"] == ["10.1.0.0/16", "192.0.2.7/32"]
    assert "ACTIONS" in run(full, "list").stdout
    for option, value, reason in (
        ("--table", "airlins", "airlines"), ("--action", "Drop", "insert"), ("--network", "10.1.0.0/8", "10.1.0.0/16")
    ):  # fmt: skip
        wrong = run(full, "create", "--name", "n", "--permission", "import", option, value)
        assert wrong.exit_code == 64 and reason in wrong.output, wrong.output


def test_limits_on_the_page(full_lite: Web) -> None:
    """An administrator limits a key on the page, which tells the limits of each; what is no limit is refused and no key made."""
    person = Person(full_lite, full_lite.new_key("admin"))
    form = {
        "name": "nightly",
        "permission": "import",
        "tables": "Airlines,  ports",
        "action": ["Merge", "Insert"],
        "networks": "10.0.0.0/8",
    }
    made = person.post("/keys", form)
    assert made.status_code == 200
    said = words(made)
    assert "actions: Insert, Merge" in said and "networks: 10.0.0.0/8" in said
    key = next(key for key in keys.all_keys(full_lite.catalog) if key.name == "nightly")
    assert key.tables and {name for _, name in key.tables} == {"airlines", "ports"}
    for wrong in ({"tables": "airlins"}, {"networks": "ten"}, {"action": "Drop"}):
        refusal = person.post("/keys", form | {"name": "wrong"} | wrong)
        assert refusal.status_code == 400 and "allowed" in words(refusal)
    assert "wrong" not in {key.name for key in keys.all_keys(full_lite.catalog)}
