"""What the other systems' routes have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from flask import Blueprint, Response, request
from marshmallow import Schema

from catalog import controls
from catalog.batches import Batch
from errors import Problem, Refusal
from routes import fields, parts, replies
from routes.auth import visible_batch
from routes.control import usable_control
from schemas.requests import check


def blueprint(name: str, prefix: str, refuse: Callable[[Refusal], Response] = replies.refuse) -> Blueprint:
    """Make the blueprint of a system, whose refusals are replied to by `refuse`, in the system's own form."""
    made = Blueprint(name, __name__, url_prefix=prefix)
    made.register_error_handler(Exception, partial(replies.answer_error, refuse=refuse))
    return made


def of_query(schema: Schema, form: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the fields of the query string (and of a form) that the schema knows, checked; names that it does not know are passed over."""
    known = _known(schema)
    given = [*request.args.items(multi=True), *(form or {}).items()]
    return check(schema, fields.once([(name, text) for name, text in given if name in known]))


def of_body(schema: Schema) -> dict[str, Any]:
    """Return the fields of a small form or JSON object, checked; names that the schema does not know are passed over."""
    refuse_in_query(schema)
    return check(schema, fields.given_in_body())


def refuse_in_query(schema: Schema) -> None:
    """Refuse the fields of a body where they stand in the query string: passed over like an unknown one, `mode` would mean an import."""
    problems = [Problem("This belongs in the body.", name) for name in request.args if name in _known(schema)]
    if problems:
        raise Refusal(400, "field_in_query", "The query string holds fields.", problems)


def batch_of(control_name: str, batch: str) -> Batch:
    """Return a batch that was made with the control file to which a name points, or pointed at its time.

    Refusal: 400 for a text that is no identifier; 404 for another batch, or a name that the caller may not use.
    """
    control, found = usable_control(control_name), visible_batch(batch)
    if found.control != control.digest and not controls.was_named(parts().catalog, found.control, control_name):
        raise Refusal(404, "batch_unknown", f"There is no batch {found.id} of {control_name[:200]}.")
    return found


def public_address() -> str:
    """Return the address under which the caller reaches the service, for links."""
    return str(parts().settings.public_url or request.host_url.rstrip("/"))


def _known(schema: Schema) -> set[str]:
    return {field.data_key or name for name, field in schema.fields.items()}
