"""Signing in with a key, or with a code that a command has printed; and out again."""

from __future__ import annotations

from flask import Blueprint, request, url_for
from flask.typing import ResponseReturnValue
from marshmallow import validate

from catalog import sessions
from errors import Refusal
from pages import forms
from pages.looks import page
from pages.people import provider
from pages.session import COOKIE, OPENS, begin, forget_cookie, own_path, read_cookie, signed_in, to
from routes import auth, parts
from schemas.requests import Request, Text

routes = Blueprint("sign_in", __name__)


class SignIn(Request):
    """The fields of the sign-in form: a key, or a code."""

    key = Text(load_default=None, validate=validate.Length(max=200))
    code = Text(load_default=None, validate=validate.Length(max=100))
    next = Text(load_default=None, validate=validate.Length(max=2000))


@routes.get("/sign-in")
def form() -> ResponseReturnValue:
    """Show the sign-in form; an address with a code needs nothing but its button, since what only looks at addresses must not use it up."""
    code, following = request.args.get("code", "")[:100], own_path(request.args.get("next"))
    return page("sign_in.html", code=code, next=following, problem=None, provider=provider())


@routes.post("/sign-in")
def sign_in() -> ResponseReturnValue:
    """Begin a session and go where the user wanted to; say what is wrong otherwise, but not why."""
    given = forms.of_form(SignIn())
    following = own_path(given["next"])
    try:
        token = _by_code(given["code"]) if given["code"] else _by_key(given["key"])
    except Refusal as refusal:
        reply = page("sign_in.html", code="", next=following, problem=refusal.detail, provider=provider())
        reply.status_code = refusal.status
        reply.headers.update({name: value for name, value in refusal.headers.items() if name != "WWW-Authenticate"})
        return reply
    reply = to(following or url_for("pages.imports.recent"))
    begin(reply, token)
    return reply


@routes.post("/sign-out")
@signed_in(*OPENS)
def sign_out() -> ResponseReturnValue:
    """End the session."""
    sessions.end(parts().catalog, read_cookie(COOKIE) or "")
    reply = to(url_for("pages.sign_in.form"))
    forget_cookie(reply)
    return reply


def _by_key(token: str | None) -> str:
    try:
        key = auth.verified((token or "").strip())
    except Refusal as refusal:
        detail = "This is no valid key." if refusal.status == 401 else refusal.detail
        raise Refusal(refusal.status, refusal.code, detail, headers=refusal.headers) from None
    if not any(key.can(permission) for permission in OPENS):
        raise Refusal(403, "permission_missing", "This key may neither read nor administrate, so there is nothing here that it may see.")
    return sessions.begin(parts().catalog, key.id)


def _by_code(code: str) -> str:
    token = sessions.redeem(parts().catalog, code)
    if token is None:
        auth.count_failure()
        raise Refusal(
            401,
            "not_authenticated",
            "This address has been used, or is older than a quarter of an hour. Make a new one, or sign in with a key.",
        )
    return token
