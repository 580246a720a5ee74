"""Step 3: data files, sent with a batch or by their digest."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue
from marshmallow import Schema, fields, validate

from catalog import batches, files
from catalog.batches import Batch, State
from catalog.files import StoredFile
from errors import Problem, Refusal
from routes import download, masking, parts, replies
from routes.auth import caller, requires, visible_batch
from routes.described import BYTES, Reply, described
from routes.fields import refuse_query
from routes.idempotency import once
from routes.limits import refuse_anothers
from routes.upload import Upload, receive_body, receive_form
from schemas import control
from schemas.replies import FileAttached, FileKnown, FileStored
from schemas.requests import BatchId, Request, Text, about, check, sha256
from spool import parse_digest

routes = Blueprint("file", __name__, url_prefix="/api")

_WHOLE = Reply(types=(BYTES,), says=("ETag", "Content-Disposition", "Accept-Ranges"))
can_be_shown = validate.Regexp(
    rf"[^{download.MOVES_OR_HIDES}]*\Z",
    error="Not a file name: it holds control characters, or characters that turn the direction of writing.",
)
_PART = Reply(types=(BYTES,), says=(*_WHOLE.says, "Content-Range"), description="The range of bytes.")


class FileRequest(Request):
    """The text fields of `POST /api/file`."""

    batch = BatchId(required=True, metadata=about("The batch."))
    name = Text(
        required=True, validate=[validate.Length(min=1, max=255), can_be_shown],
        metadata=about("The name by which the batch's control file knows the file."),
    )  # fmt: skip
    digest = Text(
        load_default=None, validate=validate.Regexp(r"[0-9a-f]{64}\Z", error="Not 64 lower-case hexadecimal digits (SHA-256)."),
        metadata=about("Of a file that was uploaded before, which then is not sent again."),
    )  # fmt: skip
    sha256 = sha256()
    replace = fields.Boolean(load_default=False, metadata=about("Whether another file under this name is replaced."))


@routes.post("/file")
@requires("import")
@described(
    form=FileRequest, has_file=True, headers=("Idempotency-Key", "Content-Digest", "Repr-Digest"), refuses=(404, 409, 422, 507),
    replies={200: Reply(FileAttached)},
)  # fmt: skip
def upload_file() -> ResponseReturnValue:
    """Store a data file (or take one that was uploaded before, by its digest), give it to a batch, and reply with its digest."""
    refuse_query()
    return take_file(FileRequest(), visible_batch)


def take_file(schema: Schema, find_batch: Callable[[str], Batch]) -> ResponseReturnValue:
    """Do so with a form whose text fields are of this shape, `find_batch` giving or refusing the batch that they name."""
    with receive_form(request, parts().spool, parts().settings.max_upload_bytes) as upload:
        given = check(schema, upload.fields)
        digest = _digest(upload, given)
        told_apart = [digest, *(text for pair in sorted(upload.fields.items()) for text in pair)]
        return once(told_apart, lambda: _store(upload, digest, given, find_batch(given["batch"])))


def _digest(upload: Upload, given: dict[str, Any]) -> str:
    """Return the digest of the file that was sent, checked against what was said of it, or of the one that is meant."""
    if (upload.receiver is None) == (given["digest"] is None):
        problem = Problem("Send either the file (-F file=@flights.csv) or the digest of one that was uploaded before.", "file")
        raise Refusal(400, "request_invalid", "One file is needed.", [problem])
    if upload.receiver is not None:
        upload.check()
        return upload.receiver.digest
    return _checked_digest(given["digest"])


def _store(upload: Upload, digest: str, given: dict[str, Any], batch: Batch) -> Response:
    name = given["name"]
    # All that can be refused is refused before anything is stored; what changes in between, `attach` refuses again.
    refuse_anothers(caller(), batch)
    refuse_unknown_name(batch, name)
    refuse_late_or_taken(batch, name, digest, given["replace"])
    if upload.receiver is not None:
        _, size = upload.receiver.commit()
        files.add(parts().catalog, digest, size, key_id=caller().id, name=download.display_name(upload.file_name))
    else:
        size = visible_file(digest).size
    attached = batches.attach(parts().catalog, batch.id, name, digest, replace=given["replace"])
    return replies.bare(digest, {"digest": digest, "size": size, "batch": batch.id, "name": name, "attached": attached})


def refuse_unknown_name(batch: Batch, name: str) -> None:
    """Refuse, with 422, a file for which the batch's control file has no place."""
    names = file_names(batch.control)
    if names and "DEFAULT" not in names and name not in names:
        raise Refusal(
            422, "name_unknown", "The control file has no such file.", [Problem(f"{name!r} is not in `files`.", "name", allowed=names)]
        )


