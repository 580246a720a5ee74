"""Mail addresses that are told of batches which name none; and a mail that tries whether any would arrive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flask import Blueprint
from flask.typing import ResponseReturnValue

from catalog import addresses, controls
from errors import Refusal
from routes import fields, parts, replies
from routes.auth import caller, requires
from routes.described import Reply, described
from routes.fields import refuse_query
from routes.idempotency import idempotent
from schemas.addresses import AddressesReply, AddressesRequest, AddressesSet, DefaultsReply, TestMailReply, TestMailRequest

routes = Blueprint("addresses", __name__, url_prefix="/api")


@routes.get("/addresses")
@requires("admin")
@described(replies={200: Reply(AddressesReply)})
def list_addresses() -> ResponseReturnValue:
    """List the mail addresses for batches that name none: a line each of control file, those told of success, those told of failure."""
    refuse_query()
    found = addresses.listed(parts().catalog)
    if replies.wants_json():
        return replies.json({"addresses": DefaultsReply(many=True).dump(found)})
    return replies.text("".join(f"{one.control or '*'}\t{','.join(one.success)}\t{','.join(one.failure)}\n" for one in found))


@routes.post("/addresses")
@requires("admin")
@idempotent
@described(form=AddressesRequest, headers=("Idempotency-Key",), refuses=(404,), replies={200: Reply(AddressesSet)})
def set_addresses() -> ResponseReturnValue:
    """Set who is told by mail of batches that name no addresses; without any address, nobody is."""
    given = fields.of_body(AddressesRequest())
    put(given)
    state = "SET" if given["success"] or given["failure"] else "REMOVED"
    return replies.bare(state, {"control": given["control"], "state": state})


def put(given: dict[str, Any]) -> None:
    """Do so with the checked fields of a request; 404 for a name that no control file has, or had."""
    name = given["control"]
    if name and (given["success"] or given["failure"]) and not controls.versions(parts().catalog, name):
        raise Refusal(404, "control_unknown", f"No control file has the name {name[:200]}.")
    addresses.put(parts().catalog, name, given["success"], given["failure"], key_id=caller().id)


@routes.post("/addresses/test")
@requires("admin")
@idempotent
@described(form=TestMailRequest, headers=("Idempotency-Key",), refuses=(409, 422), replies={200: Reply(TestMailReply)})
def send_test_mail() -> ResponseReturnValue:
    """Send a mail that says no more than that mails arrive; reply once the mail server has taken it, or with what it says."""
    try_to_send(fields.of_body(TestMailRequest())["to"])
    return replies.bare("SENT", {"state": "SENT"})


def try_to_send(to: Sequence[str]) -> None:
    """Send it; Refusal 409 where no mails are sent at all, 422 where the mail server does not take it."""
    settings = parts().settings
    if settings.smtp_url is None or settings.mail_from is None:
        raise Refusal(409, "mail_off", "No mails are sent: SMTP_URL or MAIL_FROM is unset.")
    try:
        parts().send_test_mail(to)
    except OSError as error:
        raise Refusal(422, "mail_refused", f"The mail server did not take it: {' '.join(str(error).split())[:500]}") from error
