"""Read the fields of a request: a form, a JSON object or a query string, in any order."""

import json
from typing import Any

from flask import request
from marshmallow import Schema

from errors import Problem, Refusal
from schemas import requests

FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


def of_body(schema: Schema) -> dict[str, Any]:
    """Return the fields of a small form or JSON object, checked; 400 for what is wrong with them, 415 for any other kind of body."""
    refuse_query()
    return requests.check(schema, given_in_body())


def given_in_body() -> dict[str, Any]:
    """Return the fields of a small form or JSON object, as they were sent."""
    read_small_body()
    if is_json():
        return _of_json()
    if request.mimetype not in (*FORMS, ""):
        raise Refusal(415, "body_unknown", f"A body of type {request.mimetype[:80]} is not read here: send a form or a JSON object.")
    if request.files:
        raise Refusal(400, "request_invalid", "No file is taken here.", [Problem("This is a file.", name[:80]) for name in request.files])
    return of_form()


def is_json() -> bool:
    """Tell whether the body is JSON: by its type, or because no form begins so, whatever `curl -d` calls it where it is told no type."""
    return request.is_json or (request.mimetype == FORMS[0] and request.get_data().lstrip()[:1] == b"{")


def read_small_body() -> None:
    """Read a body of unknown length as a whole, for the form and JSON parsers to find; 413 if it is too large.

    Left to themselves, they would take what fits into the limit for all there is.
    """
    limit = request.max_content_length
    if request.content_length is None and limit is not None and len(request.get_data(parse_form_data=False)) >= limit:
        raise Refusal(413, "too_large", f"The body has more than the {limit} bytes that are allowed here.")


def of_form() -> dict[str, Any]:
    """Return the text fields of a form; one that is given twice is refused, because either could be meant."""
    return once(list(request.form.items(multi=True)))


def of_query(schema: Schema) -> dict[str, Any]:
    """Return the fields of the query string, checked."""
    return requests.check(schema, once(list(request.args.items(multi=True))))


def refuse_nul() -> None:
    """Refuse a path or a query string that holds a NUL, whatever the route: no name has one, and PostgreSQL would not look for it."""
    if "\0" in request.path or any("\0" in text for pair in request.args.items(multi=True) for text in pair):
        raise Refusal(400, "request_invalid", "The address holds a NUL character.")


def refuse_query() -> None:
    """Refuse fields in the query string of a POST: one passed over in silence (`?mode=dry-run`) would be a real import."""
    if request.args:
        problems = [Problem("Fields of a POST belong in its body.", name[:80]) for name in request.args]
        raise Refusal(400, "field_in_query", "The query string holds fields.", problems)


def _of_json() -> dict[str, Any]:
    try:
        given = json.loads(request.get_data(), object_pairs_hook=once, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Refusal(400, "request_invalid", "The body is no JSON.") from None
    if not isinstance(given, dict):
        raise Refusal(400, "request_invalid", "The body is no JSON object.")
    return given


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return fields by name; one that is given twice is refused, because either could be meant."""
    once = dict(pairs)
    if len(once) != len(pairs):
        names = [name for name, _ in pairs]
        problems = [Problem("Given more than once.", name[:80]) for name in once if names.count(name) > 1]
        raise Refusal(400, "request_invalid", "A field is given more than once.", problems)
    return once
