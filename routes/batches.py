"""Which batches there are."""

from datetime import UTC, datetime, timedelta
from typing import Any

from flask import Blueprint
from flask.typing import ResponseReturnValue

from catalog import listing
from catalog.batches import Batch, State
from catalog.listing import Filters, Place
from routes import fields, parts, replies
from routes.auth import caller, requires
from routes.control import usable_control
from routes.described import Reply, described
from routes.status import line_of
from schemas.replies import BatchesReply, BatchReply
from schemas.requests import BatchesQuery

routes = Blueprint("batches", __name__, url_prefix="/api")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@routes.get("/batches")
@requires("read")
@described(query=BatchesQuery, refuses=(404,), replies={200: Reply(BatchesReply, says=("Next-Cursor",))})
def list_batches() -> ResponseReturnValue:
    """List the batches that the key may see, newest first: a page of JSON with the cursor of the next, or a line for each."""
    query = fields.of_query(BatchesQuery())
    found = listing.newest(parts().catalog, caller(), _filters(query), after=place_of(query["cursor"]), limit=query["limit"] + 1)
    page = found[: query["limit"]]
    following = cursor_of(page[-1]) if len(found) > len(page) else None
    if replies.wants_json():
        return replies.json({"batches": BatchReply(many=True).dump(page), "next": following})
    reply = replies.text("".join(f"{batch.id} {line_of(batch)}\n" for batch in page))
    if following:
        reply.headers["Next-Cursor"] = following
    return reply


def _filters(query: dict[str, Any]) -> Filters:
    control = usable_control(query["control"]).digest if query["control"] else None
    state = State(query["state"]) if query["state"] else None
    return Filters(state, control, query["creation_path"], query["since"], query["key"])


def cursor_of(batch: Batch) -> str:
    """Return what stands for a batch's place in the list."""
    return f"{(batch.created_at - _EPOCH) // timedelta(microseconds=1)}-{batch.id}"


def place_of(cursor: str | None) -> Place | None:
    """Return the place that a cursor stands for; 400 for a text that is none."""
    if cursor is None:
        return None
    made_at, _, batch_id = cursor.partition("-")
    return _EPOCH + timedelta(microseconds=int(made_at)), int(batch_id)
