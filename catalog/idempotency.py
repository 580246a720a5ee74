"""Idempotency keys: the first reply to a request is remembered and given again to its repetitions.

Only replies that came of doing something are kept: a request that was refused for its own faults is abandoned, so that it may be sent
again, mended, under the same key.

A request may break off after its work and before its reply is kept: its process dies, or its machine loses the catalog. So a batch is noted
with its key in the very transaction that makes it, and whoever repeats the request gets that batch.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Engine, and_, case, delete, or_, select, update

import clock
from catalog.database import insert, writing
from catalog.tables import idempotency
from errors import LadingError

KEPT_HOURS = 24
ABANDONED_AFTER = timedelta(seconds=60)  # an in-flight entry this old belongs to a process that died


class TakenOver(LadingError):
    """A repetition has taken this request for dead and does its work."""


@dataclass(frozen=True, slots=True)
class Held:
    """A key in the hands of one request."""

    key_id: str
    idem_key: str
    ticket: str


@dataclass(frozen=True, slots=True)
class Fresh:
    """Nobody has used this key: go on, then call complete or abandon with the ticket."""

    ticket: str


@dataclass(frozen=True, slots=True)
class Replay:
    """The request was answered before: give this reply again."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Conflict:
    """The key belongs to another request."""


@dataclass(frozen=True, slots=True)
class InFlight:
    """The same request is being answered at this moment."""


def begin(
    engine: Engine, key_id: str, idem_key: str, fingerprint: str, *, kept_hours: float = KEPT_HOURS
) -> Fresh | Replay | Conflict | InFlight:
    """Take an idempotency key for a request with this fingerprint (a digest of method, path and body), or say who has it.

    Keys of different API keys are independent.
    """
    now, ticket = clock.now(), secrets.token_hex(8)
    entry = and_(idempotency.c.key_id == key_id, idempotency.c.idem_key == idem_key)
    is_old = idempotency.c.started_at <= now - timedelta(hours=kept_hours)
    is_dead = and_(idempotency.c.status.is_(None), idempotency.c.started_at <= now - ABANDONED_AFTER)
    is_over = or_(is_old, and_(is_dead, or_(idempotency.c.batch_id.is_(None), idempotency.c.fingerprint == fingerprint)))
    row: dict[str, Any] = {"key_id": key_id, "idem_key": idem_key, "fingerprint": fingerprint, "ticket": ticket, "started_at": now}
    taken = {"fingerprint": fingerprint, "ticket": ticket, "started_at": now, "status": None, "headers": None, "body": None}
    taken["batch_id"] = case((is_old, None), else_=idempotency.c.batch_id)
    with writing(engine) as connection:
        take = insert(connection, idempotency).on_conflict_do_update(index_elements=["key_id", "idem_key"], set_=taken, where=is_over)
        if connection.execute(take, row).rowcount:
            return Fresh(ticket)
        held = connection.execute(select(idempotency).where(entry)).one_or_none()
    if held is None:  # abandoned since the line above: the next try takes it
        return InFlight()
    if held.fingerprint != fingerprint:
        return Conflict()
    return InFlight() if held.status is None else Replay(held.status, held.headers, held.body)


def made_once(connection: Connection, held: Held | None, make: Callable[[], int]) -> int:
    """Return the id of the batch that this request makes, in the transaction that makes it, or that an earlier try of it has made.

    Raises TakenOver where a repetition does the work by now: then nothing may be made.
    """
    if held is None:
        return make()
    mine = _held(held.key_id, held.idem_key, held.ticket)
    found = connection.execute(select(idempotency.c.batch_id).where(mine).with_for_update()).one_or_none()
    if found is None:
        raise TakenOver(f"the request with the key {held.idem_key!r} took too long, and is answered to a repetition")
    if found.batch_id is not None:
        return int(found.batch_id)
    batch_id = make()
    connection.execute(update(idempotency).where(mine).values(batch_id=batch_id))
    return batch_id


def complete(engine: Engine, key_id: str, idem_key: str, ticket: str, *, status: int, headers: Mapping[str, str], body: bytes) -> bool:
    """Remember the reply. False: the entry was taken over in the meantime, because this took too long."""
    with writing(engine) as connection:
        done = update(idempotency).where(_held(key_id, idem_key, ticket)).values(status=status, headers=dict(headers), body=body)
        return bool(connection.execute(done).rowcount)


def abandon(engine: Engine, key_id: str, idem_key: str, ticket: str) -> None:
    """Free the key again: the request was refused, and nothing came of it. Where it has made a batch, only a repetition gets the key."""
    mine = and_(_held(key_id, idem_key, ticket), idempotency.c.status.is_(None))
    with writing(engine) as connection:
        connection.execute(delete(idempotency).where(mine, idempotency.c.batch_id.is_(None)))
        connection.execute(update(idempotency).where(mine).values(started_at=clock.now() - ABANDONED_AFTER))


def forget_old(engine: Engine, *, kept_hours: float = KEPT_HOURS) -> int:
    """Delete the entries older than they are kept; return how many. For the sweep."""
    with writing(engine) as connection:
        old = idempotency.c.started_at <= clock.now() - timedelta(hours=kept_hours)
        return connection.execute(delete(idempotency).where(old)).rowcount


def _held(key_id: str, idem_key: str, ticket: str) -> Any:
    return and_(idempotency.c.key_id == key_id, idempotency.c.idem_key == idem_key, idempotency.c.ticket == ticket)
