"""How a batch stands, and which batches there are."""

import time
from collections.abc import Mapping
from typing import Any

from flask import Blueprint
from flask.typing import ResponseReturnValue

from catalog import batches
from catalog.batches import Batch, Mode, State
from catalog.standing import import_exit, line_of
from errors import Refusal
from routes import fields, parts, replies
from routes.auth import batch_id_of, requires, visible_batch
from routes.described import Reply, described
from routes.results import first_errors
from schemas.replies import BatchReply, FileReply, StatusReply
from schemas.requests import StatusQuery

__all__ = ["details", "get_status", "import_exit", "line_of", "routes", "settled_batch"]

routes = Blueprint("status", __name__, url_prefix="/api")

_SHORTEST_PAUSE_SECONDS = 0.0005  # a batch of one record is over in some milliseconds
_LATEST_SHARE = 0.1  # of the time waited so far: how much later than the batch's end the reply may come
_LONGEST_PAUSE_SECONDS = 0.25


@routes.get("/batch/<batch>")
@requires("read")
@described(
    query=StatusQuery,
    replies={
        200: Reply(StatusReply, says=("Import-Exit", "Retry-After")),
        422: Reply(StatusReply, says=("Import-Exit",), description="With `fail=rows`: records were refused."),
    },
)
def get_status(batch: str) -> ResponseReturnValue:
    """Tell how a batch stands: one line, or JSON; with `wait`, as soon as it is finished."""
    query = fields.of_query(StatusQuery())
    found = settled_batch(batch, query["wait"], Mode(query["run"]) if query["run"] else None)
    exit_status = import_exit(found)
    status = 422 if exit_status == 2 and query["fail"] == "rows" else 200
    reply = replies.json(_details(found, query), status) if replies.wants_json() else replies.text(line_of(found), status)
    reply.headers["Import-Exit"] = str(exit_status)
    if found.state in (State.SCHEDULED, State.RUNNING):
        reply.headers["Retry-After"] = "1"
    return reply


def settled_batch(text: str, wait_seconds: float, mode: Mode | None = None) -> Batch:
    """Return the batch when it is finished (or held), or as it is after `wait_seconds`, of which no more than the cap are waited.

    Where as many requests wait already as may, it is returned as it is: waiting holds a thread, and other requests need some.
    """
    batch = _look(text, mode)
    if wait_seconds <= 0 or _is_settled(batch) or not parts().waiters.acquire(blocking=False):
        return batch
    try:
        return _waited_for(text, min(wait_seconds, parts().settings.wait_cap_seconds), mode)
    finally:
        parts().waiters.release()


def _waited_for(text: str, wait_seconds: float, mode: Mode | None) -> Batch:
    deadline = time.monotonic() + wait_seconds
    batch_id = batch_id_of(text)
    while (left := deadline - time.monotonic()) > 0:
        waited = wait_seconds - left
        time.sleep(min(max(waited * _LATEST_SHARE, _SHORTEST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS, left))
        if not batches.is_moving(parts().catalog, batch_id):
            break
    return _look(text, mode)


def _look(text: str, mode: Mode | None) -> Batch:
    batch = visible_batch(text, mode)
    if mode and batch.run is None:
        raise Refusal(404, "run_unknown", f"Batch {batch.id} has no {mode} run.")
    return batch


def _is_settled(batch: Batch) -> bool:
    return batch.state.is_over or batch.state is State.HELD


def _details(batch: Batch, query: Mapping[str, Any]) -> dict[str, Any]:
    """Return the status as JSON has it: the batch, its files and, if asked for, its first errors."""
    found = details(batch)
    if query["include_errors"]:
        found["errors"] = first_errors(batch, query["max_errors"])
    return found


def details(batch: Batch) -> dict[str, Any]:
    """Return a batch and its files as JSON has them."""
    found: dict[str, Any] = BatchReply().dump(batch)
    found["files"] = FileReply(many=True).dump(batches.files(parts().catalog, batch.id))
    return found
