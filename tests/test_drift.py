"""What has changed in the target's tables since control files were checked against them: told by a route, on a page, by a command."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from flask.testing import FlaskCliRunner

from engine.control import drift
from tests.engine_parts import sql
from tests.pages_parts import Person, words
from tests.web_parts import Web, lite, web

__all__ = ["lite", "web"]
CONTROL = b"""\
name: flights
files: {flights.csv: {entity: Flight, action: Merge}}
entities:
- entity: Flight
  table: flights
  input: [number, carrier, delay]
  mappings:
  - number:
  - carrier: {converter: {type: CodeReferenceLookup, input: carrier, column: iata}}
  - delay:
"""
TABLES = (
    "CREATE TABLE carriers (id integer PRIMARY KEY, iata varchar(3) NOT NULL UNIQUE, name text)",
    "CREATE TABLE flights (number varchar(9) PRIMARY KEY, carrier integer REFERENCES carriers (id), delay integer, note text)",
)


@pytest.fixture
def flown(web: Web) -> Web:
    """Give the application with a control file of two tables."""
    for statement in TABLES:
        sql(web.settings.target_url, statement)
    web.control(CONTROL)
    return web


def told(web: Web, key: str | None = None) -> dict[str, Any]:
    """Return what is told of the one control file."""
    reply = web.get("/api/controls/drift", key, headers={"Accept": "application/json"})
    assert reply.status_code == 200, reply.text
    (found,) = reply.get_json()["controls"]
    return dict(found)


def changed(found: dict[str, Any]) -> set[tuple[str, str, str]]:
    """Return table, column and kind of each change, the schema left out."""
    return {(change["table"].rpartition(".")[2], change["column"], change["what"]) for change in found["changes"]}


@pytest.mark.parametrize(
    ("statements", "state", "expected"),
    [
        ([], "ok", set()),
        (["ALTER TABLE flights ADD COLUMN gate text", "ALTER TABLE carriers DROP COLUMN name"], "ok", set()),
        (["ALTER TABLE flights DROP COLUMN note"], "changed", {("flights", "note", "column_gone")}),
        (["ALTER TABLE flights DROP COLUMN delay"], "broken", {("flights", "delay", "column_gone")}),
        (["DROP TABLE flights"], "broken", {("flights", "", "table_gone")}),
        (
            ["DROP TABLE flights", TABLES[1].replace("delay integer", "delay bigint").replace("note text", "note text NOT NULL")],
            "changed",
            {("flights", "delay", "type_changed"), ("flights", "note", "column_required")},
        ),
        (
            ["DROP TABLE flights", "DROP TABLE carriers", TABLES[0].replace("varchar(3)", "varchar(8)"), TABLES[1]],
            "changed",
            {("carriers", "iata", "type_changed")},
        ),
    ],
)
def test_what_has_changed(flown: Web, statements: Sequence[str], state: str, expected: set[tuple[str, str, str]]) -> None:
    """What an import may fail of is told; a new column that may be left out, and one that nothing looks into, are no changes."""
    for statement in statements:
        sql(flown.settings.target_url, statement)
    found = told(flown)
    assert (found["state"], changed(found)) == (state, expected)
    assert bool(found["faults"]) is (state == "broken") and found["checked_at"] is not None


def test_what_is_checked_anew_has_not_changed(flown: Web) -> None:
    """A control file that is uploaded again, or taken as it is on the page, tells only of what changes after that."""
    url, admin = flown.settings.target_url, Person(flown, flown.new_key("admin"))
    sql(url, "ALTER TABLE flights DROP COLUMN note")
    assert flown.get("/api/controls/drift").text.startswith("flights\tchanged\t")
    digest = flown.control(CONTROL)
    assert flown.get("/api/controls/drift").text == "flights\tok\t\n"
    sql(url, "DROP TABLE flights")
    sql(url, TABLES[1].replace("delay integer", "delay bigint"))
    said = words(admin.get("/system/drift"))
    assert "flights.delay was " in said and "0 of 1 control files fit the target" in said
    assert admin.post(f"/system/drift/{digest}").status_code == 303
    assert "1 of 1 control files fit" in words(admin.get("/system/drift"))


def test_each_key_hears_of_its_own(flown: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that is limited to other control files hears of none; where there is no time for all, that is said."""
    limited = flown.new_key("import", limits={"controls": ["others"]})
    assert flown.get("/api/controls/drift", limited).text == ""
    monkeypatch.setattr(drift, "MOST_SECONDS", -1.0)
    reply = flown.get("/api/controls/drift", headers={"Accept": "application/json"})
    assert reply.get_json() == {"controls": [], "is_whole": False}


def test_doctor_tells_of_it(lite: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """`flask doctor` says which control file no longer fits, and goes on."""
    for name in ("TARGET_URL", "CATALOG_URL", "SPOOL_URL", "REDIS_URL"):
        monkeypatch.setenv(name, getattr(lite.settings, name.lower()))
    lite.control()
    sql(lite.settings.target_url, "ALTER TABLE airlines ADD COLUMN country text NOT NULL DEFAULT 'x'")
    runner: FlaskCliRunner = lite.app.test_cli_runner()
    assert "control files: ok: 1 looked at" in runner.invoke(args=["doctor"]).output
    sql(lite.settings.target_url, "DROP TABLE airlines")
    assert "control files: doubtful: airlines no longer fits the target" in runner.invoke(args=["doctor"]).output
