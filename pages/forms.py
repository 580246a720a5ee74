"""The fields of forms and of filters, as browsers send them: what is left empty is not there."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from flask import request
from marshmallow import Schema

from routes.fields import once
from schemas.requests import check


def of_form(schema: Schema, without: Collection[str] = ()) -> dict[str, Any]:
    """Return the fields of a form, those `without` left out, checked; 400 for what is wrong with them."""
    return check(schema, _filled(pair for pair in request.form.items(multi=True) if pair[0] not in without))


def of_query(schema: Schema) -> dict[str, Any]:
    """Return the fields of the query string, checked."""
    return check(schema, _filled(request.args.items(multi=True)))


def _filled(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    return once([(name, value) for name, value in pairs if value and name != "form_token"])
