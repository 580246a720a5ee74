"""Files by handles that their clients choose: kept for a time, or in a directory; sent whole or in parts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self, cast

from flask import Blueprint, request
from flask.typing import ResponseReturnValue
from marshmallow import validate

import clock
from catalog import handles
from catalog.handles import Handle
from errors import Refusal, UploadUnknown
from routes import download, fields, parts, replies
from routes.auth import caller, requires
from routes.described import BYTES, Reply, described
from routes.file import can_be_shown
from routes.upload import receive, too_large
from schemas.replies import HandleReply, HandlesReply, PartReply
from schemas.requests import Request, Text, about
from spool import HeldUpload, Spool

routes = Blueprint("handle", __name__, url_prefix="/api")

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII)
_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})", re.ASCII)
_FORM_BYTES = 64 * 1024  # what a form may have besides its file
_COMPARED_BYTES = 256 * 1024
_LISTED = 100


class HandleQuery(Request):
    """Where a file is kept, and what it is called."""

    directory = Text(
        load_default=None, validate=[validate.Length(min=1, max=100), can_be_shown],
        metadata=about("Where the file is kept until it is given up; without it, for `TEMPORARY_MINUTES`."),
    )  # fmt: skip
    name = Text(load_default="", validate=[validate.Length(max=200), can_be_shown], metadata=about("For people."))


class HandlesQuery(Request):
    """Which files are listed."""

    directory = Text(load_default=None, metadata=about("Only files of this directory."))
    after = Text(load_default="", metadata=about("`after` of the page before."))


@dataclass(frozen=True, slots=True)
class Span:
    """What Content-Range says: bytes `start` to `end` of `total`. Some name the last byte, others the one behind it: the body decides."""

    start: int
    end: int
    total: int

    @property
    def is_whole(self) -> bool:
        """Tell whether it is that of a whole file."""
        return self.start == 0 and self.end >= self.total - 1

    def refuse(self, size: int) -> None:
        """Refuse, with 400, a body that is not as long as it was said to be."""
        if self.start + size > self.total or size not in (self.end - self.start, self.end - self.start + 1):
            raise Refusal(400, "range_unfit", f"The body has {size} bytes, which is not what Content-Range says.")


@routes.put("/handle/<handle>")
@requires("import")
@described(
    query=HandleQuery, takes=(BYTES, "multipart/form-data"),
    headers=("Content-Range", "Content-Digest", "Repr-Digest"), refuses=(404, 409, 423, 507),
    replies={200: Reply(HandleReply), 206: Reply(PartReply, says=("Upload-Offset",), description="The part has come; more is to follow.")},
)  # fmt: skip
def put_handle(handle: str) -> ResponseReturnValue:
    """Store a file (curl -T), or by Content-Range a part of one, under a handle of the client's choosing."""
    given = fields.of_query(HandleQuery())
    got = take(handle, given["directory"], given["name"])
    if isinstance(got, Handle):
        return replies.bare(got.digest, _told(got))
    reply = replies.bare(str(got), {"handle": handle_of(handle), "received": got}, 206)
    reply.headers["Upload-Offset"] = str(got)
    return reply


@routes.get("/handle/<handle>")
@requires("read", "import")
@described(replies={200: Reply(HandleReply, types=())})
def get_handle(handle: str) -> ResponseReturnValue:
    """Tell what is known of a file that was sent by a handle: digest, size, directory, and how long it is kept."""
    return replies.json(_told(known(handle)))


@routes.delete("/handle/<handle>")
@requires("import")
@described(replies={204: Reply(types=())})
def forget_handle(handle: str) -> ResponseReturnValue:
    """Give up a file that was sent by a handle; a batch that was made of it keeps it."""
    handles.give_up(parts().catalog, caller().id, handle_of(handle))
    return replies.text("", 204)


@routes.get("/handles")
@requires("read", "import")
@described(query=HandlesQuery, replies={200: Reply(HandlesReply)})
def list_handles() -> ResponseReturnValue:
    """List the files that the key has sent by handles, all or those of a directory, in the order of the handles."""
    wanted = fields.of_query(HandlesQuery())
    found = handles.listing(parts().catalog, caller().id, wanted["directory"], after=wanted["after"], limit=_LISTED + 1)
    following = found[_LISTED - 1].handle if len(found) > _LISTED else None
    if replies.wants_json():
        return replies.json({"handles": [_told(h) for h in found[:_LISTED]], "after": following})
    lines = (f"{h.handle}\t{h.digest}\t{h.size}\t{h.directory or ''}\t{h.name}\n" for h in found[:_LISTED])
    return replies.text("".join(lines))


def _told(handle: Handle) -> dict[str, Any]:
    told: dict[str, Any] = HandleReply().dump(handle)
    return told


def handle_of(text: str) -> str:
    """Return the handle that a text spells; 400 for one that is no UUID."""
    if not _UUID.fullmatch(handle := text.lower()):
        raise Refusal(400, "handle_invalid", "A handle is a UUID, such as 0b6f3c1e-8d5a-4f7b-9c2d-1a2b3c4d5e6f.")
    return handle


def known(text: str) -> Handle:
    """Return the whole file that the caller knows by a handle; 404 where there is none, or its time is over."""
    found = handles.find(parts().catalog, caller().id, handle_of(text))
    if found is None:
        raise handles.unknown(text.lower())
    return found


