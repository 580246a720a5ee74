"""On Key's import schemas: made, listed, changed, deleted, generated, and used by files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.compat.test_onkey import BASE, COLUMNS, COMMODITY, made_with, send, upload
from tests.engine_parts import sql
from tests.security_parts import work_off
from tests.web_parts import Web

ENTITY_TYPE = "application/vnd.onkey.entity+json"
YAML = """
    entities:
    - entity: Commodity
      alias:
      input:
      - code
      - newcode
      - description
      - permissionTreeCode
      - isActive
      mappings:
      - id:
          converter:
            type: CodeReferenceLookup
            input: code
      - code:
          input: newcode
          fallbackInput: code
      - description:
      - permissionTreeId:
          converter:
            type: CodeReferenceLookup
            input: permissionTreeCode
      - isActive:
    """


@pytest.fixture
def web(target_url_sqlite: str, tmp_path: Path, redis_url: str) -> Any:
    """Give the application."""
    made = made_with(target_url_sqlite, tmp_path, redis_url)
    yield made
    made.close()


def create(web: Web, schema: str = YAML, key: str | None = None, **properties: str) -> TestResponse:
    """Make a schema as the sample does: the YAML stands within the JSON text with its line ends as they are."""
    given = {"name": "My Commodity Import", "restrictionLevel": "Private", "description": "My custom Commodity Import", **properties}
    body = json.dumps({"properties": given})[:-2] + f', "schema": "{schema}"' + "}}"
    return web.post(f"{BASE}/schemas", body, key=key, content_type=ENTITY_TYPE)


def test_create_and_get(web: Web) -> None:
    """Line ends within the JSON text are taken, the YAML's indentation stands, and the schema comes back as it was sent."""
    reply = create(web)
    number = reply.headers["OnKey-Resource-Id"]
    assert (reply.status_code, reply.content_type, reply.get_json()["id"]) == (201, ENTITY_TYPE, int(number))
    told = web.get(f"{BASE}/schemas/{number}").get_json()
    assert (told["class"], told["id"], told["version"]) == ("ImportSchema", int(number), 1)
    said = {name: told["properties"][name] for name in ("name", "restrictionLevel", "description", "schema", "isSystemGenerated")}
    assert said == {
        "name": "My Commodity Import", "restrictionLevel": "Private", "description": "My custom Commodity Import", "schema": YAML,
        "isSystemGenerated": False,
    }  # fmt: skip
    assert create(web).status_code == 409


@pytest.mark.parametrize(
    "body",
    ["[]", "{}", '{"properties": 3}', '{"properties": {"name": "a/b", "schema": "x"}}', '{"properties": {"name": "a"}}',
     '{"properties": {"name": "a", "schema": "entities: 3"}}',
     '{"properties": {"name": "a", "schema": "x", "restrictionLevel": "Secret"}}'],
)  # fmt: skip
def test_schemas_that_are_none(web: Web, body: str) -> None:
    """What is no schema is refused with messages that say why, and nothing is stored."""
    reply = web.post(f"{BASE}/schemas", body, content_type=ENTITY_TYPE)
    assert reply.status_code == 400 and reply.get_json()["messages"]
    assert create(web, YAML.replace("- isActive:", "- colour:")).status_code == 400
    assert create(web, "files: {DEFAULT: }\n" + YAML.replace("\n    ", "\n")).status_code == 400
    assert [item for item in web.get(f"{BASE}/schemas").get_json()["items"] if not item["properties"]["isSystemGenerated"]] == []


def test_private_and_public(web: Web) -> None:
    """A private schema, as each is unless it says otherwise, is its key's alone; a public one is for all, and changed by its own key."""
    unsaid = web.post(f"{BASE}/schemas", json={"properties": {"name": "Unsaid", "schema": YAML}}).get_json()
    assert unsaid["properties"]["restrictionLevel"] == "Private"
    number = create(web).headers["OnKey-Resource-Id"]
    other = web.new_key("import", "read")
    assert web.get(f"{BASE}/schemas/{number}", key=other).status_code == 404
    by_name = "!My Commodity Import\nCommodity,Merge,X,,,A11,\n"
    assert "UnknownControlFile" in imported(web, by_name, other)
    changed = web.app.test_client().patch(
        f"{BASE}/schemas/{number}", json={"properties": {"restrictionLevel": "Public"}}, headers={"Authorization": f"Bearer {web.key}"}
    )
    assert (changed.status_code, changed.get_json()["version"]) == (200, 2)
    assert web.get(f"{BASE}/schemas/{number}", key=other).get_json()["properties"]["restrictionLevel"] == "Public"
    assert "RecordCreated" in imported(web, by_name, other)
    for method in ("delete", "put"):
        refused = web.app.test_client().open(
            f"{BASE}/schemas/{number}", method=method, json={"properties": {}}, headers={"Authorization": f"Bearer {other}"}
        )
        assert refused.status_code == 403


def imported(web: Web, text: str, key: str) -> str:
    """Upload a file with a key and return its results."""
    before, web.key = web.key, key
    number = upload(web, text).headers["OnKey-Resource-Id"]
    work_off(web)
    found = web.get(f"{BASE}/files/{number}/results/download").text
    web.key = before
    return found


def test_whose_schema_a_name_means(web: Web) -> None:
    """Of schemas with one name the key's own comes before a public one that is older; a control file of that name before both."""
    row = "!Shared\nCommodity,Merge,X,,,A11,\n"
    trade = "entities:\n- entity: Trade\n  input: [code]\n  mappings: [code: ]\n"
    other = web.new_key("import", "read")
    create(web, trade, key=other, name="Shared", restrictionLevel="Public")
    assert "UnknownEntity" in imported(web, row, web.key)
    create(web, name="Shared")
    assert "RecordCreated" in imported(web, row, web.key)
    assert "UnknownEntity" in imported(web, row, other)
    web.control(trade.encode(), name="Shared")
    assert "UnknownEntity" in imported(web, row, web.key)


