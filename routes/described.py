"""What the API's description says of each route, beside the route: its fields, headers, replies and refusals.

`@described(...)` stands under a route's other decorators. What those see to is told by itself: `requires` brings the key and 401, 403, 429
and 503; a variable of the path its form and 404; a header what may be wrong with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

from marshmallow import Schema

P = ParamSpec("P")
R = TypeVar("R")
Schemas = type[Schema] | tuple[type[Schema], ...]

TEXT = "text/plain"
CSV = "text/csv"
BYTES = "application/octet-stream"
FORMS = ("application/x-www-form-urlencoded", "multipart/form-data", "application/json")


@dataclass(frozen=True, slots=True)
class Reply:
    """One way in which a route replies when all is well: in JSON, where that is asked for by name, and otherwise."""

    gives: Schemas | None = None  # the JSON's shape; several where it depends
    types: tuple[str, ...] = (TEXT,)  # media types of the reply that is not JSON
    says: tuple[str, ...] = ()  # headers, of SAID
    description: str = "As asked for."


@dataclass(frozen=True, slots=True)
class Described:
    """What a route's decorator says of it."""

    replies: Mapping[int, Reply] = field(default_factory=lambda: {200: Reply()})
    query: type[Schema] | None = None
    form: type[Schema] | None = None  # text fields: of a form or a JSON object, or, with `has_file`, of a multipart form
    has_file: bool = False  # the form may, and without a `digest` must, have a part `file`
    takes: tuple[str, ...] = ()  # media types of a raw body
    needs: tuple[str, ...] = ()  # headers that must be sent, of HEADERS
    headers: tuple[str, ...] = ()  # headers that may be
    refuses: tuple[int, ...] = ()  # statuses besides those that come by themselves


