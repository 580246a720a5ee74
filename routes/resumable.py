"""Uploads in parts, by the tus protocol 1.0 (https://tus.io/protocols/resumable-upload): creation, checksum, expiration, termination.

One that is whole becomes an ordinary stored file, and is given to a batch if its metadata name one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue
from marshmallow import fields, validate
from werkzeug.http import http_date

from catalog import batches, files
from errors import DigestMismatch, Refusal, TooLarge, UploadUnknown
from routes import download, parts, replies
from routes.auth import caller, requires, visible_batch
from routes.described import Reply, described
from routes.fields import refuse_query
from routes.file import can_be_shown, refuse_late_or_taken, refuse_unknown_name
from routes.idempotency import once
from routes.limits import refuse_anothers
from routes.upload import broken_uploads_refused, limited
from schemas.replies import UploadMade
from schemas.requests import Request, Text, check
from spool import HeldUpload

routes = Blueprint("resumable", __name__, url_prefix="/api")

VERSION = "1.0.0"
EXTENSIONS = "creation,checksum,expiration,termination"
PART_TYPE = "application/offset+octet-stream"
HASHES: dict[str, Callable[[], Any]] = {
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),  # the one that the protocol asks every server to know
    "sha256": hashlib.sha256,
}
# What a lost connection has not filled is lost: small enough to get on over a line that is cut again and again.
_READ_BYTES = 64 * 1024
_TOLD = ("Tus-Resumable",)
_STANDS = (*_TOLD, "Upload-Offset", "Upload-Expires", "File-Digest")
_LENGTH = re.compile(r"[0-9]{1,15}", re.ASCII)
_METADATA_KEY = re.compile(r"[!-+\--~]{1,80}", re.ASCII)


class Metadata(Request):
    """What we read of an upload's metadata; the rest is the client's own."""

    filename = Text(load_default="")
    batch = Text(load_default=None)
    name = Text(load_default=None, validate=[validate.Length(min=1, max=255), can_be_shown])
    sha256 = Text(load_default=None, validate=validate.Regexp(r"[0-9a-fA-F]{64}\Z", error="Not 64 hexadecimal digits."))
    replace = fields.Boolean(load_default=False)


@routes.after_request
def _say_version(reply: Response) -> Response:
    reply.headers["Tus-Resumable"] = VERSION
    return reply


@routes.route("/upload", methods=["OPTIONS"])
@described(replies={204: Reply(types=(), says=(*_TOLD, "Tus-Version", "Tus-Extension", "Tus-Max-Size", "Tus-Checksum-Algorithm"))})
def get_abilities() -> ResponseReturnValue:
    """Tell which version and extensions of the protocol are spoken, and how large an upload may be."""
    reply = replies.text("", 204)
    reply.headers["Tus-Version"] = VERSION
    reply.headers["Tus-Extension"] = EXTENSIONS
    reply.headers["Tus-Max-Size"] = str(parts().settings.max_upload_bytes)
    reply.headers["Tus-Checksum-Algorithm"] = ",".join(HASHES)
    return reply


@routes.post("/upload")
@requires("import")
@described(
    needs=("Tus-Resumable", "Upload-Length"), headers=("Upload-Metadata", "Idempotency-Key"), refuses=(507,),
    replies={201: Reply(UploadMade, says=(*_TOLD, "Location", "Upload-Expires"))},
)  # fmt: skip
def create_upload() -> ResponseReturnValue:
    """Begin an upload in parts, and reply with where its bytes are to be sent."""
    refuse_query()
    _check_version()
    if "Upload-Length" not in request.headers:
        raise Refusal(400, "upload_length_missing", "Upload-Length is missing: the length must be known in advance.")
    length, limit = _number("Upload-Length"), parts().settings.max_upload_bytes
    if length > limit:
        raise Refusal(413, "too_large", f"The upload is larger than the limit of {limit} bytes.", headers={"Tus-Max-Size": str(limit)})
    metadata = request.headers.get("Upload-Metadata", "")
    facts = {"key_id": caller().id, "length": length, "metadata": metadata, **_meaning_of(metadata), "is_finished": False}
    return once([str(length), metadata], lambda: _created(facts))


def _created(facts: dict[str, Any]) -> Response:
    upload_id = secrets.token_hex(16)
    uploads = parts().spool.uploads
    uploads.create(upload_id, facts)
    if facts["length"] == 0:
        with uploads.hold(upload_id) as held:
            _finish(held)
    reply = replies.bare(upload_id, {"upload": upload_id, "length": facts["length"]}, 201)
    reply.headers["Location"] = f"/api/upload/{upload_id}"
    reply.headers["Upload-Expires"] = _expires(upload_id)
    return reply


def _meaning_of(header: str) -> dict[str, Any]:
    """Return what an Upload-Metadata header says to us, checked against the batch that it names; Refusal 400, 404, 409 or 422."""
    said = metadata_of(header)
    given = check(Metadata(), {key: value for key, value in said.items() if key in Metadata().fields})
    if (given["batch"] is None) != (given["name"] is None):
        raise Refusal(400, "request_invalid", "Upload-Metadata: `batch` and `name` go together.")
    given["sha256"] = given["sha256"] and given["sha256"].lower()
    if given["batch"] is not None:
        batch = visible_batch(given["batch"])
        refuse_anothers(caller(), batch)
        refuse_unknown_name(batch, given["name"])
        refuse_late_or_taken(batch, given["name"], given["sha256"] or "", given["replace"])
    return given


def metadata_of(header: str) -> dict[str, str]:
    """Return the keys and values of an Upload-Metadata header; Refusal 400 for one that is none.

    >>> metadata_of("filename YS5jc3Y=,is_confidential")
    {'filename': 'a.csv', 'is_confidential': ''}
    """
    found: dict[str, str] = {}
    for pair in header.split(",") if header else []:
        key, _, value = pair.strip().partition(" ")
        try:
            if not _METADATA_KEY.fullmatch(key) or key in found:
                raise ValueError("no key, or one that was there before")
            found[key] = base64.b64decode(value, validate=True).decode()
        except (ValueError, binascii.Error):
            detail = "Upload-Metadata: pairs of key and Base64 of UTF-8 are expected, with commas between them, each key once."
            raise Refusal(400, "metadata_invalid", detail) from None
    return found


@routes.route("/upload/<upload>", methods=["HEAD"])
@requires("import")
@described(needs=("Tus-Resumable",), refuses=(409, 423, 507), replies={200: Reply(says=(*_STANDS, "Upload-Length", "Upload-Metadata"))})
def get_offset(upload: str) -> ResponseReturnValue:
    """Tell how many bytes of an upload have come."""
    _check_version()
    facts, size = _visible(upload)
    if size == facts["length"] and not facts["is_finished"]:
        # The request that brought the last bytes did not come to its end: a client that heard of them would take them for stored.
        with parts().spool.uploads.hold(upload) as held:
            _finish(held)
            facts = held.facts
    reply = replies.text("")
    _tell(reply, upload, facts, size)
    reply.headers["Upload-Length"] = str(facts["length"])
    if facts["metadata"]:
        reply.headers["Upload-Metadata"] = facts["metadata"]
    return reply


@routes.patch("/upload/<upload>")
@requires("import")
@described(
    takes=(PART_TYPE,), needs=("Tus-Resumable", "Upload-Offset"), headers=("Upload-Checksum",), refuses=(409, 423, 507),
    replies={204: Reply(types=(), says=_STANDS)},
)  # fmt: skip
def add_part(upload: str) -> ResponseReturnValue:
    """Take the bytes that follow; the last ones make the upload a stored file."""
    refuse_query()
    _check_version()
    if request.mimetype != PART_TYPE:
        raise Refusal(415, "body_unknown", f"The bytes of an upload are sent as {PART_TYPE}.")
    offset, hashed = _number("Upload-Offset"), _Checksum(request.headers.get("Upload-Checksum"))
    _visible(upload)
    with parts().spool.uploads.hold(upload) as held:
        _refuse_offset(held, offset)
        _append(held, offset, hashed)
        if held.size == held.facts["length"]:
            _finish(held)
        reply = replies.text("", 204)
        _tell(reply, upload, held.facts, held.size)
    return reply


@routes.delete("/upload/<upload>")
@requires("import")
@described(needs=("Tus-Resumable",), refuses=(423,), replies={204: Reply(types=(), says=_TOLD)})
def forget_upload(upload: str) -> ResponseReturnValue:
    """Give an upload up, and forget its bytes; a file that it has become stays."""
    refuse_query()
    _check_version()
    _visible(upload)
    with parts().spool.uploads.hold(upload) as held:
        held.remove()
    return replies.text("", 204)


@routes.post("/upload/<upload>")
@requires("import")
@described(
    takes=(PART_TYPE,), needs=("X-HTTP-Method-Override", "Tus-Resumable"), headers=("Upload-Offset", "Upload-Checksum"),
    refuses=(409, 423, 507), replies={200: Reply(says=_STANDS), 204: Reply(types=(), says=_STANDS)},
)  # fmt: skip
def call_otherwise(upload: str) -> ResponseReturnValue:
    """Do as HEAD, PATCH or DELETE would, for clients that cannot send these: `X-HTTP-Method-Override` says which."""
    meant = {"HEAD": get_offset, "PATCH": add_part, "DELETE": forget_upload}
    view = meant.get(request.headers.get("X-HTTP-Method-Override", ""))
    if view is None:
        raise Refusal(405, "method_not_allowed", "X-HTTP-Method-Override: HEAD, PATCH or DELETE.", headers={"Allow": ", ".join(meant)})
    return view(upload)


class _Checksum:
    """What Upload-Checksum says of a part's bytes; without the header, any bytes are right."""

    def __init__(self, header: str | None) -> None:
        self.expected: bytes | None = None
        self.update: Callable[[bytes], object] = len
        if header is None:
            return
        algorithm, _, said = header.partition(" ")
        if algorithm not in HASHES:
            raise Refusal(400, "checksum_unknown", f"Upload-Checksum: {', '.join(HASHES)} are compared, and nothing else.")
        self._hash = HASHES[algorithm]()
        self.update = self._hash.update
        try:
            self.expected = base64.b64decode(said, validate=True)
        except binascii.Error:
            self.expected = b""
        if len(self.expected) != self._hash.digest_size:
            raise Refusal(400, "checksum_invalid", "Upload-Checksum: the algorithm and the Base64 of its checksum are expected.")

    def check(self) -> None:
        """Raise Refusal 460, as the protocol has it, where other bytes came."""
        if self.expected is not None and self._hash.digest() != self.expected:
            raise Refusal(460, "checksum_mismatch", "The bytes do not have the checksum that was said of them; none was kept.")


