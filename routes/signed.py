"""Addresses that are allowed to do one thing: whoever has one may send one file, in the name of the key that asked for it, for a time."""

from __future__ import annotations

from flask import g
from itsdangerous import BadData, URLSafeTimedSerializer

from catalog import keys
from catalog.handles import Handle
from errors import Refusal
from routes import parts
from routes.auth import caller
from routes.handle import take
from routes.limits import refuse_elsewhere


def token_for(handle: str, name: str) -> str:
    """Return what allows its bearer to send the file of this handle of the caller's, until a temporary file's time is over."""
    return _signer().dumps([caller().id, handle, name])


def take_signed(token: str) -> Handle | int:
    """Take the request's body as the file that a token was made for (see routes.handle.take).

    Refusal 401 for a token that is not ours, or too old, or whose key is valid no more.
    """
    try:
        key_id, handle, name = _signer().loads(token, max_age=parts().settings.temporary_minutes * 60)
    except BadData:
        raise _refused() from None
    key = keys.find(parts().catalog, key_id)
    if key is None or not key.can("import"):
        raise _refused()
    g.key = refuse_elsewhere(key)
    return take(handle, name=name)


def _signer() -> URLSafeTimedSerializer:
    secret = parts().settings.secret_key
    if secret is None:
        raise Refusal(409, "secret_key_missing", "Nothing can be signed here: the service has no SECRET_KEY.")
    return URLSafeTimedSerializer(secret, salt="upload")


def _refused() -> Refusal:
    return Refusal(401, "not_authenticated", "This address is not valid, or not any more.")
