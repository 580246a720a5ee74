"""The Workflow Import Queue's CreateBatch: JSON Lines become a batch in one call."""

from __future__ import annotations

from typing import Any

from flask import Response, make_response, request
from flask.typing import ResponseReturnValue
from marshmallow import validate

from errors import Refusal
from routes import download, parts, replies
from routes.auth import requires
from routes.compat import system
from routes.idempotency import once
from routes.imports import Source, start
from routes.schedule import announce
from routes.upload import Upload, receive_body
from schemas.requests import ForeignRequest, ImportRequest, Text, check

routes = system.blueprint("workflow_import_queue", "/API/WorkflowImportQueue")

_ORIGIN = "IMPORT_QUEUE_API:"  # before the creationPath of such batches


class _Query(ForeignRequest):
    file_name = Text(data_key="fileName", required=True, validate=validate.Length(min=1, max=255))
    process = Text(data_key="importProcessId", required=True, validate=validate.Length(min=1, max=200))
    creation_path = Text(
        data_key="creationPath", required=True,
        validate=validate.Regexp(r"[A-Z0-9_]{1,15}\Z", error="Not 1 to 15 upper-case letters, digits and underscores."),
    )  # fmt: skip
    success = Text(data_key="sendSuccessEmailTo")
    failure = Text(data_key="sendFailureEmailTo")


@routes.post("/CreateBatch")
@requires("import")
def create_batch() -> ResponseReturnValue:
    """Put the records of the body into the queue, and reply with the batch's id and the address of its page."""
    query = system.of_query(_Query())
    to = {f"send{outcome.title()}EmailTo": query[outcome] for outcome in ("success", "failure") if outcome in query}
    given = check(ImportRequest(), to)
    given["creation_path"] = _ORIGIN + query["creation_path"]
    if request.mimetype == "multipart/form-data":
        raise Refusal(415, "body_unknown", "The records are the body itself, in JSON Lines: a form is not read here.")
    with receive_body(request, parts().spool, parts().settings.max_upload_bytes) as upload:
        assert upload.receiver is not None  # noqa: S101 - a raw body always has one
        upload.check()
        told_apart = [upload.receiver.digest, *(text for pair in sorted(query.items()) for text in pair)]
        return once(told_apart, lambda: _started(upload, query, given))


def _started(upload: Upload, query: dict[str, Any], given: dict[str, Any]) -> Response:
    assert upload.receiver is not None  # noqa: S101 - a raw body always has one
    source = Source(upload.receiver.commit, download.display_name(query["file_name"]), "jsonl", is_title=True)
    started = start(source, query["process"], given)
    page = f"{system.public_address()}/imports/{started.batch}"
    reply = make_response(replies.json({"WORKFLOW_IMPORT_QUEUE_BATCH_ID": started.batch, "link": page}))
    announce(started.batch, started.options, reply)
    return reply
