"""Signing in by an OpenID provider: to it, and back with its word for who somebody is."""

from __future__ import annotations

import hmac
import logging
import re
import secrets
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import quote, unquote

from flask import Blueprint, Response, current_app, request, url_for
from flask.typing import ResponseReturnValue

import oidc
from catalog import people, sessions
from errors import Refusal
from pages.looks import page
from pages.session import begin, forget_cookie, own_path, read_cookie, set_cookie, to
from routes import auth, parts
from settings import Settings

routes = Blueprint("people", __name__, url_prefix="/sign-in/oidc")

COOKIE = "lading_oidc"  # what only this browser knows, on its way to the provider and back
LASTS = timedelta(minutes=10)
_FOLLOWING_CHARS = 3000  # browsers keep no cookie of more than 4096
_UNFIT = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_ERROR = re.compile(r"[a-z_]{1,40}", re.ASCII)

log = logging.getLogger(__name__)


def provider() -> oidc.Provider | None:
    """Return the provider by which people sign in, remembered with what it says of itself; None where there is none."""
    known: dict[str, Any] = current_app.extensions
    if "oidc" not in known:
        known["oidc"] = oidc.of_settings(parts().settings)
    found: oidc.Provider | None = known["oidc"]
    return found


@routes.get("")
def leave() -> ResponseReturnValue:
    """Send the browser to the provider; it keeps a secret by which it is known when it comes back."""
    by, secret = _provider(), secrets.token_urlsafe(32)
    try:
        reply = to(by.address(secret))
    except oidc.ProviderUnavailable as error:
        return _failed(_unavailable(error))
    following = quote(own_path(request.args.get("next")) or "", safe="")
    set_cookie(reply, COOKIE, f"{secret}.{following if len(following) <= _FOLLOWING_CHARS else ''}", LASTS)
    return reply


@routes.get("/back")
def come_back() -> ResponseReturnValue:
    """Begin a session of the person whom the provider tells of, as far as the settings let that person in."""
    by = _provider()
    secret, _, following = (read_cookie(COOKIE) or "").partition(".")
    try:
        reply = to(own_path(unquote(following)) or url_for("pages.imports.recent"))
        begin(reply, _session(by, secret))
    except Refusal as refusal:
        reply = _failed(refusal)
    forget_cookie(reply, COOKIE)
    return reply


def _provider() -> oidc.Provider:
    found = provider()
    if found is None:
        raise Refusal(404, "provider_missing", "Nobody signs in by a provider here: the service has no OIDC_ISSUER.")
    return found


def _session(by: oidc.Provider, secret: str) -> str:
    """Return the token of a new session for whom the provider tells of; Refusal where it tells of nobody, or of nobody who may come in."""
    query = request.args
    if not secret or not hmac.compare_digest(query.get("state", "").encode(errors="replace"), oidc.state_of(secret).encode()):
        auth.count_failure()
        raise Refusal(400, "sign_in_foreign", "This sign-in was not begun in this browser, or more than ten minutes ago. Begin again.")
    if "error" in query:
        said = _ERROR.fullmatch(query["error"])
        raise Refusal(401, "not_authenticated", f"The provider has not signed you in{(said and f' ({said[0]})') or ''}.")
    try:
        if query.get("iss", by.issuer) != by.issuer:  # RFC 9207
            raise oidc.NotProven("the reply is another provider's")
        claims = by.claims(secret, query.get("code", ""))
    except oidc.NotProven as error:
        auth.count_failure()
        log.warning("sign-in refused: %s", error)
        raise Refusal(401, "not_authenticated", "The provider's word could not be taken for who you are. Begin again.") from None
    except oidc.ProviderUnavailable as error:
        raise _unavailable(error) from None
    return _let_in(by, claims)


def _let_in(by: oidc.Provider, claims: Mapping[str, Any]) -> str:
    allowed = permissions(parts().settings, claims)
    key_id = people.enter(parts().catalog, by.issuer, str(claims["sub"]), name_of(claims), allowed)
    if key_id is None:
        log.warning("sign-in refused: %s", "the person's key is revoked" if allowed else "the settings let this person not in")
        detail = "The provider knows you, but you may not see anything here. Ask an administrator of this service to let you in."
        raise Refusal(403, "permission_missing", detail)
    return sessions.begin(parts().catalog, key_id)


def permissions(settings: Settings, claims: Mapping[str, Any]) -> set[str]:
    """Return what the settings give to a person of whom this is told: nothing, unless a value of OIDC_CLAIM is named there."""
    if settings.oidc_domains is not None and _domain(_verified_mail(claims)) not in settings.oidc_domains:
        return set()
    held = _values(settings.oidc_claim, claims)
    grants = ((settings.oidc_admin, {"admin"}), (settings.oidc_import, {"import", "read"}), (settings.oidc_read, {"read:all"}))
    given = [allowed for names, allowed in grants if names and (held.intersection(names) or names.count("*"))]
    return set().union(*given)


def _values(claim: str, claims: Mapping[str, Any]) -> set[str]:
    """Return the values of a claim, which may be within others (`realm_access.roles`); a mail address only if it is verified."""
    if claim == "email":
        return {_verified_mail(claims)} - {""}
    found: Any = claims
    for step in [claim] if claim in claims else claim.split("."):
        found = found.get(step) if isinstance(found, Mapping) else None
    listed = found if isinstance(found, list) else [found]
    return {value for value in listed if isinstance(value, str)}


def _verified_mail(claims: Mapping[str, Any]) -> str:
    """Return the mail address that the provider has verified, "" for none: any other is what somebody says of themselves."""
    mail, is_verified = claims.get("email"), claims.get("email_verified")
    return mail.lower() if isinstance(mail, str) and is_verified in (True, "true") else ""


def _domain(mail: str) -> str:
    return mail.partition("@")[2]  # where there are two @, no domain is the rest


def name_of(claims: Mapping[str, Any]) -> str:
    """Return what a person is called, with what tells them from another of that name.

    >>> name_of({"sub": "7", "name": "Ada", "email": "ada@example.org", "email_verified": True}), name_of({"sub": "7"})
    ('Ada (ada@example.org)', '7')
    """
    known = _shown(_verified_mail(claims)) or _shown(claims.get("preferred_username")) or _shown(claims["sub"])
    name = _shown(claims.get("name"))
    return f"{name} ({known})" if name and name != known else known


def _shown(text: Any) -> str:
    """Return a text as both databases can keep it, and not too long."""
    return _UNFIT.sub(" ", text).strip()[:90] if isinstance(text, str) else ""


def _unavailable(error: oidc.ProviderUnavailable) -> Refusal:
    log.error("nobody can sign in by the provider: %s", error)
    detail = "The provider cannot be reached, or does not do its part. Try again in a moment, or sign in with an API key."
    return Refusal(503, "provider_unavailable", detail, headers={"Retry-After": "30"})


def _failed(refusal: Refusal) -> Response:
    reply = page("sign_in.html", code="", next=None, problem=refusal.detail, provider=provider())
    reply.status_code = refusal.status
    reply.headers.update(refusal.headers)
    return reply
