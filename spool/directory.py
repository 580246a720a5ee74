"""A spool in a directory of the local (or a shared) file system.

sha256/ab/<digest>       stored bytes, read-only
partial/<random>         uploads on their way, on the same file system so that a rename is all it takes to store them
uploads/<id>/            uploads that arrive in parts: see spool/resumable.py
segments/<run>/<name>    results of runs that are not finished
marker                   the spool's own random id
lock                     taken shared when a blob is sent again, exclusively when one is deleted
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path

import spool
from errors import DigestMismatch, DigestUnknown
from spool.files import full_disk_told, make_folder, put, remove_abandoned, sync_folder
from spool.receiver import DirectoryReceiver
from spool.resumable import DirectoryUploads

log = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


class DirectorySpool:
    """Spool (see the protocol in spool/__init__.py) whose root is a folder, made when it is missing."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = Path(root).absolute()
        for name in ("sha256", "partial", "segments"):
            make_folder(self._root / name)
        self.uploads = DirectoryUploads(self._root / "uploads", self._keep)

    # Blobs ------------------------------------------------------------------------------------------------------
    def receive(self, max_bytes: int | None = None) -> DirectoryReceiver:
        """Begin to store bytes; at most `max_bytes` of them."""
        return DirectoryReceiver(self._partial(), self._keep, max_bytes)

    def _keep(self, partial: Path, fd: int, digest: str, size: int) -> None:
        """Give received bytes their place, unless they are stored already; a stored file of another size is broken and replaced."""
        place = self._place(digest)
        with self._locked(fcntl.LOCK_SH), suppress(FileNotFoundError):
            if place.stat().st_size == size:
                os.utime(place)  # tells `delete` that the blob is wanted again
                sync_folder(place.parent)  # a twin may have renamed it this very instant, and not synced yet
                return
            log.warning("the stored blob %s had the wrong size and was replaced", digest)
        put(partial, fd, place)

    def open(self, digest: str) -> BufferedReader:
        """Open stored bytes for reading, seekable. Raises DigestUnknown."""
        try:
            return self._place(digest).open("rb")
        except FileNotFoundError:
            raise DigestUnknown(f"the spool holds nothing under {digest}") from None

    def size(self, digest: str) -> int | None:
        """Return the size in bytes of what is stored under a digest, None when nothing is."""
        try:
            return self._place(digest).stat().st_size
        except (FileNotFoundError, DigestUnknown):
            return None

    def verify(self, digest: str) -> None:
        """Read all bytes and compare them with their digest. Raises DigestUnknown, or DigestMismatch when they were altered."""
        with self.open(digest) as blob:
            actual = hashlib.file_digest(blob, hashlib.sha256).hexdigest()
        if actual != digest:
            raise DigestMismatch(digest, actual)

    def delete(self, digest: str, unused_seconds: float = 3600) -> bool:
        """Delete stored bytes and say whether it was done; not when they were sent (again) within the last `unused_seconds`."""
        place = self._place(digest)
        with self._locked(fcntl.LOCK_EX):
            try:
                if time.time() - place.stat().st_mtime < unused_seconds:
                    return False
                place.unlink()
            except FileNotFoundError:
                return False
        sync_folder(place.parent)
        return True

    def digests(self, unused_seconds: float) -> Iterator[str]:
        """Yield the digests of what is stored and was not sent (again) within the last `unused_seconds`."""
        limit = time.time() - unused_seconds
        for place in (self._root / "sha256").glob("??/*"):
            with suppress(FileNotFoundError):
                if place.stat().st_mtime <= limit:
                    yield place.name

    # Segments ---------------------------------------------------------------------------------------------------
    def write_segment(self, run: str, name: str, data: bytes) -> None:
        """Store a segment of a run's results durably; an older one of this name is replaced. Raises SpoolFull."""
        place = self._segment(run, name)
        partial = self._partial()
        with full_disk_told(), partial.open("xb") as file:
            try:
                file.write(data)
                file.flush()
                put(partial, file.fileno(), place)
            finally:
                partial.unlink(missing_ok=True)

    def read_segment(self, run: str, name: str) -> bytes:
        """Return a segment of a run's results. Raises DigestUnknown when there is none of this name."""
        try:
            return self._segment(run, name).read_bytes()
        except FileNotFoundError:
            raise DigestUnknown(f"run {run} has no segment {name}") from None

    def segments(self, run: str) -> list[str]:
        """Return the names of a run's segments, sorted; empty for an unknown run."""
        try:
            return sorted(path.name for path in self._run(run).iterdir())
        except FileNotFoundError:
            return []

    def drop_segments(self, run: str) -> None:
        """Delete all segments of a run; does nothing for an unknown one."""
        with suppress(FileNotFoundError):
            shutil.rmtree(self._run(run))

    def runs(self) -> list[str]:
        """Return the names of the runs that have segments, in any order."""
        return [path.name for path in (self._root / "segments").iterdir()]

    # The spool itself -------------------------------------------------------------------------------------------
    def marker(self) -> str:
        """Return the random id of this very spool, made when it is first asked for and kept in it."""
        place = self._root / "marker"
        with suppress(FileNotFoundError):
            return place.read_text()
        partial = self._partial()
        with partial.open("x") as file:
            file.write(secrets.token_hex(16))
            file.flush()
            os.fsync(file.fileno())
        # A link, unlike a rename, fails where the name is taken: of several processes that start at once one wins.
        with suppress(FileExistsError):
            os.link(partial, place)
        partial.unlink()
        sync_folder(self._root)
        return place.read_text()

    def sweep_partials(self, older_than_seconds: float) -> int:
        """Delete what broken-off uploads left, if nobody writes to it any more; return how many there were."""
        limit = time.time() - older_than_seconds
        return sum(remove_abandoned(path, limit) for path in (self._root / "partial").iterdir())

    # Places -----------------------------------------------------------------------------------------------------
    def _place(self, digest: str) -> Path:
        if spool.parse_digest(digest) is None:
            raise DigestUnknown(f"{digest!r} is no digest")
        return self._root / "sha256" / digest[:2] / digest

    def _partial(self) -> Path:
        return self._root / "partial" / secrets.token_hex(16)

    def _run(self, run: str) -> Path:
        return self._root / "segments" / _checked(run)

    def _segment(self, run: str, name: str) -> Path:
        return self._run(run) / _checked(name)

    @contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        fd = os.open(self._root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(fd, kind)
            yield
        finally:
            os.close(fd)


def _checked(name: str) -> str:
    """Return the name of a run or segment if it can be a file's name and nothing else."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot name a run or a segment")
    return name