def _append(held: HeldUpload, offset: int, checksum: _Checksum) -> None:
    """Take a request's body. Of one that breaks off, what came is kept; of one that is not what it said, nothing."""
    left = held.facts["length"] - offset
    try:
        with broken_uploads_refused(left):
            stream = limited(request, left)
            while data := stream.read(_READ_BYTES):
                if len(data) > held.facts["length"] - held.size:
                    raise TooLarge(left)
                held.append(data)
                checksum.update(data)
        checksum.check()
    except Refusal as refusal:
        if refusal.status in (413, 460) or checksum.expected is not None:
            held.cut(offset)
        raise
    finally:
        held.sync()


def _finish(held: HeldUpload) -> None:
    """Make a whole upload an ordinary file, and give it to its batch; what broke off half-way is done again, to the same end."""
    facts = held.facts
    try:
        digest = held.store(facts["sha256"])
    except DigestMismatch:
        held.remove()  # it could never be finished
        raise
    if parts().spool.size(digest) is None:
        held.remove()  # the file was stored long ago and has had its time, while nobody asked for the end of this upload
        raise UploadUnknown(digest)
    files.add(parts().catalog, digest, facts["length"], key_id=facts["key_id"], name=download.display_name(facts["filename"]))
    if facts["batch"] is not None:
        batches.attach(parts().catalog, int(facts["batch"]), facts["name"], digest, replace=facts["replace"])
    held.note(is_finished=True)


