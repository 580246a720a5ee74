"""A spool in an object store: S3 and what speaks its language, Google Cloud Storage, Azure.

sha256/ab/<digest>            stored bytes
used/ab/<digest>              empty; when those were last sent again
deleting/<digest>/<random>    held by a sweep that is about to delete them
uploads/<id>/...              uploads that arrive in parts: see spool/object_uploads.py
segments/<run>/<name>         results of runs that are not finished
marker                        the spool's own random id

Received bytes go into a local file first: only when all have come is their digest, and so their key, known. Then they are sent, tried again
where the store fails, and the local file becomes this host's copy.
"""

from __future__ import annotations

import hashlib
import io
import logging
import re
import secrets
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

import spool
from errors import DigestMismatch, DigestUnknown
from spool.bucket import Bucket
from spool.cache import Cache
from spool.files import make_folder, remove_abandoned
from spool.object_uploads import ObjectUploads
from spool.receiver import DirectoryReceiver

log = logging.getLogger(__name__)

BLOCK_BYTES = 4 * 1024 * 1024
DELETING_SECONDS = 180  # a sweep that takes longer over one blob has died; more than its requests can take, all tries together
DELETE_WITHIN_SECONDS = 15
WAIT_SECONDS = 0.2
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


class ObjectSpool:
    """Spool (see the protocol in spool/__init__.py) in a bucket, with copies in a local folder, of at most `cache_bytes`."""

    def __init__(self, url: str, local: Path, cache_bytes: int) -> None:
        self._bucket = Bucket(url)
        self._partial = local.absolute() / "partial"
        make_folder(self._partial)
        self._cache = Cache(local.absolute() / "sha256", cache_bytes)
        self.uploads = ObjectUploads(self._bucket, self.receive)

    # Blobs ------------------------------------------------------------------------------------------------------
    def receive(self, max_bytes: int | None = None) -> DirectoryReceiver:
        """Begin to store bytes; at most `max_bytes` of them."""
        return DirectoryReceiver(self._partial / secrets.token_hex(16), self._keep, max_bytes)

    def _keep(self, partial: Path, _fd: int, digest: str, size: int) -> None:
        """Send received bytes, unless they are stored already; a stored object of another size is broken and replaced."""
        key = _key(digest)
        self._send_or_touch(partial, digest, size)
        # A sweep may be deleting what we have just found or sent. It says so first: without its word, what is there now stays.
        while True:
            self._wait_for_sweeps(digest)
            if self._bucket.head(key) is not None:
                break
            self._send_or_touch(partial, digest, size)
        self._cache.keep(partial, digest, size)

    def _send_or_touch(self, partial: Path, digest: str, size: int) -> None:
        key = _key(digest)
        stored = self._bucket.head(key)
        if stored is not None and stored.size == size:
            self._bucket.put(_used(digest), b"")  # tells `delete` that the blob is wanted again
            return
        if stored is not None:
            log.warning("the stored blob %s had the wrong size and was replaced", digest)
        self._bucket.put_file(key, partial, size)

    def open(self, digest: str) -> BinaryIO:
        """Open stored bytes for reading, seekable. Raises DigestUnknown."""
        if (copy := self._cache.open(_checked_digest(digest))) is not None:
            return copy
        size = self.size(digest)
        if size is None:
            raise self._absent(digest)
        if size <= BLOCK_BYTES and self._cache.has_room(size):
            self._fetch(digest)
            return self._cache.open(digest) or self.open(digest)
        return io.BufferedReader(_Ranged(self._bucket, digest, size), 256 * 1024)

    def size(self, digest: str) -> int | None:
        """Return the size in bytes of what is stored under a digest, None when nothing is."""
        if spool.parse_digest(digest) is None:
            return None
        found = self._bucket.head(_key(digest))
        return None if found is None else found.size

    def verify(self, digest: str) -> None:
        """Read all bytes, from this host's copy if it has one, and compare them with their digest; what is read is kept as a copy.

        Raises DigestUnknown, or DigestMismatch when they were altered.
        """
        if (copy := self._cache.open(_checked_digest(digest))) is not None:
            with copy:
                if hashlib.file_digest(copy, hashlib.sha256).hexdigest() == digest:
                    return
            log.warning("this host's copy of %s was altered and is fetched anew", digest)
            self._cache.drop(digest)
        self._fetch(digest)

    def _fetch(self, digest: str) -> None:
        """Read stored bytes, compare them with their digest, and keep them as a copy where they fit."""
        size = self.size(digest)
        if size is None:
            raise self._absent(digest)
        is_kept, hashed = self._cache.has_room(size), hashlib.sha256()
        with DirectoryReceiver(self._partial / secrets.token_hex(16), self._keep_copy, None) as receiver:
            for start in range(0, size, BLOCK_BYTES):
                block = _block(self._bucket, digest, start, min(BLOCK_BYTES, size - start))
                hashed.update(block)
                if is_kept:
                    receiver.write(block)
            if hashed.hexdigest() != digest:
                raise DigestMismatch(digest, hashed.hexdigest())
            if is_kept:
                receiver.commit(digest)

    def _absent(self, digest: str) -> DigestUnknown:
        """Return the error of bytes that are not there; SpoolUnavailable where the whole bucket is not, which no answer to HEAD tells."""
        self._bucket.get_range(_key(digest), 0, 1)
        return _unknown(digest)

    def _keep_copy(self, partial: Path, _fd: int, digest: str, size: int) -> None:
        self._cache.keep(partial, digest, size)

    def delete(self, digest: str, unused_seconds: float = 3600) -> bool:
        """Delete stored bytes and say whether it was done; not when they were sent (again) within the last `unused_seconds`."""
        mark = f"deleting/{_checked_digest(digest)}/{secrets.token_hex(8)}"
        began = time.monotonic()
        self._bucket.put(mark, b"")
        try:
            marked = self._bucket.head(mark)
            found = [meta for key in (_key(digest), _used(digest)) if (meta := self._bucket.head(key)) is not None]
            if marked is None or not any(meta.key == _key(digest) for meta in found):
                return False
            # All three times are the store's, so that no clock of ours matters.
            if marked.modified_at - max(meta.modified_at for meta in found) < timedelta(seconds=unused_seconds):
                return False
            if time.monotonic() - began > DELETE_WITHIN_SECONDS:
                return False  # whoever waits for us may take us for dead before we are done
            self._bucket.delete([_key(digest), _used(digest)])
            self._cache.drop(digest)
            return True
        finally:
            self._bucket.delete([mark])

    def _wait_for_sweeps(self, digest: str) -> None:
        """Wait until no sweep is deleting these bytes; those that take too long have died, and their marks are removed."""
        until = time.monotonic() + DELETING_SECONDS
        first = marks = {meta.key for meta in self._bucket.below(f"deleting/{digest}")}
        while marks:
            time.sleep(WAIT_SECONDS)
            if time.monotonic() > until:
                self._bucket.delete(sorted(first))
            marks = {meta.key for meta in self._bucket.below(f"deleting/{digest}")}

    def digests(self, unused_seconds: float) -> Iterator[str]:
        """Yield the digests of what is stored and was not sent (again) within the last `unused_seconds`."""
        limit = time.time() - unused_seconds
        used = {_last(meta.key) for meta in self._bucket.below("used") if meta.modified_at.timestamp() > limit}
        for meta in self._bucket.below("sha256"):
            digest = _last(meta.key)
            if spool.parse_digest(digest) and digest not in used and meta.modified_at.timestamp() <= limit:
                yield digest

    # Segments ---------------------------------------------------------------------------------------------------
    def write_segment(self, run: str, name: str, data: bytes) -> None:
        """Store a segment of a run's results durably; an older one of this name is replaced."""
        self._bucket.put(f"{_run(run)}/{_checked(name)}", data)

    def read_segment(self, run: str, name: str) -> bytes:
        """Return a segment of a run's results. Raises DigestUnknown when there is none of this name."""
        data = self._bucket.get(f"{_run(run)}/{_checked(name)}")
        if data is None:
            raise DigestUnknown(f"run {run} has no segment {name}")
        return data

    def segments(self, run: str) -> list[str]:
        """Return the names of a run's segments, sorted; empty for an unknown run."""
        return sorted(_last(meta.key) for meta in self._bucket.below(_run(run)))

    def drop_segments(self, run: str) -> None:
        """Delete all segments of a run; does nothing for an unknown one."""
        self._bucket.delete([meta.key for meta in self._bucket.below(_run(run))])

    def runs(self) -> list[str]:
        """Return the names of the runs that have segments, in any order."""
        return sorted({meta.key.split("/")[1] for meta in self._bucket.below("segments")})

    # The spool itself -------------------------------------------------------------------------------------------
    def marker(self) -> str:
        """Return the random id of this very spool, made when it is first asked for and kept in it."""
        found = self._bucket.get("marker")
        if found is None:
            self._bucket.create("marker", secrets.token_hex(16).encode())
            found = self._bucket.get("marker")
        return (found or b"").decode()

    def sweep_partials(self, older_than_seconds: float) -> int:
        """Delete what broken-off uploads left on this host, and what sweeps left that died; return how many there were."""
        limit = time.time() - older_than_seconds
        stale = [meta.key for meta in self._bucket.below("deleting") if meta.modified_at.timestamp() <= limit]
        self._bucket.delete(stale)
        return len(stale) + sum(remove_abandoned(path, limit) for path in self._partial.iterdir())