@lru_cache(maxsize=256)
def file_names(digest: str) -> tuple[str, ...]:
    """Return the names of a stored control file's `files`; () where any name is right. A digest's bytes never change, so it is kept."""
    with parts().spool.open(digest) as blob:
        document = control.parse(blob.read(), parts().settings.max_control_bytes)
    return tuple(document.data.get("files") or ())


def refuse_late_or_taken(batch: Batch, name: str, digest: str, may_replace: bool) -> None:
    """Refuse, with 409, a file for a batch that is not uploading any more, or that has another file of this name."""
    held = {file.name: file.digest for file in batches.files(parts().catalog, batch.id)}.get(name)
    if held == digest:
        return
    if batch.state is not State.UPLOADING:
        raise Refusal(409, "not_uploading", f"Batch {batch.id} is {batch.state}: its files can no longer change.")
    if held is not None and not may_replace:
        raise Refusal(409, "name_taken", f"Batch {batch.id} already has another file named {name!r}; replace=true replaces it.")


@routes.put("/file/<digest>")
@requires("import")
@described(takes=(BYTES,), headers=("Content-Digest", "Repr-Digest"), refuses=(507,), replies={200: Reply(FileStored)})
def put_file(digest: str) -> ResponseReturnValue:
    """Store a raw body (curl -T), if it has that digest."""
    refuse_query()
    expected = _checked_digest(digest)
    if "Content-Range" in request.headers:
        raise Refusal(400, "partial_upload", "A part of a file cannot be stored: send it whole.")
    with receive_body(request, parts().spool, parts().settings.max_upload_bytes) as upload:
        assert upload.receiver is not None  # noqa: S101 - a raw body always has one
        upload.check()
        _, size = upload.receiver.commit(expected)
    files.add(parts().catalog, expected, size, key_id=caller().id)
    return replies.bare(expected, {"digest": expected, "size": size})


@routes.get("/file/<digest>")
@requires("read", "import")
@described(replies={200: Reply(FileKnown, types=())})
def get_file(digest: str) -> ResponseReturnValue:
    """Tell what is known of an uploaded file: size, names, first upload, batches. 404 for one that only other keys uploaded."""
    file = visible_file(digest)
    known = {"digest": file.digest, "size": file.size, "names": file.names, "created_at": file.created_at, "batches": file.batches}
    return replies.json(known)


@routes.get("/file/<digest>/content")
@requires("read")
@described(headers=("Range",), replies={200: _WHOLE, 206: _PART})
def get_content(digest: str) -> ResponseReturnValue:
    """Give the bytes of an uploaded file, whole or by Range; their ETag is the digest."""
    file = visible_file(digest)
    masking.refuse_bytes_of(file.digest)
    return download.blob(parts().spool, file.digest, "application/octet-stream", next(iter(file.names), file.digest))


def _checked_digest(text: str) -> str:
    if (digest := parse_digest(text)) is None:
        raise Refusal(400, "digest_invalid", "A digest is 64 lower-case hexadecimal digits (SHA-256).")
    return digest


def visible_file(text: str) -> StoredFile:
    """Return an uploaded file that the caller may see and the spool still holds; 404 for any other, so that nothing leaks."""
    digest = _checked_digest(text)
    file = files.find(parts().catalog, digest, caller())
    if file is None or parts().spool.size(digest) is None:
        raise Refusal(404, "file_unknown", f"File not found: {digest}")
    return file
