"""The API's description: OpenAPI 3.1, made from the routes, what is said beside them, and the schemas that check their requests."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

from flask import Flask
from marshmallow import Schema
from werkzeug.routing import Rule

from routes.described import CSV, FORMS, HEADERS, REFUSAL_SAYS, REFUSALS, SAID, TEXT, VARIABLES, Described, Named, Reply
from schemas import json_schema
from schemas.replies import Problem

TITLE = "Lading"
DESCRIPTION = """\
Batch imports with a receipt for every line. Replies are plain text for curl; with `Accept: application/json` they are JSON, and refusals
are `application/problem+json` (RFC 9457). A field that is unknown, or given twice, is refused. A reply of 400 to 499 has stored nothing."""
SECURITY: dict[str, dict[str, str]] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer KEY`"},
    "basic": {"type": "http", "scheme": "basic", "description": "Any user, and the key as password: `curl -u api:KEY`"},
    "apikey": {"type": "apiKey", "in": "header", "name": "Authorization", "description": "`Authorization: apikey KEY`"},
}
_NO_FIELDS: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
_PROBLEM_TYPE = "application/problem+json"
_BESIDES = ("OPTIONS", "HEAD")  # Flask adds them to routes that do not name them


def document(app: Flask, version: str, server: str) -> dict[str, Any]:
    """Return the description of all native routes; `server` is the address under which they are reached."""
    paths: dict[str, dict[str, Any]] = {}
    shapes: dict[str, type[Schema]] = {}
    for rule, method, view in native(app):
        paths.setdefault(path_of(rule), {})[method.lower()] = _operation(rule, method, view, shapes)
    return {
        "openapi": "3.1.1",
        "info": {"title": TITLE, "version": version, "description": DESCRIPTION},
        "servers": [{"url": server}],
        "paths": paths,
        "components": {
            "schemas": _components(shapes),
            "responses": {f"Refused{status}": _refusal(status, shapes) for status in REFUSALS},
            "securitySchemes": SECURITY,
        },
    }


def native(app: Flask) -> Iterator[tuple[Rule, str, Callable[..., Any]]]:
    """Yield each route of the API of our own, a method at a time: those of other systems and the pages for people are told elsewhere."""
    for rule in app.url_map.iter_rules():
        view = app.view_functions[rule.endpoint]
        if not view.__module__.startswith("routes.") or view.__module__.startswith("routes.compat."):
            continue
        methods = rule.methods or set()
        for method in sorted(methods - set(_BESIDES)) or sorted(methods & {"HEAD"}) or ["OPTIONS"]:
            yield rule, method, view


def path_of(rule: Rule) -> str:
    """Return a route's path as the description has it, its variables in braces."""
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)


def _operation(rule: Rule, method: str, view: Callable[..., Any], shapes: dict[str, type[Schema]]) -> dict[str, Any]:
    told: Described = view.described  # type: ignore[attr-defined]
    permissions: tuple[str, ...] = getattr(view, "permissions", ())
    summary, _, more = (inspect.getdoc(view) or "").partition("\n\n")
    operation: dict[str, Any] = {
        "operationId": view.__name__ if method != "PUT" or len(rule.methods or ()) == 2 else f"{view.__name__}_put",
        "tags": [view.__module__.removeprefix("routes.")],
        "summary": " ".join(summary.split()),
    }
    if permissions:
        more = f"{' '.join(more.split())}\n\nPermission: {' or '.join(f'`{p}`' for p in permissions)}.".strip()
        operation["security"] = [{name: []} for name in SECURITY]
    if more:
        operation["description"] = more
    operation["parameters"] = _parameters(rule, told)
    if body := _body(told, shapes):
        operation["requestBody"] = body
    operation["responses"] = _responses(method, told, _refusals(rule, told, bool(permissions), bool(body)), shapes)
    return operation


def _parameters(rule: Rule, told: Described) -> list[dict[str, Any]]:
    path = [{"name": name, "in": "path", **_named(VARIABLES[name]), "required": True} for name in _variables(rule)]
    query = []
    if told.query is not None:
        schema = told.query()
        for name, shape in json_schema.properties_of(schema).items():
            query.append({"name": name, "in": "query", "description": shape.pop("description", ""), "schema": shape})
    needed = [{"name": name, "in": "header", **_named(HEADERS[name]), "required": True} for name in told.needs]
    headers = [{"name": name, "in": "header", **_named(HEADERS[name])} for name in (*told.headers, "X-Request-Id")]
    return [*path, *query, *needed, *headers]