def described(**told: Any) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Say what a route takes and gives: the fields of Described."""

    def decorate(view: Callable[P, R]) -> Callable[P, R]:
        view.described = Described(**told)  # type: ignore[attr-defined]
        return view

    return decorate


@dataclass(frozen=True, slots=True)
class Named:
    """A header or a variable of a path: its JSON Schema, what it is for, and the refusals that it may lead to."""

    schema: dict[str, Any]
    description: str
    refuses: tuple[int, ...] = ()
    is_required: bool = False


_STRING: dict[str, Any] = {"type": "string"}
_NUMBER: dict[str, Any] = {"type": "integer", "minimum": 0}
_SHA256 = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_DIGEST_HEADER = {"type": "string", "pattern": "^sha-256=:[A-Za-z0-9+/]{43}=:$"}
_UPLOAD_OFFSET = Named(_NUMBER | {"maximum": 10**15 - 1}, "Where the bytes of this part begin.", (400,))

VARIABLES = {
    "batch": Named({"type": "integer", "minimum": 1, "maximum": 2**53 - 1}, "A batch's identifier.", (400, 404)),
    "digest": Named(_SHA256, "SHA-256, 64 lower-case hexadecimal digits.", (400, 404)),
    "digest_or_name": Named({"type": "string", "minLength": 1}, "Digest or name of a control file.", (404,)),
    "name": Named({"type": "string", "minLength": 1}, "The name by which the control file knows the file.", (404,)),
    "upload": Named({"type": "string", "pattern": "^[0-9a-f]{32}$"}, "An upload's id.", (404,)),
    "handle": Named({"type": "string", "format": "uuid"}, "A UUID of the client's own choosing.", (400, 404)),
    "webhook": Named({"type": "string", "pattern": "^wh_[0-9a-f]{24}$"}, "A webhook's id.", (404,)),
    "delivery": Named({"type": "string", "pattern": "^msg_[0-9a-f]{32}$"}, "A delivery's id.", (404,)),
    "table": Named({"type": "string", "minLength": 1}, "A table of the target.", (404,)),
}
HEADERS = {
    "X-Request-Id": Named(_STRING, "The request's own id; taken if it has 1 to 64 letters, digits or `._:-`."),
    "Idempotency-Key": Named(
        {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]([ -~]{0,253}[!-~])?$"},
        "The same request under the same key gives the first reply again, and does nothing twice.",
        (400, 409, 422),
    ),
    "Content-Digest": Named(_DIGEST_HEADER, "The digest of the body (RFC 9530); what came is compared with it.", (400,)),
    "Repr-Digest": Named(_DIGEST_HEADER, "The digest of the file (RFC 9530); what came is compared with it.", (400,)),
    "Content-Range": Named({"type": "string", "pattern": "^bytes \\d{1,15}-\\d{1,15}/\\d{1,15}$"}, "Which bytes these are.", (400,)),
    "Prefer": Named(_STRING, "`wait=60`, or `respond-async` (RFC 7240)."),
    "Range": Named(_STRING, "One range of bytes.", (416,)),
    "Tus-Resumable": Named({"type": "string", "enum": ["1.0.0"]}, "The protocol's version.", (412,)),
    "Upload-Length": Named(_NUMBER | {"maximum": 10**15 - 1}, "How many bytes there will be.", (400, 413)),
    "Upload-Metadata": Named(_STRING, "Pairs of key and Base64, with commas between them.", (400, 404, 409, 422)),
    "Upload-Offset": _UPLOAD_OFFSET,
    "Upload-Checksum": Named(
        {"type": "string", "pattern": "^(sha1 [A-Za-z0-9+/]{27}=|sha256 [A-Za-z0-9+/]{43}=)$"},
        "`sha1` or `sha256`, and the Base64 of the part's checksum.",
        (400, 460),
    ),
    "X-HTTP-Method-Override": Named({"type": "string", "enum": ["HEAD", "PATCH", "DELETE"]}, "Which method is meant.", (405,)),
}
SAID = {
    "X-Request-Id": Named({"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,64}$"}, "The request's id in the log.", is_required=True),
    "Idempotent-Replayed": Named({"type": "string", "enum": ["true"]}, "This is the first reply again."),
    "Import-Exit": Named({"type": "integer", "enum": [0, 1, 2, 3]}, "0 all well, 2 records refused, 1 failed, 3 not finished."),
    "Retry-After": Named(_NUMBER, "Seconds after which to ask again."),
    "Location": Named(_STRING, "Where it is now."),
    "Next-Cursor": Named(_STRING, "`cursor` of the next page."),
    "Queue-Delayed": Named({"type": "string", "enum": ["true"]}, "Redis is away: the batch starts some seconds later."),
    "ETag": Named(_STRING, "The digest, in quotes."),
    "Content-Disposition": Named(_STRING, "The name under which to save it."),
    "Accept-Ranges": Named(_STRING, "`bytes`: ranges are honoured."),
    "Content-Range": Named(_STRING, "Which bytes these are."),
    "Tus-Resumable": Named({"type": "string", "enum": ["1.0.0"]}, "The protocol's version.", is_required=True),
    "Tus-Version": Named(_STRING, "The versions that are spoken."),
    "Tus-Extension": Named(_STRING, "The extensions that are spoken."),
    "Tus-Max-Size": Named(_NUMBER, "The largest upload, in bytes."),
    "Tus-Checksum-Algorithm": Named(_STRING, "The checksums that are compared."),
    "Upload-Offset": Named(_NUMBER, "How many bytes have come."),
    "Upload-Length": Named(_NUMBER, "How many bytes there will be."),
    "Upload-Metadata": Named(_STRING, "As it was sent."),
    "Upload-Expires": Named(_STRING, "When the upload is forgotten if nothing comes."),
    "File-Digest": Named(_SHA256, "The digest of the file that the upload has become."),
    "WWW-Authenticate": Named(_STRING, "How a key may be sent."),
    "Allow": Named(_STRING, "The methods that are allowed."),
}  # fmt: skip
REFUSALS = {
    400: "The request cannot be carried out as it stands; what is wrong with it is told.",
    401: "No key, or none that is valid.",
    403: "The key lacks the permission, or is limited to other control files, tables, actions or networks.",
    404: "There is no such thing, or it is another key's.",
    405: "Another method is meant.",
    408: "The body came too slowly.",
    409: "What there is stands against it.",
    410: "It is no longer kept.",
    412: "Another version of the protocol is spoken here.",
    413: "The body is larger than is allowed.",
    415: "A body of this kind is not read here.",
    416: "There are no such bytes.",
    422: "It cannot be carried out.",
    423: "Another request is writing to it.",
    429: "Too many requests without a valid key came from this address.",
    460: "The checksum is another.",
    500: "Something went wrong here; the log tells more.",
    503: "The catalog or the target cannot be reached.",
    507: "The spool is full.",
}
REFUSAL_SAYS = {401: ("WWW-Authenticate",), 405: ("Allow",), 409: ("Retry-After", "Upload-Offset"), 412: ("Tus-Version",),
                413: ("Tus-Max-Size",), 423: ("Retry-After",), 429: ("Retry-After",), 503: ("Retry-After",)}  # fmt: skip
