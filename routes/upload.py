"""Uploads: bytes from the socket straight into the spool, in one pass and in flat memory, as a form's file or as a raw body."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import RawIOBase
from typing import IO, Any, cast

from flask import Request
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge
from werkzeug.formparser import MultiPartParser

from errors import DigestMismatch, Refusal, TooLarge, TooSlow
from spool import Receiver, Spool, parse_digest

# Werkzeug's parser refuses a buffer that holds more than the largest text field may be long, and it keeps up to a boundary's length
# between two reads: hence just under that limit. Larger buffers make it more than twice as fast as its default of 64 KiB.
_FIELD_BYTES = 500_000
_BUFFER_BYTES = 450_000
_PARTS = 20
HEAD_BYTES = 64  # enough to tell a workbook or JSON from a table of text
_READ_ON_SECONDS = 5.0
_SHA_256 = re.compile(r"(?:^|,)\s*sha-256=:([A-Za-z0-9+/=]*):\s*(?=[,;]|$)")


@dataclass
class Upload:
    """What arrived: a form's text fields, and the bytes on their way into the spool (None where the form has no file)."""

    fields: dict[str, str]
    receiver: Receiver | None = None
    file_name: str = ""  # as the client calls it; good for nothing but display
    head: bytes = b""  # the first bytes of the file
    part_type: str = ""  # what a form says that the file is
    body_digest: str | None = None  # of the whole body of a form that came with a Content-Digest
    said_digests: tuple[str, ...] = ()  # what the headers say of the file or of the whole body

    def check(self) -> None:
        """Raise DigestMismatch where the headers, or the form's field `sha256`, say another digest than the bytes have."""
        assert self.receiver is not None  # noqa: S101 - nothing is checked without a file
        actual = self.receiver.digest
        for said in self.said_digests:
            if said not in (actual, self.body_digest):
                raise DigestMismatch(said, actual)
        if (said := self.fields.get("sha256", "").lower()) and said != actual:
            if parse_digest(said) is None:
                raise Refusal(400, "digest_invalid", "sha256: 64 hexadecimal digits are expected")
            raise DigestMismatch(said, actual)


@contextmanager
def receive_form(request: Request, spool: Spool, max_bytes: int) -> Iterator[Upload]:
    """Read a multipart form whose part `file`, if it has one, goes into the spool; what is not committed in the block is discarded.

    Text fields may stand before and after the file. `max_bytes` is for the whole body. Raises Refusal (400, 413, 415), SpoolFull.
    """
    if request.mimetype != "multipart/form-data":
        raise Refusal(415, "not_multipart", "A form is expected as multipart/form-data: curl -F name=... -F file=@...")
    said = _said_digests(request)
    stream = _Hashed(limited(request, max_bytes)) if said else limited(request, max_bytes)
    parser = _Parser(spool, max_bytes)
    try:
        with broken_uploads_refused(max_bytes):
            fields, files = parser.parse(cast(IO[bytes], stream), _boundary(request), request.content_length)
        upload = Upload(
            _once(fields.items(multi=True)), body_digest=stream.digest() if isinstance(stream, _Hashed) else None, said_digests=said
        )
        for part, file in files.items(multi=True):
            _take(upload, part, file)
        yield upload
    finally:
        for receiver in parser.receivers:
            receiver.discard()


@contextmanager
def receive_body(request: Request, spool: Spool, max_bytes: int) -> Iterator[Upload]:
    """Read a raw body into the spool; it is discarded unless it is committed in the block. Raises Refusal (400, 413, 415), SpoolFull."""
    said = _said_digests(request)
    stream = limited(request, max_bytes)
    with spool.receive(max_bytes) as receiver:
        with broken_uploads_refused(max_bytes):
            head = b""
            while data := stream.read(_BUFFER_BYTES):
                receiver.write(data)
                head += data[: HEAD_BYTES - len(head)]
        yield Upload({}, receiver, said_digests=said, head=head)


@contextmanager
def receive(request: Request, spool: Spool, max_bytes: int) -> Iterator[Upload]:
    """Read the file of a multipart form, or else the body as it is, into the spool. Raises Refusal, for a form without a file too."""
    is_form = request.mimetype == "multipart/form-data"
    with (receive_form if is_form else receive_body)(request, spool, max_bytes) as upload:
        if upload.receiver is None:
            raise Refusal(400, "request_invalid", "There is no file: send it as -F file=@flights.csv, or as the body.")
        yield upload


class _Parser(MultiPartParser):
    """Werkzeug's parser, its files going into the spool."""

    def __init__(self, spool: Spool, max_bytes: int) -> None:
        super().__init__(max_form_memory_size=_FIELD_BYTES, buffer_size=_BUFFER_BYTES, max_form_parts=_PARTS)
        self._spool, self._max_bytes = spool, max_bytes
        self.receivers: list[Receiver] = []

    def start_file_streaming(self, event: Any, total_content_length: int | None) -> IO[bytes]:
        """Give the parser what it writes a file's bytes to."""
        self.receivers.append(self._spool.receive(self._max_bytes))
        return cast(IO[bytes], _Written(self.receivers[-1]))


