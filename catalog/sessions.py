"""Who is signed in to the pages: sessions and the one-time codes that begin one, each kept under the digest of its secret.

A session is a key's, so it ends when the key does; it also ends some hours after its beginning, and when it was not used for a while.
"""

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, Select, delete, select, update

import clock
from catalog.database import reading, writing
from catalog.keys import Key, _key
from catalog.tables import keys, sessions

LASTS = timedelta(hours=12)
CODE_LASTS = timedelta(minutes=15)
_USE_NOTED_EVERY = timedelta(minutes=1)  # a write for every page would be dear


def begin(engine: Engine, key_id: str) -> str:
    """Begin a session of this key, and return its token: the only time that it is known."""
    with writing(engine) as connection:
        return _add(connection, key_id, LASTS)


def make_code(engine: Engine, key_id: str) -> str:
    """Make a code that begins one session of this key, within 15 minutes."""
    with writing(engine) as connection:
        return _add(connection, key_id, CODE_LASTS, is_code=True)


def _add(connection: Connection, key_id: str, lasts: timedelta, is_code: bool = False) -> str:
    now, token = clock.now(), secrets.token_urlsafe(32)
    connection.execute(delete(sessions).where(sessions.c.expires_at <= now))
    row = {"digest": _digest(token), "key_id": key_id, "is_code": is_code, "created_at": now, "used_at": now, "expires_at": now + lasts}
    connection.execute(sessions.insert(), row)
    return token


def redeem(engine: Engine, code: str) -> str | None:
    """Begin the session that a code stands for; None where it was used before, is too old, or never was."""
    this = (sessions.c.digest == _digest(code)) & sessions.c.is_code & (sessions.c.expires_at > clock.now())
    with writing(engine) as connection:
        key_id = connection.scalar(delete(sessions).where(this).returning(sessions.c.key_id))
        return None if key_id is None else _add(connection, key_id, LASTS)


def find(engine: Engine, token: str, idle: timedelta, *, is_use: bool = True) -> Key | None:
    """Return the key whose session this is; None where it is over, or was not used for `idle`.

    What a page asks for by itself is no use: it would keep a session alive before which nobody sits.
    """
    now, digest = clock.now(), _digest(token)
    with reading(engine) as connection:
        row = connection.execute(_of_session(digest)).one_or_none()
    if row is None or row.session_expires_at <= now or row.session_used_at + idle <= now:
        return None
    key = _key(row)
    if not key.is_valid(now):
        return None
    if is_use and row.session_used_at + _USE_NOTED_EVERY <= now:
        _note_use(engine, digest, now)
    return key


def _of_session(digest: str) -> Select[Any]:
    times = (sessions.c[name].label(f"session_{name}") for name in ("expires_at", "used_at"))
    return select(*keys.c, *times).join_from(sessions, keys).where(sessions.c.digest == digest, ~sessions.c.is_code)


def _note_use(engine: Engine, digest: str, now: datetime) -> None:
    with writing(engine) as connection:
        connection.execute(update(sessions).where(sessions.c.digest == digest).values(used_at=now))


def end(engine: Engine, token: str) -> None:
    """End a session; one that is over already is left as it is."""
    with writing(engine) as connection:
        connection.execute(delete(sessions).where(sessions.c.digest == _digest(token)))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
