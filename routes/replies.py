"""How we answer: plain lines for curl, JSON where it is accepted, RFC 9457 problems for refusals."""

import json as json_module
import logging
import re
import secrets
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from flask import Response, g, request
from sqlalchemy.exc import OperationalError
from werkzeug.exceptions import HTTPException, MethodNotAllowed, RequestEntityTooLarge

from errors import (
    ControlFileInvalid,
    DigestMismatch,
    DigestUnknown,
    Problem,
    Refusal,
    SpoolFull,
    SpoolUnavailable,
    TargetUnavailable,
    TooLarge,
    UploadHeld,
    UploadUnknown,
)

log = logging.getLogger(__name__)

_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_TITLES = {
    400: "Bad request", 401: "Not authenticated", 403: "Not permitted", 404: "Not found", 405: "Method not allowed", 409: "Conflict",
    408: "Too slow", 410: "Gone", 412: "Precondition failed", 413: "Too large", 415: "Unsupported media type",
    416: "Range not satisfiable", 422: "Cannot be carried out", 423: "Locked", 429: "Too many failures", 460: "Checksum mismatch",
    500: "Internal error", 503: "Unavailable", 507: "Spool full",
}  # fmt: skip


def wants_json() -> bool:
    """Tell whether the caller asked for JSON by name and not for plain text more; curl's `*/*` does not count."""
    qualities = dict(request.accept_mimetypes)
    json_quality = max((q for name, q in qualities.items() if name == "application/json" or name.endswith("+json")), default=0)
    return json_quality > 0 and json_quality >= qualities.get("text/plain", 0)


def text(body: str, status: int = 200) -> Response:
    """Reply with plain text, exactly as it stands."""
    return Response(body, status, content_type="text/plain; charset=utf-8")


def json(value: Any, status: int = 200, content_type: str = "application/json") -> Response:
    """Reply with JSON; datetimes become RFC 3339 with `Z`."""
    return Response(_dumped(value), status, content_type=content_type)


def _dumped(value: Any) -> bytes:
    try:
        return orjson.dumps(value, option=orjson.OPT_UTC_Z)
    except TypeError:
        # A record's JSON may have held half a character, which a receipt shows and UTF-8 cannot: it is told as `?`.
        plain = json_module.dumps(value, default=lambda o: orjson.loads(orjson.dumps(o, option=orjson.OPT_UTC_Z)), ensure_ascii=False)
        return plain.encode(errors="replace")


def bare(value: str, details: Mapping[str, Any], status: int = 200) -> Response:
    """Reply as the four steps do: the bare value with no newline, or the details where JSON is accepted."""
    return json(details, status) if wants_json() else text(value, status)


def refuse(refusal: Refusal) -> Response:
    """Reply with a refusal: one plain line for each thing wrong, or `application/problem+json`."""
    reply = problem_json(refusal) if wants_json() else text(f"{refusal}\n", refusal.status)
    reply.headers.update(refusal.headers)
    return reply


def problem_json(refusal: Refusal) -> Response:
    """Reply with a refusal as RFC 9457 has it."""
    body = {
        "type": f"urn:lading:problem:{refusal.code}",
        "title": title_of(refusal.status),
        "status": refusal.status,
        "detail": refusal.detail,
        "code": refusal.code,
        "errors": [_error(problem) for problem in refusal.problems],
    }
    return json(body, refusal.status, "application/problem+json")


def _error(problem: Problem) -> dict[str, Any]:
    return {"message": problem.message, "path": problem.path, "line": problem.line, "allowed": list(problem.allowed)}


def take_request_id() -> None:
    """Give the request an id: the caller's own `X-Request-Id` if it is short and plain, else a new one."""
    given = request.headers.get("X-Request-Id", "")
    g.request_id = given if _SANE_REQUEST_ID.fullmatch(given) else secrets.token_hex(8)


def answer_error(error: Exception, refuse: Callable[[Refusal], Response] = refuse) -> Response:
    """Reply to whatever a route has raised: what it says of the request is told, what it says of us goes to the log alone."""
    refusal = _refusal_of(error)
    if refusal is None:
        log.error("request %s failed", g.request_id, exc_info=error)
        refusal = Refusal(500, "internal_error", f"Something went wrong here; the log tells more of request {g.request_id}.")
    elif refusal.status >= 500:
        log.warning("request %s: %s: %s", g.request_id, refusal.code, error)
    return refuse(refusal)


def title_of(status: int) -> str:
    """Return what an HTTP status is called."""
    return _TITLES.get(status, "Refused")


def _refusal_of(error: Exception) -> Refusal | None:
    """Return what an error means for the caller; None where it is a fault of ours."""
    retry = {"Retry-After": "5"}
    match error:
        case Refusal():
            return error
        case HTTPException():
            return _of_http(error)
        case ControlFileInvalid():
            return Refusal(400, "control_file_invalid", "The control file has faults.", error.problems)
        case DigestMismatch():
            return Refusal(400, "digest_mismatch", f"Nothing was stored: {error}.")
        case TooLarge():
            return Refusal(413, "too_large", f"The upload is {error}.")
        case SpoolFull():
            return Refusal(507, "spool_full", "The spool has no room for this; nothing was stored.")
        case SpoolUnavailable():
            return Refusal(503, "spool_unavailable", "The spool cannot be reached; try again.", headers=retry)
        case DigestUnknown():
            return Refusal(410, "no_longer_kept", "The bytes of this are no longer kept.")
        case UploadUnknown():
            return Refusal(404, "upload_unknown", f"Upload not found: {error}.")
        case UploadHeld():
            return Refusal(423, "upload_held", "Another request is writing to this upload; try again.", headers={"Retry-After": "1"})
        case TargetUnavailable():
            return Refusal(503, "target_unavailable", "The target database cannot be reached; try again.", headers=retry)
        case OperationalError():
            return Refusal(503, "catalog_unavailable", "The catalog cannot be reached; try again.", headers=retry)
    return None


def _of_http(error: HTTPException) -> Refusal:
    """Put what Flask and Werkzeug raise into our words."""
    status = error.code or 500
    if isinstance(error, RequestEntityTooLarge):
        return Refusal(413, "too_large", "The body is larger than is allowed here.")
    headers = {"Allow": ", ".join(sorted(error.valid_methods or ()))} if isinstance(error, MethodNotAllowed) else {}
    title = _TITLES.get(status, error.name)
    return Refusal(status, title.lower().replace(" ", "_"), f"{title}: {request.method} {request.path[:200]}", headers=headers)