def _tell(reply: Response, upload_id: str, facts: dict[str, Any], size: int) -> None:
    reply.headers["Upload-Offset"] = str(size)
    if facts["is_finished"]:
        reply.headers["File-Digest"] = facts["digest"]
    else:
        reply.headers["Upload-Expires"] = _expires(upload_id)


def _expires(upload_id: str) -> str:
    return http_date(parts().spool.uploads.touched_at(upload_id) + parts().settings.resume_hours * 3600)


def _refuse_offset(held: HeldUpload, offset: int) -> None:
    here = {"Upload-Offset": str(held.size)}
    if offset != held.size:
        raise Refusal(409, "offset_wrong", f"{held.size} bytes have come: the next part begins there, not at {offset}.", headers=here)
    if held.facts["is_finished"]:
        raise Refusal(409, "upload_finished", "All bytes have come: this upload takes no more.", headers=here)


def _visible(upload_id: str) -> tuple[dict[str, Any], int]:
    """Return an upload that the caller may see, and how many bytes of it have come; UploadUnknown, which is 404, for any other."""
    facts, size = parts().spool.uploads.find(upload_id)
    if "handle" in facts or not caller().can_see(facts["key_id"]):  # parts of a file with a handle are not this protocol's
        raise UploadUnknown(upload_id)
    return facts, size


def _check_version() -> None:
    if request.headers.get("Tus-Resumable") != VERSION:
        raise Refusal(
            412, "version_unknown", f"The header Tus-Resumable: {VERSION} is expected; no other version is spoken.",
            headers={"Tus-Version": VERSION},
        )  # fmt: skip


def _number(header: str) -> int:
    said = request.headers.get(header, "")
    if not _LENGTH.fullmatch(said):
        raise Refusal(400, "request_invalid", f"{header}: a number of bytes is expected.")
    return int(said)
