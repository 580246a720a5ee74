"""ELMA365's data import: files by a hash of the client's choosing, imports of them into an app, and how these stand.

An app is the control file that is named `namespace.code`; the hash is a handle.
"""

from __future__ import annotations

from typing import Any

from flask import Response
from flask.typing import ResponseReturnValue
from marshmallow import fields as kinds, validate

from catalog.batches import Batch
from catalog.handles import Handle
from errors import Problem, Refusal
from routes import replies
from routes.auth import batch_id_of, requires
from routes.compat import system
from routes.handle import HandleQuery, known, take
from routes.idempotency import idempotent
from routes.imports import of_handle, start
from routes.last_second import of_last_second
from routes.schedule import announce
from schemas.requests import ForeignRequest, ImportRequest, Text, check

_AS_400 = (409, 410, 413, 415, 422)
_CODES = {"range_unfit": "InvalidPart", "offset_wrong": "InvalidPartOrder", "upload_unknown": "NoSuchUpload"}
_UNKNOWN_FILE = ("upload_unknown", "handle_unknown")  # 404 is for addresses there, and these stand in the request


def _refuse(refusal: Refusal) -> Response:
    """Reply with a refusal as JSON, the documented code of an upload before its reason."""
    is_400 = refusal.status in _AS_400 or refusal.code in _UNKNOWN_FILE
    status = 400 if is_400 else 403 if refusal.status == 401 else refusal.status  # 403 is what a key that is none gets there
    code = _CODES.get(refusal.code)
    said = {"success": False, "error": f"{code}: {refusal}" if code else str(refusal), "code": code or refusal.code}
    reply = replies.json(said, status)
    reply.headers.update(refusal.headers)
    return reply


routes = system.blueprint("elma365", "/pub/v1", _refuse)


class _Upload(ForeignRequest):
    hash = Text(load_default=None)
    hash_of_directory = Text(data_key="Hash", load_default=None)  # one of the two pages writes it so


class _Import(ForeignRequest):
    file_hash = Text(data_key="fileHash", required=True)
    format = kinds.String(load_default=None, allow_none=True, validate=validate.OneOf(["xlsx", ".xlsx", "csv", ".csv"]))
    has_event_handlers = kinds.Boolean(data_key="withEventHandlers", load_default=False, allow_none=True)


@routes.post("/disk/file/upload")
@requires("import")
def upload_temporary() -> ResponseReturnValue:
    """Store a file, or a part of one, for a time."""
    return _uploaded(None)


@routes.post("/disk/directory/<directory>/upload")
@requires("import")
def upload_to_directory(directory: str) -> ResponseReturnValue:
    """Store a file, or a part of one, in a directory."""
    return _uploaded(directory)


def _uploaded(directory: str | None) -> ResponseReturnValue:
    given = system.of_query(_Upload())
    handle = given["hash"] or given["hash_of_directory"]
    if handle is None:
        raise Refusal(400, "request_invalid", "The hash is missing.", [Problem("A UUID of your choosing.", "hash")])
    got = take(handle, check(HandleQuery(), {} if directory is None else {"directory": directory})["directory"])
    return replies.json({"success": True, "error": ""}, 200 if isinstance(got, Handle) else 206)


@routes.post("/app/<namespace>/<code>/import")
@requires("import")
def start_import(namespace: str, code: str) -> ResponseReturnValue:
    """Import an uploaded file into an app, unless an import of it runs already."""
    try:
        return _started(f"{namespace}.{code}")
    except Refusal as refusal:
        if refusal.code != "blocked":
            raise
        reply = replies.json(_model("", "blocked", 0, refusal.detail))
        reply.headers.update(refusal.headers)
        return reply


@idempotent
def _started(app: str) -> ResponseReturnValue:
    given = system.of_body(_Import())
    form = (given["format"] or "").removeprefix(".") or None
    wanted = check(ImportRequest(), {"whenBusy": "refuse"}) | {"format": form, "has_event_handlers": bool(given["has_event_handlers"])}
    started = start(of_handle(known(given["file_hash"])), app, wanted)
    reply = replies.json(_model(str(started.batch), "scheduled", 0))
    announce(started.batch, started.options, reply)
    return reply


@routes.get("/app/<namespace>/<code>/import/<batch>")
@requires("read")
def get_import(namespace: str, code: str, batch: str) -> ResponseReturnValue:
    """Tell how an import stands, at most once a second anew."""
    app = f"{namespace}.{code}"
    said, is_old = of_last_second(f"elma365:{batch_id_of(batch)}:{app}", lambda: _of(system.batch_of(app, batch)))
    reply = replies.json(said)
    if is_old:
        reply.headers["Retry-After"] = "1"
    return reply


def _of(batch: Batch) -> dict[str, Any]:
    return _model(str(batch.id), batch.state, batch.counts.success, batch.status_msg) | {"errorCount": batch.counts.errors}


def _model(import_id: str, status: str, imported: int, message: str = "") -> dict[str, Any]:
    said = {"id": import_id, "status": status, "importedCount": imported, "errorCount": 0, "message": message}
    return {"success": True, "error": ""} | said
