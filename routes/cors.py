"""Let pages of other origins call the API, where a setting names them (CORS). They send keys, never cookies."""

from __future__ import annotations

import re

from flask import Response, request

from routes import parts, replies

_PATHS = ("/api/", "/API/", "/bulk/", "/pub/")  # of programs; the pages for people are nobody else's
_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
_HEADER_NAMES = re.compile(r"[A-Za-z0-9-]+(?:\s*,\s*[A-Za-z0-9-]+)*", re.ASCII)
_KEPT_SECONDS = "600"


def answer_preflight() -> Response | None:
    """Reply to a browser that asks, before it sends a request with a key, whether the page may; other requests go on."""
    if request.method != "OPTIONS" or request.url_rule is None or not _is_allowed():
        return None
    if "Access-Control-Request-Method" not in request.headers:
        return None
    reply = replies.text("", 204)
    reply.headers["Access-Control-Allow-Methods"] = _METHODS
    reply.headers["Access-Control-Max-Age"] = _KEPT_SECONDS
    wanted = request.headers.get("Access-Control-Request-Headers", "")
    if _HEADER_NAMES.fullmatch(wanted[:1000]):
        reply.headers["Access-Control-Allow-Headers"] = wanted
    return reply


def allow(reply: Response) -> Response:
    """Let the page that has sent the request read the reply, a refusal too, if its origin is allowed."""
    if parts().settings.cors_origins and request.path.startswith(_PATHS):
        reply.vary.add("Origin")
        if _is_allowed():
            reply.headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
            reply.headers["Access-Control-Expose-Headers"] = "*"
    return reply


def _is_allowed() -> bool:
    origins = parts().settings.cors_origins or ()
    origin = request.headers.get("Origin")
    return origin is not None and request.path.startswith(_PATHS) and (origin in origins or "*" in origins)
