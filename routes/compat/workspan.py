"""WorkSpan's bulk API: an integration is a control file's name, an execution a batch."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from flask import Response, request
from flask.typing import ResponseReturnValue
from marshmallow import fields, validate

from catalog.batches import Batch, State
from catalog.handles import Handle
from errors import Refusal
from routes import parts, replies
from routes.auth import requires, visible_batch
from routes.compat import system
from routes.control import usable_control
from routes.file import can_be_shown
from routes.handle import known
from routes.idempotency import once
from routes.imports import Source, format_of, of_handle, of_upload, start
from routes.refused import first_refused
from routes.schedule import announce
from routes.signed import take_signed, token_for
from routes.upload import receive
from schemas.requests import ForeignRequest, ImportRequest, Text, check

_MOST_ERRORS = 1000  # that one reply tells


def _refuse(refusal: Refusal) -> Response:
    """Reply with a refusal as JSON, which is all that there is here."""
    reply = replies.problem_json(refusal)
    reply.headers.update(refusal.headers)
    return reply


routes = system.blueprint("workspan", "/bulk/v1", _refuse)


class _Status(ForeignRequest):
    execution_id = Text(load_default="")
    include_errors = fields.Boolean(load_default=False)
    max_errors = fields.Integer(load_default=None, validate=validate.Range(min=0))


class _Load(ForeignRequest):
    data_format = fields.String(load_default="", validate=validate.Regexp(r"(?i:csv|tsv|jsonl?|xlsx)?\Z", error="Not CSV, JSON or XLSX."))
    column_delimiter = Text(load_default=None, validate=validate.Length(equal=1))
    upload_token = Text(load_default=None)


class _UploadUrl(ForeignRequest):
    file_name = Text(load_default="", validate=[validate.Length(max=200), can_be_shown])


@routes.post("/bulkload/<integration_id>")
@requires("import")
def load(integration_id: str) -> ResponseReturnValue:
    """Import the body, a form's file, or what was sent to an upload's address before; reply with the batch."""
    query = system.of_query(_Load())
    if query["upload_token"] is not None:
        if request.stream.read(1):
            raise Refusal(400, "request_invalid", "The data come by a token and in the body.")
        handle = known(query["upload_token"])
        told_apart = [handle.digest, *map(str, query.values())]
        return once(told_apart, lambda: _started(of_handle(handle), integration_id, query))
    with receive(request, parts().spool, parts().settings.max_upload_bytes) as upload:
        assert upload.receiver is not None  # noqa: S101 - `receive` sees to it
        upload.check()
        query = system.of_query(_Load(), upload.fields)
        told_apart = [upload.receiver.digest, request.mimetype, *map(str, query.values())]
        return once(told_apart, lambda: _started(of_upload(upload), integration_id, query))


def _started(source: Source, integration_id: str, query: dict[str, Any]) -> Response:
    form = query["data_format"].lower() or source.format or format_of(source.name) or source.looks_like()
    wanted = {"format": form, "separator": query["column_delimiter"]}
    started = start(source, integration_id, check(ImportRequest(), {name: said for name, said in wanted.items() if said is not None}))
    batch = visible_batch(str(started.batch))
    said = {
        "integration_id": integration_id,
        "execution_id": str(batch.id),
        "created_at": _instant(batch.created_at),
        "data_format": started.read.upper(),
    }
    if query["column_delimiter"] is not None:
        said["column_delimiter"] = query["column_delimiter"]
    reply = replies.json(said)
    announce(batch.id, started.options, reply)
    return reply


@routes.get("/bulkload/<integration_id>/upload_url")
@requires("import")
def get_upload_url(integration_id: str) -> ResponseReturnValue:
    """Give an address to which a file may be sent without a key for a time, and the token by which it is loaded then."""
    query = system.of_query(_UploadUrl())
    usable_control(integration_id)
    handle = str(uuid4())
    token = token_for(handle, query["file_name"])
    return replies.json({"upload_url": f"{system.public_address()}/bulk/v1/upload?token={token}", "upload_token": handle})


@routes.route("/upload", methods=["PUT", "POST"])
def upload_file() -> ResponseReturnValue:
    """Store a file, or by Content-Range a part of one, at an address that was given for it."""
    got = take_signed(request.args.get("token", ""))  # in the query, which is not logged
    return replies.json({"digest": got.digest, "size": got.size}) if isinstance(got, Handle) else replies.json({"received": got}, 206)


@routes.get("/status/<integration_id>")
@requires("read")
def get_status(integration_id: str) -> ResponseReturnValue:
    """Tell how a batch stands: its counts, its times and, if asked for, its first errors."""
    query = system.of_query(_Status())
    return replies.json(_details(_execution(integration_id, query["execution_id"]), integration_id, query))


def _execution(integration_id: str, execution_id: str) -> Batch:
    try:
        return system.batch_of(integration_id, execution_id)
    except Refusal as refusal:
        if refusal.status == 400:
            raise Refusal(400, "execution_id_invalid", "invalid execution_id") from None
        raise Refusal(404, "execution_unknown", "integration_id or execution_id not found") from None


def _details(batch: Batch, integration_id: str, query: dict[str, Any]) -> dict[str, Any]:
    counts, is_over = batch.counts, batch.state.is_over
    said = {
        "integration_id": integration_id,
        "execution_id": str(batch.id),
        "status": "completed" if is_over else "running",
        "status_msg": (batch.status_msg or batch.state) if is_over and batch.state is not State.COMPLETED else None,
        "input_count": counts.input,
        "error_count": counts.errors,
        "success_count": counts.success,
        "skip_count": counts.skipped + counts.unprocessed,  # so that the counts add up here too
        "started_at": _instant(batch.started_at),
        "completed_at": _instant(batch.completed_at),
        "include_errors": query["include_errors"],
        "max_errors": query["max_errors"],
    }
    if query["include_errors"]:
        most = _MOST_ERRORS if query["max_errors"] is None else min(query["max_errors"], _MOST_ERRORS)
        said["errors"] = [{"id": e.key, "message": e.message, "data_row": e.values} for e in first_refused(batch, most)]
    return {name: value for name, value in said.items() if value is not None}


def _instant(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