class _Ranged(io.RawIOBase):
    """Stored bytes, read by ranges, one block of them in memory."""

    def __init__(self, bucket: Bucket, digest: str, size: int) -> None:
        self._bucket, self._digest, self._size = bucket, digest, size
        self._at = 0
        self._block, self._block_at = b"", 0

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that it can be sought in."""
        return True

    def tell(self) -> int:
        """Return the place of the next byte."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to another place."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(base + offset, 0)
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read what the block that holds the next byte has of it."""
        if self._at >= self._size:
            return 0
        if not self._block_at <= self._at < self._block_at + len(self._block):
            self._block = _block(self._bucket, self._digest, self._at, min(BLOCK_BYTES, self._size - self._at))
            self._block_at = self._at
        start = self._at - self._block_at
        piece = self._block[start : start + len(buffer)]
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


def _block(bucket: Bucket, digest: str, start: int, size: int) -> bytes:
    block = bucket.get_range(_key(digest), start, size)
    if block is None:
        raise _unknown(digest)
    return block


def _key(digest: str) -> str:
    return f"sha256/{_checked_digest(digest)[:2]}/{digest}"


def _used(digest: str) -> str:
    return f"used/{digest[:2]}/{digest}"


def _last(key: str) -> str:
    return key.rpartition("/")[2]


def _run(run: str) -> str:
    return f"segments/{_checked(run)}"


def _checked_digest(digest: str) -> str:
    if spool.parse_digest(digest) is None:
        raise DigestUnknown(f"{digest!r} is no digest")
    return digest


def _checked(name: str) -> str:
    """Return the name of a run or segment if it can be the last part of a key and nothing else."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot name a run or a segment")
    return name


def _unknown(digest: str) -> DigestUnknown:
    return DigestUnknown(f"the spool holds nothing under {digest}")
