"""The API's description: it holds every native route and nothing else, and is what it says it is."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from marshmallow import Schema, fields, validate
from openapi_spec_validator import OpenAPIV31SpecValidator

from dev.stack import ROOT
from schemas import json_schema
from tests.web_parts import Web, lite

__all__ = ["lite"]


def document(web: Web) -> dict[str, Any]:
    """Return the description as the service gives it."""
    reply = web.app.test_client().get("/api/openapi.json")
    assert (reply.status_code, reply.mimetype) == (200, "application/json")
    found: dict[str, Any] = reply.get_json()
    return found


def operations(found: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """Return a description's operations by method and path."""
    return {(method.upper(), path): one for path, methods in found["paths"].items() for method, one in methods.items()}


def test_it_is_valid_and_needs_no_key(lite: Web) -> None:
    """Anybody gets a document that is valid as OpenAPI 3.1, in the version of the project."""
    found = document(lite)
    OpenAPIV31SpecValidator(found).validate()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (found["openapi"][:4], found["info"]["version"]) == ("3.1.", project["version"])


def test_every_native_route_is_in_it(lite: Web) -> None:
    """Each method of each route of our own is described, and nothing else; those of other systems and the pages are told elsewhere."""
    own = [r for r in lite.app.url_map.iter_rules() if re.match(r"/(api/(?!tenants/|haplo-)|healthz|readyz|metrics)", r.rule)]
    served = {(method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)) for rule in own for method in rule.methods or ()}
    found = set(operations(document(lite)))
    with_others = {one for one in found if one[0] in ("HEAD", "OPTIONS")}  # elsewhere they come with the route's own method
    assert with_others == {("HEAD", "/api/upload/{upload}"), ("OPTIONS", "/api/upload")}
    assert found - with_others == {one for one in served if one[0] not in ("HEAD", "OPTIONS")}


def test_operations_are_told_apart(lite: Web) -> None:
    """Each operation has an id of its own, a summary, the key that it needs, and every refusal as a problem."""
    found = document(lite)
    ids = [one["operationId"] for one in operations(found).values()]
    assert len(ids) == len(set(ids))
    for (method, path), one in operations(found).items():
        assert one["summary"].endswith("."), path
        needs_key = bool(re.match("/metrics|/api/(?!openapi|docs)", path)) and method != "OPTIONS"
        assert ("security" in one) == ("401" in one["responses"]) == needs_key, path
        for reply in (found["components"]["responses"][f"Refused{s}"] for s, r in one["responses"].items() if "$ref" in r):
            assert "application/problem+json" in reply["content"]


def test_fields_are_told_as_they_are_checked(lite: Web) -> None:
    """A field's type, limits, words, default and purpose stand in the description as the request's schema has them."""
    found = document(lite)
    status = {one["name"]: one for one in operations(found)["GET", "/api/batch/{batch}"]["parameters"]}
    assert status["max_errors"]["schema"] == {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}
    assert status["run"]["schema"] == {"type": "string", "enum": ["dry-run", "import"]}
    assert status["batch"]["required"] and status["batch"]["in"] == "path"
    batch = found["components"]["schemas"]["BatchRequest"]
    assert batch["required"] == ["control"] and batch["additionalProperties"] is False
    assert batch["properties"]["creationPath"]["pattern"] == "^(?:[A-Z0-9_]{1,15}|)$"
    mode = found["components"]["schemas"]["StatusReply"]["properties"]["mode"]
    assert mode == {"type": ["string", "null"], "enum": ["dry-run", "import", None]}


def test_every_field_says_what_it_is_for(lite: Web) -> None:
    """Each parameter and each field of a form has a description."""
    found = document(lite)
    for key, one in operations(found).items():
        assert all(parameter["description"] for parameter in one["parameters"]), key
    for name, shape in found["components"]["schemas"].items():
        if "additionalProperties" in shape:
            assert all(field.get("description") for field in shape["properties"].values()), name


def test_kinds_of_fields() -> None:
    """What has no kind of its own is told without a type; lists, objects and shapes within shapes are told as such."""

    class Inner(Schema):
        one = fields.Integer(validate=validate.Range(max=3))

    class Outer(Schema):
        any_ = fields.Raw(data_key="any")
        many = fields.List(fields.Nested(Inner))
        few = fields.Nested(Inner, many=True)
        named = fields.Dict(values=fields.Boolean())
        two = fields.String(validate=[validate.Length(equal=2), validate.Email()], allow_none=True)

    ref = {"$ref": "#/components/schemas/Inner"}
    assert json_schema.of_schema(Outer())["properties"] == {
        "any": {},
        "many": {"type": "array", "items": ref},
        "few": {"type": "array", "items": ref},
        "named": {"type": "object", "additionalProperties": {"type": "boolean"}},
        "two": {"type": ["string", "null"], "minLength": 2, "maxLength": 2},
    }
    assert set(json_schema.with_nested({"Outer": Outer})) == {"Outer", "Inner"}


def test_the_page_needs_nothing_from_elsewhere(lite: Web) -> None:
    """The page shows every operation and every shape, asks only this service for its style, and runs no script."""
    client = lite.app.test_client()
    reply = client.get("/api/docs")
    page = reply.get_data(as_text=True)
    assert reply.status_code == 200 and "script" not in reply.headers["Content-Security-Policy"] and "<script" not in page
    found = document(lite)
    assert all(f'<section id="{one["operationId"]}">' in page for one in operations(found).values())
    assert all(f'<section id="{name}">' in page for name in found["components"]["schemas"])
    assert set(re.findall(r'(?:src|href)="([^#"]+)"', page)) == {"docs/api.css", "openapi.json"}
    assert client.get("/api/docs/api.css").mimetype == "text/css"
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(re.findall(r'id="([^"]+)"', page))


def test_what_differs_from_the_description_is_seen(lite: Web) -> None:
    """The check of every reply in the tests can fail: a status, a type, a header or a field that is not described is told."""
    reply = lite.get("/api/limits", headers={"Accept": "application/json"})
    assert not lite.held.wrong
    for change in (
        {"response": b"{}"},
        {"response": reply.data[:-1] + b',"more":1}'},
        {"status": 402},
        {"content_type": "text/css"},
    ):
        lite.held.wrong.clear()
        lite.app.view_functions["templates.get_limits"] = lambda change=change: lite.app.response_class(
            **{"response": reply.data, "content_type": "application/json"} | change
        )
        lite.get("/api/limits")
        assert len(lite.held.wrong) >= 1, change
    lite.held.wrong.clear()
