"""Webhooks: who wants to be told of batches and records by a request, with the secrets that sign it.

A webhook hears of the batches that the key which made it may see, as long as that key is valid.
"""

import base64
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, and_, delete, select, update

import clock
from catalog.database import reading, writing
from catalog.keys import Key, _key
from catalog.notices import Progress
from catalog.states import Batch
from catalog.tables import control_moves, deliveries, keys, webhooks
from errors import Refusal

BATCH_EVENTS = ("batch.completed", "batch.failed", "batch.cancelled")
RECORD_EVENTS = ("record.created", "record.updated", "record.deleted")
EVENTS = (*BATCH_EVENTS, *RECORD_EVENTS)
MOST = 20  # webhooks a key: each end of a batch is told to all of them
OVERLAP_HOURS = 24  # how long an old secret goes on signing beside the new one


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook."""

    id: str
    key_id: str
    url: str
    comment: str
    events: tuple[str, ...]
    controls: tuple[str, ...]  # digests and names of the only control files that matter; (): all do
    entities: tuple[str, ...]  # the only ones whose records matter; (): all do
    created_at: datetime
    is_enabled: bool
    status_msg: str  # why it is not
    failing_since: datetime | None
    secrets: tuple[str, ...] = field(repr=False)  # that sign now, the newest first


def create(
    engine: Engine, key_id: str, url: str, *, events: Sequence[str] = BATCH_EVENTS, controls: Sequence[str] = (),
    entities: Sequence[str] = (), comment: str = "",
) -> Webhook:  # fmt: skip
    """Make a webhook. Refusal 409 `too_many_webhooks` where the key has as many as it may."""
    row: dict[str, Any] = {
        "id": f"wh_{secrets.token_hex(12)}", "key_id": key_id, "url": url, "comment": comment, "events": list(events),
        "controls": list(controls), "entities": list(entities), "secret": _new_secret(), "created_at": clock.now(), "is_enabled": True,
        "status_msg": "",
    }  # fmt: skip
    with writing(engine) as connection:
        connection.execute(select(keys.c.id).where(keys.c.id == key_id).with_for_update())
        if len(connection.execute(select(webhooks.c.id).where(webhooks.c.key_id == key_id)).all()) >= MOST:
            raise Refusal(409, "too_many_webhooks", f"This key has {MOST} webhooks already; delete one.")
        connection.execute(webhooks.insert(), row)
        return _webhook(connection.execute(select(webhooks).where(webhooks.c.id == row["id"])).one())


def _new_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def get(engine: Engine, webhook_id: str, key: Key | None = None) -> Webhook | None:
    """Return a webhook; None where there is none, or `key` may not see it."""
    with reading(engine) as connection:
        row = connection.execute(select(webhooks).where(webhooks.c.id == webhook_id)).one_or_none()
    return None if row is None or (key is not None and not can_manage(key, row.key_id)) else _webhook(row)


def can_manage(key: Key, key_id: str) -> bool:
    """Tell whether a key may see and change a webhook that the key `key_id` made."""
    return key_id == key.id or key.can("admin")


def listed(engine: Engine, key: Key) -> list[Webhook]:
    """Return the webhooks that a key may see, oldest first."""
    query = select(webhooks).order_by(webhooks.c.created_at, webhooks.c.id)
    if not key.can("admin"):
        query = query.where(webhooks.c.key_id == key.id)
    with reading(engine) as connection:
        return [_webhook(row) for row in connection.execute(query)]


def remove(engine: Engine, webhook_id: str) -> None:
    """Delete a webhook; what waits for it is dropped."""
    with writing(engine) as connection:
        connection.execute(delete(webhooks).where(webhooks.c.id == webhook_id))
        _drop(connection, webhook_id, "the webhook was deleted")


def enable(engine: Engine, webhook_id: str) -> None:
    """Let a webhook be told again, of what happens from now on."""
    with writing(engine) as connection:
        again = {"is_enabled": True, "status_msg": "", "failing_since": None}
        connection.execute(update(webhooks).where(webhooks.c.id == webhook_id).values(again))


def disable(engine: Engine, webhook_id: str, reason: str) -> None:
    """Tell a webhook nothing more; what waits for it is dropped, so that it holds nothing up."""
    with writing(engine) as connection:
        connection.execute(update(webhooks).where(webhooks.c.id == webhook_id).values(is_enabled=False, status_msg=reason))
        _drop(connection, webhook_id, reason)


def _drop(connection: Connection, webhook_id: str, reason: str) -> None:
    waiting = and_(deliveries.c.recipient == webhook_id, deliveries.c.state == Progress.WAITING)
    # Of records' events there may be very many: none is kept that nobody waits for.
    connection.execute(update(deliveries).where(waiting, deliveries.c.is_ordered).values(body=None))
    connection.execute(update(deliveries).where(waiting).values(state=Progress.DROPPED, message=reason, done_at=clock.now()))


def change_secret(engine: Engine, webhook_id: str) -> str:
    """Give a webhook a new secret and return it; the old one signs beside it for a day, while the receiver is told of the new."""
    secret = _new_secret()
    until = clock.now() + timedelta(hours=OVERLAP_HOURS)
    with writing(engine) as connection:
        changed = {"secret": secret, "old_secret": webhooks.c.secret, "old_secret_until": until}
        connection.execute(update(webhooks).where(webhooks.c.id == webhook_id).values(changed))
    return secret


def is_vouched_for(engine: Engine, known: Webhook) -> bool:
    """Tell whether the key that made a webhook is valid still."""
    with reading(engine) as connection:
        row = connection.execute(select(keys).where(keys.c.id == known.key_id)).one_or_none()
    return row is not None and _key(row).is_valid(clock.now())


def note_success(engine: Engine, known: Webhook) -> None:
    """Note that a webhook has taken something."""
    if known.failing_since is not None:
        with writing(engine) as connection:
            connection.execute(update(webhooks).where(webhooks.c.id == known.id).values(failing_since=None))


def note_failure(engine: Engine, known: Webhook) -> datetime:
    """Note that a webhook has not taken something; return since when it takes nothing."""
    now = clock.now()
    if known.failing_since is None:
        with writing(engine) as connection:
            first = update(webhooks).where(webhooks.c.id == known.id, webhooks.c.failing_since.is_(None))
            connection.execute(first.values(failing_since=now))
    return known.failing_since or now


# Who hears of what ------------------------------------------------------------------------------------------------------
def listening(engine: Engine, batch: Batch, events: Collection[str]) -> list[Webhook]:
    """Return the webhooks that want to hear of one of these events of a batch, and may."""
    with reading(engine) as connection:
        rows = connection.execute(select(webhooks).where(webhooks.c.is_enabled).order_by(webhooks.c.created_at)).all()
        makers = {row.id: _key(row) for row in connection.execute(select(keys).where(keys.c.id.in_({row.key_id for row in rows})))}
        names = _names(connection, batch.control) if any(row.controls for row in rows) else set()
    now = clock.now()
    return [
        _webhook(row)
        for row in rows
        if (maker := makers.get(row.key_id)) is not None
        and maker.is_valid(now)
        and maker.can_see(batch.key_id)
        and not set(row.events).isdisjoint(events)
        and (not row.controls or not names.isdisjoint(row.controls))
    ]


def _names(connection: Connection, digest: str) -> set[str]:
    """Return the digest of a control file and all names that ever pointed to it: one may have moved on since the batch was made."""
    return {digest, *connection.scalars(select(control_moves.c.name).where(control_moves.c.digest == digest))}


def _webhook(row: Any) -> Webhook:
    is_old_good = row.old_secret is not None and row.old_secret_until > clock.now()
    return Webhook(
        id=row.id, key_id=row.key_id, url=row.url, comment=row.comment, events=tuple(row.events), controls=tuple(row.controls),
        entities=tuple(row.entities), created_at=row.created_at, is_enabled=row.is_enabled, status_msg=row.status_msg,
        failing_since=row.failing_since, secrets=(row.secret, row.old_secret) if is_old_good else (row.secret,),
    )  # fmt: skip
