"""Haplo's batch import: the four steps, on its paths."""

from __future__ import annotations

from flask import Response
from flask.typing import ResponseReturnValue
from marshmallow import fields, validate

from catalog import batches
from catalog.batches import Batch, Mode, Options, State
from errors import Refusal
from routes import parts, replies
from routes.auth import caller, requires, visible_batch
from routes.compat import system
from routes.control import take_control, usable_control
from routes.file import can_be_shown, take_file
from routes.idempotency import held, idempotent
from routes.schedule import announce, put_into_queue
from schemas.requests import MODES, ControlRequest, ForeignRequest, Text

KEY_HEADER = "X-ONEIS-Key"
_AS_400 = (404, 409, 410, 415, 422)  # what a request asks for and cannot have; there is one status for that there


def _refuse(refusal: Refusal) -> Response:
    """Reply with a refusal as plain text, without a newline at its end."""
    head = {"control_file_invalid": "Invalid control file:", "request_invalid": "Bad request (failed validation)"}
    told = [*map(str, refusal.problems)] or ([refusal.detail] if refusal.code in head else [])
    lines = [head.get(refusal.code, refusal.detail), *(f"  {problem}" for problem in told)]
    reply = replies.text("\n".join(lines), 400 if refusal.status in _AS_400 else refusal.status)
    reply.headers.update(refusal.headers)
    return reply


routes = system.blueprint("haplo", "/api/haplo-data-import-batch", _refuse)


class _Control(ForeignRequest, ControlRequest):
    comment = Text(load_default="Unnamed control file", validate=validate.Length(max=2000))


class _Batch(ForeignRequest):
    control = Text(required=True, validate=validate.Length(min=1, max=200))
    comment = Text(load_default="Unnamed batch", validate=validate.Length(max=2000))


class _File(ForeignRequest):
    batch = Text(required=True)
    name = Text(required=True, validate=[validate.Length(min=1, max=255), can_be_shown])
    digest = Text(load_default=None)
    replace = fields.Constant(True)  # of two files of one name the later one counts


class _Schedule(ForeignRequest):
    batch = Text(required=True)
    mode = fields.String(load_default=Mode.IMPORT, validate=validate.OneOf(MODES))


@routes.post("/control")
@requires("control", "import", key_header=KEY_HEADER)
def upload_control() -> ResponseReturnValue:
    """Check and store a control file, and reply with its digest."""
    system.refuse_in_query(_Control())
    return take_control(_Control())


@routes.post("/batch")
@requires("import", key_header=KEY_HEADER)
@idempotent
def create_batch() -> ResponseReturnValue:
    """Make a batch for a control file, whoever has uploaded that, and reply with the batch's identifier."""
    given = system.of_body(_Batch())
    control = usable_control(given["control"])
    said = {"control": control.digest, "key_id": caller().id, "comment": given["comment"]}
    return replies.text(str(batches.create(parts().catalog, held=held(), **said)))


@routes.post("/file")
@requires("import", key_header=KEY_HEADER)
def upload_file() -> ResponseReturnValue:
    """Store a data file, give it to a batch, and reply with its digest."""
    system.refuse_in_query(_File())
    return take_file(_File(), _uploading)


@routes.post("/schedule")
@requires("import", key_header=KEY_HEADER)
@idempotent
def schedule_batch() -> ResponseReturnValue:
    """Put a batch into the queue, for a dry run or for good."""
    given = system.of_body(_Schedule())
    batch = _uploading(given["batch"])
    options = Options(Mode(given["mode"]))
    if put_into_queue(batch, options).is_repeat:
        raise _not_uploading(given["batch"])  # Another request was quicker.
    reply = replies.text("SCHEDULED")
    announce(batch.id, options, reply)
    return reply


def _uploading(text: str) -> Batch:
    """Return a batch that still takes files in."""
    try:
        batch = visible_batch(text)
    except Refusal as refusal:
        raise Refusal(refusal.status, refusal.code, f"Batch not found: {text[:200]}") from None
    if batch.state is not State.UPLOADING:
        raise _not_uploading(text)
    return batch


def _not_uploading(batch: str) -> Refusal:
    return Refusal(409, "not_uploading", f"Batch {batch} is not in the 'uploading' state")
