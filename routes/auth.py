"""Who asks, what they may do, and what they may see."""

import functools
import re
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from flask import g, request
from redis.exceptions import RedisError

from catalog import batches, keys
from catalog.batches import Batch, Mode
from catalog.keys import Key
from errors import Refusal
from routes import parts
from routes.limits import client_address, refuse_elsewhere

P = ParamSpec("P")
R = TypeVar("R")

_FAILURES_ALLOWED = 50
_FAILURES_WINDOW_SECONDS = 300
_BATCH_ID = re.compile(r"[1-9][0-9]{0,15}", re.ASCII)
_TOKEN = re.compile(r"\blad_\w", re.ASCII)


def requires(*permissions: str, key_header: str | None = None) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a route run only for a key that has one of these permissions; it may come in `key_header` where there is no Authorization.

    Put it outermost (right under the route's own decorator), so that nothing of the body is read for a caller who may not send it.
    """

    def decorate(view: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(view)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            if "key" not in g:  # A page that calls a route has found out already who asks.
                g.key = verified(_token(key_header))
            if not any(g.key.can(permission) for permission in permissions):
                raise Refusal(403, "permission_missing", f"This key lacks the permission {' or '.join(permissions)}.")
            return view(*args, **kwargs)

        guarded.permissions = permissions  # type: ignore[attr-defined]  # for the API's description
        return guarded

    return decorate


def caller() -> Key:
    """Return the key of this request; only inside a route that `requires` one."""
    key: Key = g.key
    return key


def refuse_keys_in_query() -> None:
    """Refuse a query string that holds what looks like a key: query strings end up in the logs of every machine on the way."""
    if any(_TOKEN.search(value) for values in request.args.lists() for value in [values[0], *values[1]]):
        raise Refusal(
            400, "key_in_query", "A key must not stand in the query string: send it in the Authorization header, and revoke this one."
        )


def verified(token: str | None) -> Key:
    """Return the key that this text is; 401 for any other, 429 where too many came from this address, 403 where it may not be used."""
    key = keys.verify(parts().catalog, token) if token else None
    if key is None:
        count_failure()
        raise Refusal(
            401, "not_authenticated", "A valid key is needed: Authorization: apikey KEY.",
            headers={"WWW-Authenticate": 'apikey realm="lading", Bearer realm="lading", Basic realm="lading", charset="UTF-8"'},
        )  # fmt: skip
    return refuse_elsewhere(key)


def _token(key_header: str | None) -> str | None:
    """Return the key that was sent, whichever of the three ways it came, or in the header that may stand in for them."""
    if key_header and "Authorization" not in request.headers:
        return request.headers.get(key_header)
    sent = request.authorization
    if sent is None:
        return None
    return sent.password if sent.type == "basic" else sent.token if sent.type in ("apikey", "bearer") else None


def count_failure() -> None:
    """Count a failure of this address, and refuse with 429 what comes after too many.

    Only failures are held back: many callers may share an address (a proxy's, an office's), and a good key among them must go on working.
    A key of 256 random bits cannot be found by trying, so what this protects is the catalog; without Redis nothing is counted.
    """
    name = f"lading:failures:{client_address()}"
    try:
        with parts().redis.pipeline() as pipe:
            pipe.incr(name)
            pipe.expire(name, _FAILURES_WINDOW_SECONDS, nx=True)
            failures, _ = pipe.execute()
    except RedisError:
        return
    if failures > _FAILURES_ALLOWED:
        raise Refusal(
            429, "too_many_failures", "Too many requests without a valid key came from this address; wait five minutes.",
            headers={"Retry-After": str(_FAILURES_WINDOW_SECONDS)},
        )  # fmt: skip


def batch_id_of(text: str) -> int:
    """Return the batch identifier that a text spells; 400 for a text that is none."""
    if not _BATCH_ID.fullmatch(text) or int(text) >= 2**53:
        raise Refusal(400, "batch_id_invalid", f"{text[:40]!r} is no batch identifier: a decimal number below 2^53 is expected.")
    g.batch_id = int(text)  # for the log
    return g.batch_id


def visible_batch(text: str, mode: Mode | None = None) -> Batch:
    """Return the batch of this identifier, as its last run (of this mode) left it.

    400 for a text that is no identifier; 404 where there is no such batch, or it is another key's.
    """
    batch_id = batch_id_of(text)
    batch = batches.get(parts().catalog, batch_id, key=caller(), mode=mode)
    if batch is None:
        raise Refusal(404, "batch_unknown", f"There is no batch {batch_id}.")
    return batch