def _variables(rule: Rule) -> list[str]:
    return re.findall(r"<(?:\w+:)?(\w+)>", rule.rule)


def _named(one: Named) -> dict[str, Any]:
    return {"description": one.description, "schema": one.schema} | ({"required": True} if one.is_required else {})


def _body(told: Described, shapes: dict[str, type[Schema]]) -> dict[str, Any]:
    content: dict[str, Any] = {media_type: {"schema": _with_file(_NO_FIELDS)} if "form" in media_type else {} for media_type in told.takes}
    if told.form is not None and told.has_file:
        content["multipart/form-data"] = {"schema": _with_file(json_schema.of_schema(told.form()))}
    elif told.form is not None:
        content |= {media_type: {"schema": _ref(told.form, shapes)} for media_type in FORMS}
    if not content:
        return {}
    is_needed = bool(told.takes) or told.has_file or any(field.required for field in (told.form or Schema)().fields.values())
    return {"content": content, "required": is_needed}


def _with_file(shape: dict[str, Any]) -> dict[str, Any]:
    """Add the part `file` to a form; where it has a `digest`, exactly one of the two is sent."""
    properties = shape["properties"] | {"file": {"type": "string", "format": "binary", "description": "The file."}}
    if "digest" in properties:
        return shape | {"properties": properties, "oneOf": [{"required": ["file"]}, {"required": ["digest"]}]}
    return shape | {"properties": properties, "required": [*shape.get("required", ()), "file"]}


def _refusals(rule: Rule, told: Described, has_key: bool, has_body: bool) -> set[int]:
    found = {400, 500, *told.refuses}
    found |= {status for name in _variables(rule) for status in VARIABLES[name].refuses}
    found |= {status for name in (*told.needs, *told.headers) for status in HEADERS[name].refuses}
    found |= {401, 403, 429, 503} if has_key else set()
    return found | ({408, 413, 415} if has_body else set())


def _responses(method: str, told: Described, refusals: set[int], shapes: dict[str, type[Schema]]) -> dict[str, Any]:
    found = {status: _reply(reply, "Idempotency-Key" in told.headers, shapes) for status, reply in told.replies.items()}
    for status in refusals:
        refusal = _refusal(status, shapes)
        if status in found:
            found[status]["description"] += f" Or: {refusal['description']}"
            found[status] = {**found[status], **{part: found[status][part] | refusal[part] for part in ("content", "headers")}}
        elif method == "HEAD":
            found[status] = refusal
        else:
            found[status] = {"$ref": f"#/components/responses/Refused{status}"}
    if method == "HEAD":
        for reply in found.values():
            reply.pop("content")
    return {str(status): found[status] for status in sorted(found)}


def _reply(reply: Reply, may_be_replayed: bool, shapes: dict[str, type[Schema]]) -> dict[str, Any]:
    content: dict[str, Any] = {media_type: _raw(media_type) for media_type in reply.types}
    if reply.gives is not None:
        given = reply.gives if isinstance(reply.gives, tuple) else (reply.gives,)
        refs = [_ref(one, shapes) for one in given]
        content["application/json"] = {"schema": refs[0] if len(refs) == 1 else {"anyOf": refs}}
    says = ("X-Request-Id", *reply.says, *(["Idempotent-Replayed"] if may_be_replayed else []))
    return {"description": reply.description, "headers": {name: _named(SAID[name]) for name in says}, "content": content}


def _refusal(status: int, shapes: dict[str, type[Schema]]) -> dict[str, Any]:
    says = ("X-Request-Id", *REFUSAL_SAYS.get(status, ()))
    return {
        "description": REFUSALS[status],
        "headers": {name: _named(SAID[name]) for name in says},
        "content": {TEXT: _raw(TEXT), _PROBLEM_TYPE: {"schema": _ref(Problem, shapes)}},
    }


def _raw(media_type: str) -> dict[str, Any]:
    return {"schema": {"type": "string"}} if media_type in (TEXT, CSV) else {}


def _ref(shape: type[Schema], shapes: dict[str, type[Schema]]) -> dict[str, str]:
    shapes[shape.__name__] = shape
    return {"$ref": json_schema.place_of(shape)}


def _components(shapes: dict[str, type[Schema]]) -> dict[str, Any]:
    """Return the schemas that replies and forms refer to, and those that these refer to themselves."""
    return {name: json_schema.of_schema(shape()) for name, shape in sorted(json_schema.with_nested(shapes).items())}
