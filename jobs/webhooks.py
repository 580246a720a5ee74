"""What webhooks are told of batches, and one try to tell them."""

from __future__ import annotations

import http.client
import json
import logging
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine

import clock
from catalog import notices, webhooks
from catalog.batches import Batch
from catalog.notices import Delivery, Kind, NewDelivery
from catalog.webhooks import Webhook
from errors import LadingError
from jobs.posting import Answer, NotAllowed, Reach, post, signed
from jobs.report import link_of
from schemas.replies import BatchReply
from settings import Settings

DISABLED_AFTER_SECONDS = 24 * 3600.0  # without anything taken, once it has failed
MOST_RETRY_AFTER_SECONDS = 6 * 3600

log = logging.getLogger(__name__)


class NotTaken(LadingError):
    """The receiver did not take it this time; it may at the next, which `after_seconds` may put off."""

    def __init__(self, message: str, status: int | None = None, after_seconds: float = 0.0) -> None:
        self.status, self.after_seconds = status, after_seconds
        super().__init__(message)


class Undeliverable(LadingError):
    """The receiver will never take it: no other try is made."""

    def __init__(self, message: str, status: int | None = None) -> None:
        self.status = status
        super().__init__(message)


def told_of_end(catalog: Engine, settings: Settings, batch: Batch, event: str) -> list[NewDelivery]:
    """Return what webhooks are to be told of the end of a batch's run."""
    listening = webhooks.listening(catalog, batch, (event,))
    if not listening or batch.run is None:
        return []
    body = body_of(event, batch.completed_at or clock.now(), BatchReply().dump(batch) | {"link": link_of(settings, batch.id)})
    return [
        NewDelivery(
            id=notices.id_of("webhook", hook.id, batch.id, batch.run.number, event), kind=Kind.WEBHOOK, recipient=hook.id, event=event,
            batch_id=batch.id, run=batch.run.number, body=body,
        )
        for hook in listening
    ]  # fmt: skip


def body_of(event: str, at: datetime, data: dict[str, Any]) -> str:
    """Return the body of a request, as Standard Webhooks suggest it."""
    return json.dumps({"type": event, "timestamp": at.isoformat().replace("+00:00", "Z"), "data": data}, ensure_ascii=False)


def tell(catalog: Engine, settings: Settings, held: Delivery) -> int:
    """Make one try; return the status of the reply. Raises NotTaken, or Undeliverable."""
    hook = webhooks.get(catalog, held.recipient)
    if hook is None or not hook.is_enabled or held.body is None:
        raise Undeliverable("the webhook is disabled or deleted")
    if not webhooks.is_vouched_for(catalog, hook):
        webhooks.disable(catalog, hook.id, "its key was revoked, or has expired")
        raise Undeliverable("the webhook's key was revoked, or has expired")
    body = held.body.encode()
    patience = settings.event_patience_seconds if held.is_ordered else DISABLED_AFTER_SECONDS
    try:
        answer = post(hook.url, body, signed(held.id, body, hook.secrets), reach_of(settings))
    except NotAllowed as refusal:
        raise _failed(catalog, hook, patience, str(refusal)) from refusal
    except (OSError, http.client.HTTPException) as error:
        # Not its words: they may tell of addresses and certificates inside the network.
        raise _failed(catalog, hook, patience, f"no reply ({type(error).__name__})") from error
    if 200 <= answer.status < 300:
        webhooks.note_success(catalog, hook)
        return answer.status
    raise _refused(catalog, hook, patience, answer)


def reach_of(settings: Settings) -> Reach:
    """Return where webhooks may lead."""
    return Reach(settings.webhook_ports, settings.webhook_networks or ())


def _refused(catalog: Engine, hook: Webhook, patience_seconds: float, answer: Answer) -> LadingError:
    if answer.status == 410:
        webhooks.disable(catalog, hook.id, "the receiver answered 410 Gone")
        return Undeliverable("the receiver answered 410 Gone", 410)
    pause = min(answer.retry_after_seconds, MOST_RETRY_AFTER_SECONDS) if answer.status in (429, 503) else 0.0
    return _failed(catalog, hook, patience_seconds, f"the receiver answered {answer.status}", answer.status, pause)


def _failed(
    catalog: Engine, hook: Webhook, patience_seconds: float, message: str, status: int | None = None, after_seconds: float = 0.0
) -> LadingError:
    """Note a failure; a webhook that has taken nothing for too long is disabled."""
    since = webhooks.note_failure(catalog, hook)
    if clock.now() - since > timedelta(seconds=patience_seconds):
        reason = f"it has taken nothing since {since.isoformat(timespec='seconds')}: {message}"
        webhooks.disable(catalog, hook.id, reason)
        log.error("the webhook %s is disabled: %s", hook.id, reason)
        return Undeliverable(message, status)
    return NotTaken(message, status, after_seconds)
