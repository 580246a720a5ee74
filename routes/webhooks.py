"""Webhooks: made, looked at, enabled, deleted; and what they, and mails, were told of batches."""

from __future__ import annotations

from typing import Any

from flask import Blueprint
from flask.typing import ResponseReturnValue

from catalog import notices, webhooks
from catalog.notices import Delivery, Progress
from catalog.webhooks import Webhook
from errors import Problem, Refusal
from routes import fields, parts, replies
from routes.auth import caller, requires, visible_batch
from routes.described import Reply, described
from routes.idempotency import idempotent
from schemas.requests import NoFields
from schemas.webhooks import (
    DeliveriesQuery,
    DeliveriesReply,
    DeliveryReply,
    SecretReply,
    WebhookMade,
    WebhookReply,
    WebhookRequest,
    WebhooksReply,
    problem_with,
    words,
)

routes = Blueprint("webhooks", __name__, url_prefix="/api")


@routes.post("/webhooks")
@requires("import")
@idempotent
@described(form=WebhookRequest, headers=("Idempotency-Key",), refuses=(409,), replies={200: Reply(WebhookMade)})
def create_webhook() -> ResponseReturnValue:
    """Make a webhook that is told of the batches that the key may see; reply with its id and the secret that signs, shown this once."""
    made = make(fields.of_body(WebhookRequest()))
    return replies.bare(f"{made.id} {made.secrets[0]}", _told(made) | {"secret": made.secrets[0]})


def make(given: dict[str, Any]) -> Webhook:
    """Make a webhook of the caller's from the checked fields of a request."""
    settings = parts().settings
    if problem := problem_with(given["url"], settings.webhook_networks or (), settings.webhook_ports):
        raise Refusal(400, "request_invalid", "A webhook cannot have this address.", [Problem(problem, "url")])
    given |= {name: words(given[name]) for name in ("events", "controls", "entities")}
    return webhooks.create(parts().catalog, caller().id, **given)


@routes.get("/webhooks")
@requires("read")
@described(replies={200: Reply(WebhooksReply)})
def list_webhooks() -> ResponseReturnValue:
    """List the webhooks that the key has made, oldest first; a key with `admin` sees all."""
    found = webhooks.listed(parts().catalog, caller())
    if replies.wants_json():
        return replies.json({"webhooks": [_told(hook) for hook in found]})
    return replies.text("".join(f"{hook.id} {'enabled' if hook.is_enabled else 'disabled'} {hook.url}\n" for hook in found))


@routes.get("/webhooks/<webhook>")
@requires("read")
@described(replies={200: Reply(WebhookReply, types=())})
def get_webhook(webhook: str) -> ResponseReturnValue:
    """Tell what is known of a webhook, but for its secret."""
    return replies.json(_told(visible_webhook(webhook)))


@routes.delete("/webhooks/<webhook>")
@requires("import")
@described(replies={204: Reply(types=())})
def delete_webhook(webhook: str) -> ResponseReturnValue:
    """Delete a webhook; what waits for it is dropped."""
    webhooks.remove(parts().catalog, visible_webhook(webhook).id)
    return replies.text("", 204)


@routes.post("/webhooks/<webhook>/enable")
@requires("import")
@idempotent
@described(form=NoFields, headers=("Idempotency-Key",), replies={200: Reply(WebhookReply)})
def enable_webhook(webhook: str) -> ResponseReturnValue:
    """Tell a webhook again that was disabled, of what happens from now on."""
    fields.of_body(NoFields())
    hook_id = visible_webhook(webhook).id
    webhooks.enable(parts().catalog, hook_id)
    return replies.bare("ENABLED", _told(visible_webhook(hook_id)))


@routes.post("/webhooks/<webhook>/secret")
@requires("import")
@idempotent
@described(form=NoFields, headers=("Idempotency-Key",), replies={200: Reply(SecretReply)})
def change_secret(webhook: str) -> ResponseReturnValue:
    """Give a webhook a new secret and reply with it; for a day requests are signed with the old one too."""
    fields.of_body(NoFields())
    hook = visible_webhook(webhook)
    secret = webhooks.change_secret(parts().catalog, hook.id)
    return replies.bare(secret, {"id": hook.id, "secret": secret})


@routes.get("/webhooks/<webhook>/deliveries")
@requires("read")
@described(query=DeliveriesQuery, replies={200: Reply(DeliveriesReply, says=("Next-Cursor",))})
def list_webhook_deliveries(webhook: str) -> ResponseReturnValue:
    """List what a webhook was told, or is to be told, newest first."""
    return _page(recipient=visible_webhook(webhook).id)


@routes.get("/batch/<batch>/deliveries")
@requires("read")
@described(query=DeliveriesQuery, replies={200: Reply(DeliveriesReply, says=("Next-Cursor",))})
def list_batch_deliveries(batch: str) -> ResponseReturnValue:
    """List the mails and requests about a batch, newest first."""
    return _page(batch_id=visible_batch(batch).id)


@routes.post("/webhooks/<webhook>/deliveries/<delivery>/retry")
@requires("import")
@idempotent
@described(form=NoFields, headers=("Idempotency-Key",), refuses=(409,), replies={200: Reply(DeliveryReply)})
def retry_delivery(webhook: str, delivery: str) -> ResponseReturnValue:
    """Tell a webhook anew what it was told before, or was not: under the same `webhook-id`."""
    fields.of_body(NoFields())
    known = _delivery(visible_webhook(webhook), delivery)
    if not notices.again(parts().catalog, known.id):
        raise Refusal(409, "not_again", f"Delivery {known.id} is {known.state}: it waits still, or its body is no longer kept.")
    return replies.bare("WAITING", _shown(_delivery(visible_webhook(webhook), delivery)))


def visible_webhook(webhook_id: str) -> Webhook:
    """Return a webhook; 404 where there is none, or it is another key's."""
    hook = webhooks.get(parts().catalog, webhook_id, caller())
    if hook is None:
        raise Refusal(404, "webhook_unknown", f"There is no webhook {webhook_id[:80]!r}.")
    return hook


def _delivery(hook: Webhook, delivery_id: str) -> Delivery:
    known = notices.get(parts().catalog, delivery_id)
    if known is None or known.recipient != hook.id:
        raise Refusal(404, "delivery_unknown", f"There is no delivery {delivery_id[:80]!r}.")
    return known


def _page(**which: Any) -> ResponseReturnValue:
    query = fields.of_query(DeliveriesQuery())
    state = Progress(query["state"]) if query["state"] else None
    found = notices.listed(parts().catalog, state=state, before=query["cursor"], limit=query["limit"] + 1, **which)
    page = found[: query["limit"]]
    following = page[-1].place if len(found) > len(page) else None
    if replies.wants_json():
        return replies.json({"deliveries": [_shown(one) for one in page], "next": following})
    reply = replies.text("".join(f"{one.id} {one.state} {one.tries} {one.event} {one.batch_id} {one.recipient}\n" for one in page))
    if following is not None:
        reply.headers["Next-Cursor"] = str(following)
    return reply


def _told(hook: Webhook) -> dict[str, Any]:
    told: dict[str, Any] = WebhookReply().dump(hook)
    return told


def _shown(delivery: Delivery) -> dict[str, Any]:
    shown: dict[str, Any] = DeliveryReply().dump(delivery)
    return shown | ({} if delivery.state is Progress.WAITING else {"next_at": None})
