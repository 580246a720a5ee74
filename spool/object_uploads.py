"""Uploads that arrive in parts, in an object store.

uploads/<id>/facts            what is to be known of one, as JSON; replaced as a whole
uploads/<id>/data/<offset>    its bytes so far, in pieces that follow each other; gone once they are stored
uploads/<id>/lock-<number>    held by the process that writes to it, which renews it; whoever finds it old takes the next number
"""

from __future__ import annotations

import json
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

from errors import DigestMismatch, SpoolUnavailable, UploadHeld, UploadUnknown
from spool.bucket import Bucket, Meta
from spool.receiver import DirectoryReceiver

PIECE_BYTES = 8 * 1024 * 1024
RENEW_SECONDS = 5.0
LOCK_SECONDS = 30.0  # how long a lock counts that nobody renews
_ID = re.compile(r"[0-9a-f]{32}")


class ObjectUploads:
    """Uploads in parts (see the protocol in spool/__init__.py); `receive` begins to store the bytes of a whole one."""

    def __init__(self, bucket: Bucket, receive: Callable[[], DirectoryReceiver]) -> None:
        self._bucket, self._receive = bucket, receive

    def create(self, upload_id: str, facts: dict[str, Any]) -> None:
        """Begin an upload under an id of 32 random hex digits. Raises UploadHeld where one of this id has just been begun."""
        if not self._bucket.create(f"{_folder(upload_id)}/facts", json.dumps(facts).encode()):
            raise UploadHeld(f"the upload {upload_id} has just been begun")

    def find(self, upload_id: str) -> tuple[dict[str, Any], int]:
        """Return an upload's facts, and how many of its bytes are there. Raises UploadUnknown."""
        facts = _facts(self._bucket, upload_id)
        return facts, _size(self._bucket, upload_id, facts)

    def touched_at(self, upload_id: str) -> float:
        """Return when bytes or facts last came, in seconds since the epoch. Raises UploadUnknown."""
        times = [meta.modified_at.timestamp() for meta in self._bucket.below(_folder(upload_id)) if "/lock-" not in meta.key]
        if not times:
            raise UploadUnknown(upload_id)
        return max(times)

    @contextmanager
    def hold(self, upload_id: str) -> Iterator[HeldUpload]:
        """Keep every other process and thread from an upload. Raises UploadUnknown, and UploadHeld where another has it."""
        _facts(self._bucket, upload_id)  # before a lock is made for nothing
        with _Lock(self._bucket, _folder(upload_id)) as lock:
            facts = _facts(self._bucket, upload_id)
            yield HeldUpload(self._bucket, upload_id, facts, lock.check, self._receive)

    def expire(self, older_than_seconds: float) -> int:
        """Forget the uploads for which nothing has come for so long, stored or not, unless one is held; return how many there were."""
        gone = 0
        for upload_id in self._bucket.folders("uploads"):
            with suppress(UploadUnknown, UploadHeld):
                if self.touched_at(upload_id) > time.time() - older_than_seconds:
                    continue
                with _Lock(self._bucket, _folder(upload_id)):
                    if self.touched_at(upload_id) <= time.time() - older_than_seconds:
                        _remove(self._bucket, upload_id)
                        gone += 1
        return gone


class HeldUpload:
    """An upload that only the holder may change. Bytes are collected, and become a piece when they are many, or by `sync`."""

    def __init__(
        self, bucket: Bucket, upload_id: str, facts: dict[str, Any], check: Callable[[], None], receive: Callable[[], DirectoryReceiver]
    ) -> None:
        self.facts, self.size = facts, _size(bucket, upload_id, facts)
        self._bucket, self._id, self._check, self._receive = bucket, upload_id, check, receive
        self._waiting = bytearray()  # the last bytes, not yet in a piece

    def append(self, data: bytes) -> None:
        """Take the bytes that follow."""
        self._waiting += data
        self.size += len(data)
        if len(self._waiting) >= PIECE_BYTES:
            self.sync()

    def cut(self, size: int) -> None:
        """Forget all bytes behind the first `size`."""
        self.sync()
        kept: list[tuple[int, Meta]] = []
        # From the end, so that whatever breaks this off, the pieces that are left follow each other.
        for start, piece in reversed(_pieces(self._bucket, self._id)):
            if start >= size:
                self._bucket.delete([piece.key])
            else:
                kept.append((start, piece))
        if kept and kept[0][0] + kept[0][1].size > size:
            start, piece = kept[0]
            self._bucket.put(piece.key, self._bucket.get_range(piece.key, 0, size - start) or b"")
        self.size = size

    def sync(self) -> None:
        """Make durable what has come."""
        if self._waiting:
            self._check()
            self._bucket.put(f"{_folder(self._id)}/data/{self.size - len(self._waiting):020d}", bytes(self._waiting))
            self._waiting.clear()

    def store(self, expected: str | None = None) -> str:
        """Give the bytes their place under their digest and return it; a repeated call does what a broken-off one left to do.

        Raises DigestMismatch when `expected` is another, SpoolFull.
        """
        self.sync()
        if "digest" not in self.facts:
            with self._receive() as receiver:
                for data in _data(self._bucket, self._id):
                    receiver.write(data)
                if receiver.size != self.size:
                    raise SpoolUnavailable(f"the upload {self._id} has {self.size} bytes, but {receiver.size} could be read")
                if expected is not None and receiver.digest != expected:
                    raise DigestMismatch(expected, receiver.digest)
                digest, size = receiver.commit()
            self.note(digest=digest, size=size)
        self._bucket.delete([piece.key for _, piece in reversed(_pieces(self._bucket, self._id))])
        return str(self.facts["digest"])

    def note(self, **facts: Any) -> None:
        """Add facts, durably."""
        self._check()
        self.facts = self.facts | facts
        self._bucket.put(f"{_folder(self._id)}/facts", json.dumps(self.facts).encode())

    def remove(self) -> None:
        """Forget the upload, whatever has come of it; what is stored stays."""
        self._waiting.clear()
        _remove(self._bucket, self._id)


