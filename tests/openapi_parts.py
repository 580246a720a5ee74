"""Holds replies to the API's description: tests that make requests through `tests.web_parts` do so by themselves."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import jsonschema_rs
from flask import Flask, Response, request, request_finished

from routes import openapi


class Held:
    """Compares every reply of an application with its description; `wrong` has what differed."""

    def __init__(self, app: Flask) -> None:
        self.document = openapi.document(app, "0", "/")
        self.described = {(rule.rule, method) for rule, method, _ in openapi.native(app)}
        self.wrong: list[str] = []
        self.validator = cache(self._validator)
        request_finished.connect(self._look, app)

    def _look(self, _app: Flask, response: Response, **_: Any) -> None:
        rule, method = request.url_rule, request.method
        if rule is not None and method == "HEAD" and (rule.rule, "HEAD") not in self.described:
            method = "GET"
        if rule is not None and (rule.rule, method) in self.described:
            said = f"{request.method} {request.full_path} -> {response.status_code} {response.content_type}"
            self.wrong += [f"{said}: {wrong}" for wrong in self._differences(openapi.path_of(rule), method, response)]

    def _differences(self, path: str, method: str, response: Response) -> list[str]:
        replies = self.document["paths"][path][method.lower()]["responses"]
        found = replies.get(str(response.status_code))
        if found is None:
            return [f"only {', '.join(replies)} are described"]
        if "$ref" in found:
            found = self.document["components"]["responses"][found["$ref"].rpartition("/")[2]]
        wrong = [f"{name} is missing" for name, said in found["headers"].items() if said.get("required") and name not in response.headers]
        content = found.get("content", {})
        if response.status_code not in (204, 304) and request.method != "HEAD":
            if response.mimetype not in content:
                wrong.append(f"only {', '.join(content)} are described")
            elif response.is_json and "schema" in content[response.mimetype] and not response.direct_passthrough:
                shape = json.dumps(content[response.mimetype]["schema"])
                wrong += [f"{e.instance_path}: {e.message}" for e in self.validator(shape).iter_errors(response.get_json())]
        return wrong

    def _validator(self, shape: str) -> jsonschema_rs.Validator:
        components = self.document["components"]["schemas"]
        closed = {name: {"unevaluatedProperties": False} | schema for name, schema in components.items()}
        return jsonschema_rs.validator_for(json.loads(shape) | {"components": {"schemas": closed}}, validate_formats=True)
