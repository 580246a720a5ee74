"""Honour `Idempotency-Key`: the same key and the same request give the first reply again, and do the work once.

Replies of 200 to 299 are kept; a refused request may be mended and sent again under its key.
"""

import functools
import hashlib
import json
import re
from collections.abc import Callable, Iterable
from typing import ParamSpec, cast

from flask import Response, g, make_response, request
from flask.typing import ResponseReturnValue

from catalog import idempotency
from errors import Refusal
from routes import parts
from routes.auth import caller
from routes.fields import FORMS, is_json, read_small_body

P = ParamSpec("P")

_SANE_KEY = re.compile(r"[!-~]([ -~]{0,253}[!-~])?", re.ASCII)
_KEPT_HEADERS = ("Content-Type", "Queue-Delayed", "Import-Exit", "Location", "Upload-Expires", "OnKey-Resource-Id")


def idempotent(view: Callable[P, ResponseReturnValue]) -> Callable[P, ResponseReturnValue]:
    """Honour the header on a POST whose body is small enough to be read first; put it under `requires`."""

    @functools.wraps(view)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> ResponseReturnValue:
        if "Idempotency-Key" not in request.headers:
            return view(*args, **kwargs)
        return once(_small_body(), lambda: view(*args, **kwargs))

    return wrapped


def once(body: Iterable[str], work: Callable[[], ResponseReturnValue]) -> ResponseReturnValue:
    """Do the work of a POST, or give the first reply again if its `Idempotency-Key` was used for the same method, path and body.

    `body` is whatever tells two bodies apart, in a fixed order. An upload calls this itself, with its fields and the digest of what it
    received, before it commits anything: nothing cheaper tells two uploads of one length apart.
    """
    sent = request.headers.get("Idempotency-Key")
    if sent is None:
        return work()
    if not _SANE_KEY.fullmatch(sent):
        raise Refusal(400, "idempotency_key_invalid", "An Idempotency-Key has 1 to 255 printable ASCII characters.")
    fingerprint = hashlib.sha256(json.dumps([request.method, request.path, *body]).encode()).hexdigest()
    return _begun(sent, fingerprint, work)


def _begun(sent: str, fingerprint: str, work: Callable[[], ResponseReturnValue]) -> ResponseReturnValue:
    """Take the key for this request and do the work, or answer for the request that has it."""
    catalog, key_id = parts().catalog, caller().id
    begun = idempotency.begin(catalog, key_id, sent, fingerprint, kept_hours=parts().settings.idempotency_hours)
    if isinstance(begun, idempotency.Replay):
        return Response(begun.body, begun.status, {**begun.headers, "Idempotent-Replayed": "true"})
    if isinstance(begun, idempotency.Conflict):
        raise Refusal(422, "idempotency_key_reused", "This Idempotency-Key was used for another request.")
    if isinstance(begun, idempotency.InFlight):
        raise _in_flight()
    is_done = False
    g.idempotency = idempotency.Held(key_id, sent, begun.ticket)
    try:
        reply = make_response(work())
        if 200 <= reply.status_code < 300:
            kept = {name: reply.headers[name] for name in _KEPT_HEADERS if name in reply.headers}
            idempotency.complete(catalog, key_id, sent, begun.ticket, status=reply.status_code, headers=kept, body=reply.get_data())
            is_done = True
        return reply
    except idempotency.TakenOver:
        raise _in_flight() from None
    finally:
        if not is_done:
            idempotency.abandon(catalog, key_id, sent, begun.ticket)


def held() -> idempotency.Held | None:
    """Return the key that the request holds while its work is done, for what it makes."""
    return cast("idempotency.Held | None", g.get("idempotency"))


def _in_flight() -> Refusal:
    said = "The first request with this Idempotency-Key is still being answered."
    return Refusal(409, "in_flight", said, headers={"Retry-After": "1"})


def _small_body() -> list[str]:
    """Return what tells one small form or JSON object from another, whatever the order of its fields and its boundary."""
    read_small_body()
    if request.mimetype not in FORMS or is_json():
        return [request.get_data().decode("utf-8", "replace")]
    return [text for pair in sorted(request.form.items(multi=True)) for text in pair]