class _Written:
    """A receiver as the parser wants it: it writes to it, rewinds it, and hands it on."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver, self.head = receiver, b""

    def write(self, data: bytes | bytearray) -> int:
        """Take some bytes."""
        self.head += data[: HEAD_BYTES - len(self.head)]
        return self.receiver.write(data)

    def seek(self, _offset: int) -> None:
        """Do nothing: nobody reads an upload back."""


class _Hashed(RawIOBase):
    """A stream that also takes the digest of all that is read from it: a form's Content-Digest is that of its whole body."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._hash = stream, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """Read from the stream."""
        data = self._stream.read(size)
        self._hash.update(data)
        return data

    def digest(self) -> str:
        """Return the digest of all that was read."""
        return self._hash.hexdigest()


def limited(request: Request, max_bytes: int) -> IO[bytes]:
    """Return the body's stream, which ends with 413 at the limit; 413 before the first byte where its length is told in advance."""
    if request.content_encoding not in (None, "", "identity"):
        raise Refusal(
            415, "content_encoding", "Content-Encoding is not supported here: send the file as it is; .gz and .zst files are read."
        )
    if request.content_length is not None and request.content_length > max_bytes:
        raise too_large(max_bytes)
    # Werkzeug's limit is what is not reached: it refuses to read on there even to learn that nothing follows.
    request.max_content_length = max_bytes + 1
    return request.stream


def too_large(max_bytes: int) -> Refusal:
    """Return the refusal of an upload of more than `max_bytes`."""
    return Refusal(413, "too_large", f"The upload is larger than the limit of {max_bytes} bytes.")


def read_on(body: IO[bytes]) -> None:
    """Read, for a few seconds, the rest of a body that was refused, once the reply is sent.

    A connection that is closed on a client who is still sending is reset, and the reply lost on its way.
    """
    deadline = time.monotonic() + _READ_ON_SECONDS
    with suppress(OSError):  # The client has gone: it has its reply.
        while time.monotonic() < deadline and body.read(_BUFFER_BYTES):
            pass


@contextmanager
def broken_uploads_refused(max_bytes: int) -> Iterator[None]:
    """Turn what can go wrong with a body on its way into refusals."""
    try:
        yield
    except (TooLarge, RequestEntityTooLarge) as error:
        detail = "" if isinstance(error, TooLarge) else f" (or a text field longer than {_FIELD_BYTES}, or more than {_PARTS} parts)"
        refusal = too_large(max_bytes)
        raise Refusal(413, refusal.code, refusal.detail + detail) from error
    except ClientDisconnected as error:
        # A socket whose time is up says that it would have to wait.
        if isinstance(error.__context__, TooSlow | BlockingIOError):
            raise Refusal(408, "too_slow", "The upload came too slowly, or stood still: it was given up.") from error
        raise Refusal(400, "upload_broken_off", "The upload ended before its end.") from error
    except ValueError as error:
        raise Refusal(400, "form_invalid", f"The body is no multipart form: {error}") from error


def _boundary(request: Request) -> bytes:
    boundary = request.mimetype_params.get("boundary", "")
    if not boundary.isascii() or not boundary:
        raise Refusal(400, "form_invalid", "The form's Content-Type names no boundary.")
    return boundary.encode()


def _once(fields: Iterable[tuple[str | None, str]]) -> dict[str, str]:
    """Return a form's text fields; one that is there twice has no one meaning."""
    once: dict[str, str] = {}
    for name, value in fields:
        if name is None or name in once:
            raise Refusal(400, "form_invalid", "A field without a name." if name is None else f"{name[:80]}: sent twice")
        once[name] = value
    return once


def _take(upload: Upload, part: str | None, file: FileStorage) -> None:
    """Let a form's file be the upload's; there is room for one, and it is called `file`, or `File` as other systems have it."""
    is_file = part in ("file", "File")
    if not is_file or upload.receiver is not None:
        said = "file: sent twice" if is_file else f"{str(part)[:80]}: only the field `file` may hold a file"
        raise Refusal(400, "form_invalid", said)
    written = cast(_Written, file.stream)
    upload.receiver, upload.head = written.receiver, written.head
    upload.file_name, upload.part_type = file.filename or "", file.mimetype
    upload.said_digests += _digests_of(file.headers.get("Content-Digest"), file.headers.get("Repr-Digest"))


def _said_digests(request: Request) -> tuple[str, ...]:
    return _digests_of(request.headers.get("Content-Digest"), request.headers.get("Repr-Digest"))


def _digests_of(*headers: str | None) -> tuple[str, ...]:
    """Return the SHA-256 digests that Content-Digest and Repr-Digest tell (RFC 9530), as hexadecimal digits.

    >>> _digests_of("sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:", None)
    ('e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',)
    """
    return tuple(_digest_of(header) for header in headers if header is not None)


def _digest_of(header: str) -> str:
    # A digest that nobody compares would only look like a safeguard, so one that we cannot compare is refused.
    found = _SHA_256.findall(header)
    try:
        raw = base64.b64decode(found[-1], validate=True)
    except (IndexError, binascii.Error):
        raw = b""
    if len(raw) != 32:
        raise Refusal(
            400, "digest_invalid", "Content-Digest and Repr-Digest are compared as sha-256=:BASE64:, and nothing else (RFC 9530)."
        )
    return raw.hex()
