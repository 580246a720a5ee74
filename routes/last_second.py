"""Replies that may be a second old: a caller who asks more often gets what was said before, and costs next to nothing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import orjson
from redis.exceptions import RedisError

from routes import parts
from routes.auth import caller

_KEPT_MS = 1000


def of_last_second(what: str, look: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], bool]:
    """Return what `look` finds, or what it found within the last second for this key, by whichever process; and whether it is the latter.

    `what` names the thing that is looked at. Without Redis everybody looks anew.
    """
    name = f"lading:said:{caller().id}:{what}"
    redis = parts().redis
    with suppress(RedisError):
        if (said := redis.get(name)) is not None:
            return orjson.loads(said), True
    found = look()
    with suppress(RedisError):
        redis.set(name, orjson.dumps(found), px=_KEPT_MS)
    return found, False
