"""One upload on its way into a directory spool: hashed while it is written, in one pass."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Self

from errors import DigestMismatch, TooLarge
from spool.files import full_disk_told

_WRITEBACK_BYTES = 16 * 1024 * 1024


class DirectoryReceiver:
    """Writes a partial file; `keep(partial, fd, digest, size)` gives it its place when it is committed."""

    def __init__(self, partial: Path, keep: Callable[[Path, int, str, int], None], max_bytes: int | None) -> None:
        self.size = 0
        self._partial, self._keep, self._max_bytes = partial, keep, max_bytes
        self._hash = hashlib.sha256()
        self._written_back = 0
        with full_disk_told():
            self._fd: int | None = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        # The lock tells the sweep that somebody still writes here; the kernel frees it when this process ends, however it ends.
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    @property
    def digest(self) -> str:
        """Return the digest of the bytes written so far."""
        return self._hash.hexdigest()

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        """Take some bytes. Raises TooLarge at the limit, SpoolFull when the disk has no room."""
        if self._fd is None:
            raise ValueError("this receiver is closed")
        if self._max_bytes is not None and self.size + len(data) > self._max_bytes:
            raise TooLarge(self._max_bytes)
        self._hash.update(data)
        with full_disk_told():
            _write_all(self._fd, data)
        self.size += len(data)
        if self.size - self._written_back >= _WRITEBACK_BYTES:
            self._start_writeback()
        return len(data)

    def _start_writeback(self) -> None:
        """Let the disk begin with what was written, so that little is left to wait for when the file is synced at the end."""
        assert self._fd is not None  # noqa: S101 - only write() calls this
        os.posix_fadvise(self._fd, self._written_back, self.size - self._written_back, os.POSIX_FADV_DONTNEED)
        self._written_back = self.size

    def commit(self, expected: str | None = None) -> tuple[str, int]:
        """Store the bytes durably and return (digest, size in bytes). Raises DigestMismatch or SpoolFull, storing nothing."""
        if self._fd is None:
            raise ValueError("this receiver is closed")
        digest = self.digest
        try:
            if expected is not None and expected != digest:
                raise DigestMismatch(expected, digest)
            with full_disk_told():
                self._keep(self._partial, self._fd, digest, self.size)
        finally:
            self.discard()
        return digest, self.size

    def discard(self) -> None:
        """Forget the bytes; after `commit` only the handle is left to close."""
        if self._fd is None:
            return
        self._partial.unlink(missing_ok=True)
        os.close(self._fd)
        self._fd = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.discard()


def _write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of `data`: the system may take only a part of it at a time, on a disk that is nearly full always."""
    done = os.write(fd, data)
    while done < len(data):
        done += os.write(fd, memoryview(data)[done:])
