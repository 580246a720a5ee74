"""The spool: bytes stored once, under their digest, and the results segments of runs that are on their way.

`open_spool(url)` gives a Spool. Everything else in Lading speaks of stored bytes by their digest only, never by a path.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO, Protocol, Self
from urllib.parse import unquote

from errors import SettingInvalid

IN_BUCKETS = ("s3://", "gs://", "az://")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def parse_digest(text: str) -> str | None:
    """Return the digest that a text is (SHA-256, 64 lower-case hex digits), or None if it is none.

    >>> parse_digest("../../etc/passwd") is None
    True
    """
    return text if _DIGEST.fullmatch(text) else None


class Receiver(Protocol):
    """Bytes on their way into the spool. Until `commit` nothing of them can be seen; leaving the `with` block discards them."""

    size: int  # bytes written so far

    @property
    def digest(self) -> str:
        """Return the digest of the bytes written so far."""

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        """Take some bytes. Raises TooLarge at the limit given to `receive`, SpoolFull when the disk has no room."""

    def commit(self, expected: str | None = None) -> tuple[str, int]:
        """Store the bytes durably and return (digest, size in bytes).

        Raises DigestMismatch when `expected` is another digest, SpoolFull when the disk has no room; nothing is stored then.
        """

    def discard(self) -> None:
        """Forget the bytes. Does nothing after `commit` or a second time."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_exc: object) -> None: ...


class HeldUpload(Protocol):
    """An upload in parts that only its holder may change."""

    facts: dict[str, Any]  # as they were given; `digest` and `size` are added once its bytes are stored
    size: int  # bytes so far

    def append(self, data: bytes, /) -> None:
        """Take the bytes that follow. Raises SpoolFull; what had room of them stays, and counts."""

    def cut(self, size: int) -> None:
        """Forget all bytes behind the first `size`."""

    def sync(self) -> None:
        """Make durable what has come."""

    def store(self, expected: str | None = None) -> str:
        """Give the bytes their place under their digest and return it; a repeated call does what a broken-off one left to do.

        Raises DigestMismatch when `expected` is another, SpoolFull.
        """

    def note(self, **facts: Any) -> None:
        """Add facts, durably."""

    def remove(self) -> None:
        """Forget the upload, whatever has come of it; what is stored stays."""


class Uploads(Protocol):
    """Uploads in parts, by ids of 32 random hex digits; what has come of them outlives the process that took it."""

    def create(self, upload_id: str, facts: dict[str, Any]) -> None:
        """Begin an upload. Raises UploadHeld where there is one of this id."""

    def find(self, upload_id: str) -> tuple[dict[str, Any], int]:
        """Return an upload's facts, and how many of its bytes are there. Raises UploadUnknown."""

    def touched_at(self, upload_id: str) -> float:
        """Return when bytes or facts last came, in seconds since the epoch. Raises UploadUnknown."""

    def hold(self, upload_id: str) -> AbstractContextManager[HeldUpload]:
        """Keep every other process and thread from an upload. Raises UploadUnknown, and UploadHeld where another has it."""

    def expire(self, older_than_seconds: float) -> int:
        """Forget the uploads for which nothing has come for so long, stored or not, unless one is held; return how many there were."""


class Spool(Protocol):
    """A store of bytes by digest. All its functions may be called from any thread and process."""

    @property
    def uploads(self) -> Uploads:
        """Return the uploads that arrive in parts."""

    def receive(self, max_bytes: int | None = None) -> Receiver:
        """Begin to store bytes; at most `max_bytes` of them."""

    def open(self, digest: str) -> BinaryIO:
        """Open stored bytes for reading, seekable. Raises DigestUnknown."""

    def size(self, digest: str) -> int | None:
        """Return the size in bytes of what is stored under a digest, None when nothing is."""

    def verify(self, digest: str) -> None:
        """Read all bytes and compare them with their digest. Raises DigestUnknown, or DigestMismatch when they were altered."""

    def delete(self, digest: str, unused_seconds: float = 3600) -> bool:
        """Delete stored bytes and say whether it was done; not when they were sent (again) within the last `unused_seconds`.

        Only the sweep calls it. The age keeps a blob that is just being attached to a batch, and that the catalog does not name yet.
        """

    def digests(self, unused_seconds: float) -> Iterator[str]:
        """Yield the digests of what is stored and was not sent (again) within the last `unused_seconds`."""

    def write_segment(self, run: str, name: str, data: bytes) -> None:
        """Store a segment of a run's results durably; an older one of this name is replaced. Raises SpoolFull."""

    def read_segment(self, run: str, name: str) -> bytes:
        """Return a segment of a run's results. Raises DigestUnknown when there is none of this name."""

    def segments(self, run: str) -> list[str]:
        """Return the names of a run's segments, sorted; empty for an unknown run."""

    def drop_segments(self, run: str) -> None:
        """Delete all segments of a run; does nothing for an unknown one."""

    def runs(self) -> list[str]:
        """Return the names of the runs that have segments, in any order."""

    def marker(self) -> str:
        """Return the random id of this very spool, made when it is first asked for and kept in it."""

    def sweep_partials(self, older_than_seconds: float) -> int:
        """Delete what broken-off uploads left, if nobody writes to it any more; return how many there were."""


def open_spool(url: str, local: str = "var/spool-cache", cache_bytes: int = 5 * 1024**3) -> Spool:
    """Open the spool that a URL names: `file:var/spool`, `file:/abs/spool` or `file:///abs/spool`, or a bucket. Raises SettingInvalid.

    Of a bucket, the local folder keeps copies, of at most `cache_bytes`, and what is on its way.
    """
    if url.startswith(IN_BUCKETS):
        from spool.objects import ObjectSpool

        return ObjectSpool(url, Path(local), cache_bytes)
    from spool.directory import DirectorySpool

    scheme, _, path = url.partition(":")
    if path.startswith("//"):
        host, slash, rest = path[2:].partition("/")
        path = slash + rest if host in ("", "localhost") else ""
    if scheme != "file" or not path:
        raise SettingInvalid(f"SPOOL_URL is {url!r}; allowed: file:var/spool (relative), file:/absolute/path, s3://bucket/prefix")
    return DirectorySpool(unquote(path))
