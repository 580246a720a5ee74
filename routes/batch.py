"""Step 2: batches; and how one is stopped."""

from typing import Any

from flask import Blueprint, g
from flask.typing import ResponseReturnValue

from catalog import batches
from catalog.batches import State
from errors import Refusal
from routes import fields, parts, replies
from routes.auth import caller, requires, visible_batch
from routes.control import usable_control
from routes.described import Reply, described
from routes.idempotency import held, idempotent
from schemas.replies import BatchMade, CancelReply
from schemas.requests import BatchRequest, NoFields

routes = Blueprint("batch", __name__, url_prefix="/api")


@routes.post("/batch")
@requires("import")
@idempotent
@described(form=BatchRequest, headers=("Idempotency-Key",), refuses=(404,), replies={200: Reply(BatchMade)})
def create_batch() -> ResponseReturnValue:
    """Make an empty batch for a control file, and reply with its identifier."""
    given = fields.of_body(BatchRequest())
    control = usable_control(given.pop("control"))
    batch_id = g.batch_id = batches.create(
        parts().catalog, held=held(), control=control.digest, key_id=caller().id, addresses=addresses_of(given), **given
    )
    return replies.bare(str(batch_id), {"batch": batch_id, "control": control.digest})


@routes.post("/batch/<batch>/cancel")
@requires("import")
@idempotent
@described(form=NoFields, headers=("Idempotency-Key",), replies={200: Reply(CancelReply)})
def cancel_batch(batch: str) -> ResponseReturnValue:
    """Stop a batch: at once if it waits, at the next chunk border if it runs; what was not reached is `unprocessed`."""
    fields.of_body(NoFields())
    batch_id = visible_batch(batch).id
    state = batches.cancel(parts().catalog, batch_id)
    if state not in (State.CANCELLED, State.RUNNING):
        raise Refusal(409, "already_over", f"Batch {batch_id} is {state}: there is nothing to stop.")
    said = "CANCELLED" if state is State.CANCELLED else "CANCELLING"
    return replies.bare(said, {"status": said, "batch": batch_id})


def addresses_of(given: dict[str, Any]) -> list[str]:
    """Take the mail addresses out of the fields, each with the outcome that it wants to hear of, as the catalog keeps them."""
    return [f"{outcome}:{a}" for outcome in ("success", "failure") for a in given.pop(f"send_{outcome}_email_to")]
