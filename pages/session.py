"""Who sits before the page: the session's cookie, what its key may do, and that a form was sent from a page of ours."""

from __future__ import annotations

import functools
import hmac
import re
import secrets
from collections.abc import Callable
from datetime import timedelta
from typing import ParamSpec

from flask import Response, g, redirect, request, url_for
from flask.typing import ResponseReturnValue

from catalog import sessions
from errors import Refusal
from routes import parts
from routes.limits import refuse_elsewhere

P = ParamSpec("P")

COOKIE = "lading_session"
FORM_COOKIE = "lading_form"  # stands in for it where nobody is signed in yet, so that the sign-in form is ours, too
_OWN_PATH = re.compile(r"/(?![/\\])[^\\\x00-\x20]*")
OPENS = ("admin", "read")  # one of these permissions is needed to sign in


def signed_in(*permissions: str, is_poll: bool = False) -> Callable[[Callable[P, ResponseReturnValue]], Callable[P, ResponseReturnValue]]:
    """Let a view run only for a session whose key has one of these permissions; others are led to the sign-in.

    `is_poll`: the page asks by itself, which is no use of the session.
    """

    def decorate(view: Callable[P, ResponseReturnValue]) -> Callable[P, ResponseReturnValue]:
        @functools.wraps(view)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> ResponseReturnValue:
            idle = timedelta(minutes=parts().settings.session_idle_minutes)
            token = read_cookie(COOKIE)
            key = sessions.find(parts().catalog, token, idle, is_use=not is_poll) if token else None
            if key is None:
                return _to_sign_in()
            g.key = refuse_elsewhere(key)
            if not any(key.can(permission) for permission in permissions):
                raise Refusal(403, "permission_missing", f"Your key lacks the permission {' or '.join(permissions)}.")
            return view(*args, **kwargs)

        return guarded

    return decorate


def _to_sign_in() -> ResponseReturnValue:
    if "HX-Request" in request.headers:
        # A part of a page was asked for: the whole page goes to the sign-in.
        return Response(status=401, headers={"HX-Redirect": url_for("pages.sign_in.form")})
    target = request.full_path.rstrip("?") if request.method == "GET" and request.path != "/" else None
    return redirect(url_for("pages.sign_in.form", next=target), 303)


def set_cookie(reply: Response, name: str, value: str, max_age: timedelta | None = None) -> None:
    """Give the browser a cookie that no script reads, that no other site's form brings along, and that goes nowhere but over TLS."""
    reply.set_cookie(_named(name), value, max_age=max_age, path="/", secure=_is_secure(), httponly=True, samesite="Lax")


def read_cookie(name: str) -> str | None:
    """Return what the browser has of a cookie of ours."""
    return request.cookies.get(_named(name))


def _named(name: str) -> str:
    """Return what browsers call a cookie: with the prefix they take it from this very host only, and not from one beside or below it.

    Else whoever has a host of the same domain could put a session of their own into somebody's browser (RFC 6265bis, section 4.1.3).
    """
    return f"__Host-{name}" if _is_secure() else name


def _is_secure() -> bool:
    return request.is_secure or (parts().settings.public_url or "").startswith("https:")


def begin(reply: Response, token: str) -> None:
    """Give the browser a new session; one that it had is over, so that nothing which knew it goes on in its place."""
    if before := read_cookie(COOKIE):
        sessions.end(parts().catalog, before)
    set_cookie(reply, COOKIE, token, sessions.LASTS)


def forget_cookie(reply: Response, name: str = COOKIE) -> None:
    """Take a cookie from the browser: the session's, or another."""
    reply.delete_cookie(_named(name), path="/", secure=_is_secure(), httponly=True, samesite="Lax")


def own_path(path: str | None) -> str | None:
    """Return a path of this site, or None: nobody is sent elsewhere by an address that only begins with ours."""
    return path if path and _OWN_PATH.fullmatch(path) else None


def to(address: str) -> Response:
    """Lead the browser to another page."""
    reply = redirect(address, 303)
    assert isinstance(reply, Response)  # noqa: S101 - the application's own kind
    return reply


def form_token() -> str:
    """Return what proves that a form comes from a page of ours: nobody can make it who does not have the browser's cookie."""
    secret = read_cookie(COOKIE) or read_cookie(FORM_COOKIE) or _new_form_secret()
    return hmac.new(secret.encode(errors="replace"), b"form", "sha256").hexdigest()


def _new_form_secret() -> str:
    secret: str = g.setdefault("form_secret", secrets.token_urlsafe(16))
    return secret


def keep_form_secret(reply: Response) -> Response:
    """Give the browser what this page's forms were made with, where it had nothing yet."""
    if "form_secret" in g:
        set_cookie(reply, FORM_COOKIE, g.form_secret)
    return reply


def refuse_foreign_forms() -> None:
    """Refuse what would change something and does not come from a page of ours, before anything else of it is read.

    Forms with a file bring the token in their address: it is needed before the body is.
    """
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return
    sent = request.headers.get("X-Form-Token") or request.args.get("form_token")
    if not sent and request.mimetype in ("application/x-www-form-urlencoded", ""):
        sent = request.form.get("form_token")
    has_cookie = read_cookie(COOKIE) or read_cookie(FORM_COOKIE)
    if not has_cookie or not hmac.compare_digest((sent or "").encode(errors="replace"), form_token().encode()):
        detail = "This form is too old, or was not made by this site. Go back, load the page again, and send it once more."
        raise Refusal(403, "form_foreign", detail)