class _Lock:
    """A lock that several hosts respect: an object that its holder renews, since a store knows nothing of processes that have died."""

    def __init__(self, bucket: Bucket, folder: str) -> None:
        self._bucket, self._folder = bucket, folder
        self._token = secrets.token_hex(8).encode()
        self._key = ""
        self._renewed_at = 0.0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="upload-lock", daemon=True)

    def __enter__(self) -> _Lock:
        self._renewed_at = time.monotonic()
        number, old = self._next()
        self._key = f"{self._folder}/lock-{number:08d}"
        # Of two that find the same lock old, or none, one can make the next. An answer that was lost may have been a yes.
        if not self._bucket.create(self._key, self._token) and self._bucket.get(self._key) != self._token:
            raise UploadHeld(f"another request writes to {self._folder}")
        self._bucket.delete(old)
        self._thread.start()
        return self

    def _next(self) -> tuple[int, list[str]]:
        """Return the number of the lock that would be ours, and the old ones before it; UploadHeld where one of them counts."""
        found = [meta for meta in self._bucket.below(self._folder) if "/lock-" in meta.key]
        if not found:
            return 1, []
        now = self._bucket.now()
        if any(now - meta.modified_at < timedelta(seconds=LOCK_SECONDS) for meta in found):
            raise UploadHeld(f"another request writes to {self._folder}")
        return max(int(meta.key.rpartition("-")[2]) for meta in found) + 1, [meta.key for meta in found]

    def check(self) -> None:
        """Raise UploadHeld where the lock was not renewed in time, so that another may have it."""
        if time.monotonic() - self._renewed_at > LOCK_SECONDS - RENEW_SECONDS:
            raise UploadHeld(f"the lock of {self._folder} could not be kept")

    def _renew(self) -> None:
        while not self._is_over.wait(RENEW_SECONDS):
            asked_at = time.monotonic()
            with suppress(SpoolUnavailable):  # the next time, perhaps; else `check` says that it is lost
                if self._bucket.get(self._key) == self._token:
                    self._bucket.put(self._key, self._token)
                    self._renewed_at = asked_at

    def __exit__(self, *_exc: object) -> None:
        self._is_over.set()
        self._thread.join()
        with suppress(SpoolUnavailable):  # it grows old
            self._bucket.delete([self._key])


def _folder(upload_id: str) -> str:
    if not _ID.fullmatch(upload_id):
        raise UploadUnknown(upload_id)
    return f"uploads/{upload_id}"


def _facts(bucket: Bucket, upload_id: str) -> dict[str, Any]:
    data = bucket.get(f"{_folder(upload_id)}/facts")
    if data is None:
        raise UploadUnknown(upload_id)
    facts: dict[str, Any] = json.loads(data)
    return facts


def _pieces(bucket: Bucket, upload_id: str) -> list[tuple[int, Meta]]:
    """Return the pieces that follow each other from the first byte on, each with its offset."""
    found: list[tuple[int, Meta]] = []
    size = 0
    for piece in sorted(bucket.below(f"{_folder(upload_id)}/data"), key=lambda meta: meta.key):
        start = int(piece.key.rpartition("/")[2])
        if start != size:
            break
        found.append((start, piece))
        size += piece.size
    return found


def _size(bucket: Bucket, upload_id: str, facts: dict[str, Any]) -> int:
    if "digest" in facts:
        return int(facts["size"])  # they are stored
    return sum(piece.size for _, piece in _pieces(bucket, upload_id))


def _data(bucket: Bucket, upload_id: str) -> Iterator[bytes]:
    for _, piece in _pieces(bucket, upload_id):
        yield bucket.get(piece.key) or b""


def _remove(bucket: Bucket, upload_id: str) -> None:
    """Delete an upload, from its end: broken off, this leaves one that has come less far."""
    pieces = [meta.key for meta in bucket.below(f"{_folder(upload_id)}/data")]
    bucket.delete(sorted(pieces, reverse=True))
    bucket.delete([f"{_folder(upload_id)}/facts"])