def take(text: str, directory: str | None = None, name: str = "") -> Handle | int:
    """Take the request's body, raw or a form's file, or the part of it that Content-Range says; return the file once it is whole.

    Else return how many bytes of it have come. Refusal: 400 `handle_invalid`, `range_invalid`, `range_unfit`; 404 `upload_unknown` for a
    part that follows nothing; 409 `offset_wrong` for one that leaves a gap, `handle_taken`; 413.
    """
    handle, span = handle_of(text), _span()
    if span is not None and not span.is_whole:
        return _take_part(handle, directory, name, span)
    with receive(request, parts().spool, parts().settings.max_upload_bytes) as upload:
        assert upload.receiver is not None  # noqa: S101 - _received sees to it
        upload.check()
        if span is not None and upload.receiver.size != span.total:
            raise Refusal(400, "range_unfit", f"The body has {upload.receiver.size} bytes, which is not what Content-Range says.")
        digest, size = upload.receiver.commit()
        return _given(handle, directory, name or download.display_name(upload.file_name), digest, size)


def _span() -> Span | None:
    said = request.headers.get("Content-Range")
    if said is None:
        return None
    found = _RANGE.fullmatch(said.strip())
    span = Span(*map(int, found.groups())) if found else Span(1, 0, 0)
    if not span.start <= span.end <= span.total:
        raise Refusal(400, "range_invalid", "Content-Range: bytes FIRST-LAST/TOTAL is expected, as in bytes 0-1000/1000.")
    if span.total > parts().settings.max_upload_bytes:
        raise too_large(parts().settings.max_upload_bytes)
    return span


def _given(handle: str, directory: str | None, name: str, digest: str, size: int) -> Handle:
    now = clock.now()
    until = None if directory is not None else now + timedelta(minutes=parts().settings.temporary_minutes)
    return handles.give(parts().catalog, caller().id, Handle(handle, directory, name or handle, digest, size, now, until))


# Parts ------------------------------------------------------------------------------------------------------------
def _take_part(handle: str, directory: str | None, name: str, span: Span) -> Handle | int:
    uploads = parts().spool.uploads
    upload_id = hashlib.sha256(f"{caller().id} {handle}".encode()).hexdigest()[:32]
    if span.start == 0:
        _begin(upload_id, handle, span.total)
    try:
        with uploads.hold(upload_id) as held:
            if "digest" not in held.facts:
                name = _append(held, span) or name
            else:
                _compare(held.facts["digest"], span)
            if held.size < span.total:
                return held.size
            digest = held.store()
            given = _given(handle, directory, name, digest, held.size)
            held.remove()
            return given
    except UploadUnknown:
        # The last part once more, perhaps, whose reply was lost.
        found = handles.find(parts().catalog, caller().id, handle)
        if found is None or found.size != span.total:
            raise
        _compare(found.digest, span)
        return found


def _begin(upload_id: str, handle: str, total: int) -> None:
    """Begin an upload in parts; one that was begun before is begun anew."""
    uploads = parts().spool.uploads
    try:
        with uploads.hold(upload_id) as held:
            held.remove()
    except UploadUnknown:
        pass  # as it should be
    uploads.create(upload_id, {"key_id": caller().id, "handle": handle, "length": total})


def _append(held: HeldUpload, span: Span) -> str:
    """Put a part where it belongs, and return the name that a form gave its file; a part that is not what it says leaves nothing."""
    if span.total != held.facts["length"]:
        raise Refusal(400, "range_unfit", f"The file was said to have {held.facts['length']} bytes.")
    if span.start > held.size:
        here = {"Upload-Offset": str(held.size)}
        raise Refusal(409, "offset_wrong", f"{held.size} bytes have come: the next part begins there, or before.", headers=here)
    held.cut(span.start)
    try:
        name, _ = _part(span, held.append)
    except BaseException:
        held.cut(span.start)
        raise
    finally:
        held.sync()
    return name


def _compare(digest: str, span: Span) -> None:
    """Refuse, with 409, a part of a file that is whole already, unless its bytes are that file's."""
    _, part = _part(span, lambda _: None)
    with parts().spool.open(digest) as stored:
        stored.seek(span.start)
        expected, left = hashlib.sha256(), part.size
        while left and (data := stored.read(min(left, _COMPARED_BYTES))):
            expected.update(data)
            left -= len(data)
    if expected.hexdigest() != part.digest:
        raise Refusal(409, "handle_taken", "All bytes of this file have come before, and these are others.")


def _part(span: Span, write: Callable[[bytes], object]) -> tuple[str, _Part]:
    """Read the body as the part that Content-Range says; return the name that a form gave it, and what came."""
    part = _Part(write)
    with receive(request, cast(Spool, part), span.end - span.start + 1 + _FORM_BYTES) as upload:
        span.refuse(part.size)
        upload.check()
        return download.display_name(upload.file_name), part


class _Part:
    """Stands in for the spool while a part is read: its bytes go elsewhere."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self.size = 0
        self._write, self._hash = write, hashlib.sha256()

    def receive(self, _max_bytes: int | None = None) -> Self:
        """Take the body's one file."""
        return self

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Take some bytes."""
        self._write(bytes(data))
        self._hash.update(data)
        self.size += len(data)
        return len(data)

    @property
    def digest(self) -> str:
        """Return the digest of what came."""
        return self._hash.hexdigest()

    def discard(self) -> None:
        """Do nothing: who reads the part knows what to do."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.discard()
