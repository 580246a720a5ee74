"""API keys: made (and shown once), listed with their last use, revoked."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time
from typing import Any

from flask import Blueprint, redirect, request, url_for
from flask.typing import ResponseReturnValue
from marshmallow import fields as kinds, validate

import clock
from catalog import controls, keys
from engine.allowed import meant
from errors import Refusal
from pages import forms
from pages.looks import page
from pages.session import signed_in
from routes import parts
from schemas.requests import Request, Text

routes = Blueprint("keys", __name__, url_prefix="/keys")


class NewKey(Request):
    """The fields of a new key besides those that may be there many times: its permissions, control files and actions."""

    name = Text(required=True, validate=validate.Length(max=200))
    expires = kinds.Date(load_default=None)
    tables = Text(load_default="", validate=validate.Length(max=20_000))
    networks = Text(load_default="", validate=validate.Length(max=2000))


@routes.get("")
@signed_in("admin")
def index() -> ResponseReturnValue:
    """List all keys, and ask what a new one is to be."""
    return _page(made=None)


@routes.post("")
@signed_in("admin")
def create() -> ResponseReturnValue:
    """Make a key, and show it this once."""
    lists = {name: request.form.getlist(name) for name in ("permission", "control", "action")}
    given = forms.of_form(NewKey(), without=lists)
    expires_at = datetime.combine(given["expires"], time(), UTC) if given["expires"] else None
    if expires_at is not None and expires_at <= clock.now():
        raise Refusal(400, "request_invalid", "This day is past: a key that ends on it would never be valid.")
    limits = _limits(lists["control"], _words(given["tables"]), lists["action"], _words(given["networks"]))
    try:
        made = keys.create(parts().catalog, given["name"], lists["permission"], expires_at=expires_at, limits=limits)
    except ValueError as error:
        raise Refusal(400, "request_invalid", f"A key needs at least one permission: {error}.") from None
    return _page(made=made)


@routes.post("/<key_id>/revoke")
@signed_in("admin")
def revoke(key_id: str) -> ResponseReturnValue:
    """Make a key fail from now on."""
    if not keys.revoke(parts().catalog, key_id):
        raise Refusal(404, "key_unknown", "There is no such key that could be revoked.")
    return redirect(url_for("pages.keys.index"), 303)


def _limits(controls: list[str], tables: list[str], actions: list[str], networks: list[str]) -> dict[str, Any]:
    """Return the limits of a key, the tables by their own names; Refusal 400 says what is no limit."""
    try:
        found = [meant(parts().tables(), table) for table in tables]
        return keys.limits_of(controls, found, actions, networks)
    except ValueError as error:
        raise Refusal(400, "request_invalid", f"The key cannot be limited so: {error}.") from None


def _words(text: str) -> list[str]:
    return re.split(r"[,\s]+", text.strip()) if text.strip() else []


def _page(made: str | None) -> ResponseReturnValue:
    named = [name.name for name in controls.names(parts().catalog)]
    found = keys.all_keys(parts().catalog)
    choices: dict[str, Any] = {"permissions": keys.PERMISSIONS, "actions": keys.ACTIONS, "named": named}
    return page("keys.html", keys=found, made=made, now=clock.now(), **choices)
