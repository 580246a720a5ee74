"""Notices: who is told of the ends of batches, by mail or webhook, and what became of each delivery."""

from __future__ import annotations

from collections.abc import Sequence

from flask import Blueprint, redirect, url_for
from flask.typing import ResponseReturnValue
from marshmallow import fields as kinds, validate

from catalog import addresses as defaults, controls, notices, webhooks
from catalog.notices import Progress
from errors import Refusal
from pages import forms
from pages.looks import page
from pages.session import signed_in
from routes import addresses, parts
from routes.auth import caller
from routes.webhooks import make, visible_webhook
from schemas.addresses import AddressesRequest, TestMailRequest
from schemas.requests import Request
from schemas.webhooks import WebhookRequest

routes = Blueprint("notices", __name__, url_prefix="/notices")

_ROWS = 50
_STATES = tuple(state.value for state in Progress)


class NoticesQuery(Request):
    """Which deliveries are wanted."""

    state = kinds.String(load_default=None, validate=validate.OneOf(_STATES))
    before = kinds.Integer(load_default=None, validate=validate.Range(min=1, max=2**53))


@routes.get("")
@signed_in("admin")
def index() -> ResponseReturnValue:
    """Show the webhooks, and the deliveries of mails and requests, newest first."""
    return _page(forms.of_query(NoticesQuery()), secret=None)


@routes.post("")
@signed_in("admin")
def create() -> ResponseReturnValue:
    """Make a webhook, and show its secret this once."""
    made = make(forms.of_form(WebhookRequest()))
    return _page({"state": None, "before": None}, secret=made.secrets[0])


@routes.post("/addresses")
@signed_in("admin")
def set_addresses() -> ResponseReturnValue:
    """Set who is told by mail of batches that name nobody."""
    addresses.put(forms.of_form(AddressesRequest()))
    return redirect(url_for("pages.notices.index"), 303)


@routes.post("/addresses/test")
@signed_in("admin")
def send_test_mail() -> ResponseReturnValue:
    """Send a mail that says only that mails arrive, and tell what the mail server said."""
    to = forms.of_form(TestMailRequest())["to"]
    addresses.try_to_send(to)
    return _page({"state": None, "before": None}, secret=None, sent=to)


@routes.post("/<webhook>/remove")
@signed_in("admin")
def remove(webhook: str) -> ResponseReturnValue:
    """Delete a webhook; what waits for it is dropped."""
    webhooks.remove(parts().catalog, visible_webhook(webhook).id)
    return redirect(url_for("pages.notices.index"), 303)


@routes.post("/<webhook>/enable")
@signed_in("admin")
def enable(webhook: str) -> ResponseReturnValue:
    """Tell a webhook again that was disabled."""
    webhooks.enable(parts().catalog, visible_webhook(webhook).id)
    return redirect(url_for("pages.notices.index"), 303)


@routes.post("/deliveries/<delivery>/again")
@signed_in("admin")
def again(delivery: str) -> ResponseReturnValue:
    """Deliver once more what was delivered, given up or dropped."""
    if not notices.again(parts().catalog, delivery):
        raise Refusal(409, "not_again", "It waits still, its body is no longer kept, or there is no such delivery.")
    return redirect(url_for("pages.notices.index"), 303)


def _page(query: dict[str, object], secret: str | None, sent: Sequence[str] = ()) -> ResponseReturnValue:
    state = Progress(str(query["state"])) if query["state"] else None
    before = int(str(query["before"])) if query["before"] else None
    found = notices.listed(parts().catalog, state=state, before=before, limit=_ROWS + 1)
    following = found[_ROWS - 1].place if len(found) > _ROWS else None
    hooks = webhooks.listed(parts().catalog, caller())
    is_mailing = parts().settings.smtp_url is not None
    return page(
        "notices.html", hooks=hooks, found=found[:_ROWS], following=following, states=_STATES, state=state, secret=secret,
        is_mailing=is_mailing, waiting=Progress.WAITING, sent=sent, told=defaults.listed(parts().catalog),
        named=[name.name for name in controls.names(parts().catalog)],
    )  # fmt: skip