def test_a_schema_is_named_whatever_its_case_and_underscores(web: Web) -> None:
    """`!` lines find a schema whose name differs in case and underscores only; one of the very name comes first, whoever made it."""
    create(web, name="My_Import")
    row = "Commodity,Merge,X,,,A11,\n"
    assert "RecordCreated" in imported(web, f"!MYIMPORT\n{row}", web.key)
    trade = "entities:\n- entity: Trade\n  input: [code]\n  mappings: [code: ]\n"
    create(web, trade, name="myimport", restrictionLevel="Public", key=web.new_key("import"))
    assert "UnknownEntity" in imported(web, f"!myimport\n{row}", web.key)
    assert "RecordUnchanged" in imported(web, f"!MYIMPORT\n{row}", web.key)


def test_change_and_delete(web: Web) -> None:
    """Name, description and YAML can be changed; a faulty one is refused; what is deleted is gone, but not from what was made with it."""
    number = create(web).headers["OnKey-Resource-Id"]
    used = upload(web, "Commodity,Merge,Z,,,A11,\n", importSchemaId=number).headers["OnKey-Resource-Id"]
    told = web.get(f"{BASE}/files/{used}").get_json()["properties"]
    assert [told[f"importSchema{what}"] for what in ("Id", "Name", "Description")] == [
        int(number), "My Commodity Import", "My custom Commodity Import"
    ]  # fmt: skip
    path, client, headers = f"{BASE}/schemas/{number}", web.app.test_client(), {"Authorization": f"Bearer {web.key}"}
    shorter = "entities:\n- entity: Trade\n  input: [code]\n  mappings: [code: ]\n"
    changed = client.put(path, json={"properties": {"name": "Other", "schema": shorter}}, headers=headers).get_json()
    assert (changed["properties"]["name"], changed["properties"]["schema"]) == ("Other", shorter)
    assert changed["properties"]["description"] == "My custom Commodity Import"
    assert client.put(path, json={"properties": {"schema": "entities:"}}, headers=headers).status_code == 400
    work_off(web)
    assert "RecordCreated" in web.get(f"{BASE}/files/{used}/results/download").text
    assert client.delete(path, headers=headers).status_code == 204
    assert web.get(path).status_code == 404 and client.delete(path, headers=headers).status_code == 404
    assert web.get(f"{BASE}/files/{used}").get_json()["properties"]["importSchemaName"] is None


def test_generated_schemas(web: Web) -> None:
    """Every table has a schema of its own, with a number that stays; it cannot be changed, but used by its name or number."""
    items = web.get(f"{BASE}/schemas").get_json()["items"]
    names = {item["properties"]["name"]: item["id"] for item in items}
    assert {"Commodity", "CostElement", "PermissionTree", "Resource", "ResourceTrade", "Trade"} <= set(names)
    number = names["Commodity"]
    told = web.get(f"{BASE}/schemas/{number}").get_json()["properties"]
    assert told["isSystemGenerated"] is True and f"input: [{COLUMNS.replace(',', ', ')}]" in told["schema"]
    client, headers = web.app.test_client(), {"Authorization": f"Bearer {web.key}"}
    assert client.delete(f"{BASE}/schemas/{number}", headers=headers).status_code == 403
    done = upload(web, "\n".join(COMMODITY.splitlines()[1:3]), importSchemaId=str(number)).headers["OnKey-Resource-Id"]
    work_off(web)
    assert "RecordCreated" in web.get(f"{BASE}/files/{done}/results/download").text
    properties = web.get(f"{BASE}/files/{done}").get_json()["properties"]
    assert (properties["importSchemaId"], properties["importSchemaName"]) == (number, "Commodity")
    assert upload(web, importSchemaId="1").status_code == 404


def test_generated_csv(web: Web) -> None:
    """A file prepared for a schema names it, and has a header of its inputs."""
    number = create(web).headers["OnKey-Resource-Id"]
    reply = web.get(f"{BASE}/schemas/{number}/generate/csv/download")
    assert reply.text == "!My Commodity Import\n#Entity,Action,code,newcode,description,permissionTreeCode,isActive\n"
    assert reply.mimetype == "text/csv" and "My%20Commodity%20Import.csv" in reply.headers["Content-Disposition"]


def test_fallback_and_alias(web: Web) -> None:
    """`fallbackInput` serves where the input is empty, so that codes can be renamed; an alias tells two entities of one table apart."""
    create(web)
    rows = "!My Commodity Import\nCommodity,Merge,A,,first,A11,TRUE\nCommodity,Merge,A,B,renamed,A11,TRUE\nCommodity,Merge,B,,again,A12,\n"
    codes = [m["code"] for m in send(web, rows, "", "text/csv", "POST", "/files").get_json()["messages"]]
    assert codes == ["Core_Data_RecordCreated", "Core_Data_RecordUpdated", "Core_Data_RecordUpdated"]
    assert sql(web.settings.target_url, "SELECT code, description FROM commodity") == [("B", "again")]
    two = "entities:\n- entity: Trade\n  input: [code]\n  mappings: [code: ]\n"
    two += "- entity: Trade\n  alias: Job\n  input: [note, code]\n  mappings: [code: ]\n"
    create(web, two, name="Two")
    rows = "!Two\nTrade,Insert,T1\nJob,Insert,ignored,T2\n"
    assert [m["severity"] for m in send(web, rows, "", "text/csv", "POST", "/files").get_json()["messages"]] == ["information"] * 2
