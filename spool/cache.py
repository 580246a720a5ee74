"""A host's own copies of stored bytes, by digest: what has been read or sent here once need not be fetched again.

They are checked on their way in, read-only, and bounded: the one that was used longest ago goes first. Several processes may share them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from io import BufferedReader
from pathlib import Path

from spool.files import BLOB_MODE, make_folder


class Cache:
    """Copies in a folder, of at most `max_bytes` together. What is being fetched, or waits to be sent, comes on top."""

    def __init__(self, root: Path, max_bytes: int) -> None:
        self._root, self._max_bytes = root, max_bytes
        make_folder(root)

    def open(self, digest: str) -> BufferedReader | None:
        """Open a copy; None where there is none."""
        with suppress(FileNotFoundError):
            file = self._place(digest).open("rb")
            with suppress(FileNotFoundError):  # it may be on its way out, and is read all the same
                os.utime(self._place(digest))
            return file
        return None

    def has_room(self, size: int) -> bool:
        """Tell whether bytes of this size would be kept: none that would drive out all others."""
        return size <= self._max_bytes // 2

    def keep(self, partial: Path, digest: str, size: int) -> None:
        """Take a local file of these bytes, which is gone afterwards, if there is room for it."""
        if not self.has_room(size):
            return
        partial.chmod(BLOB_MODE)
        partial.replace(self._place(digest))
        self._make_room()

    def drop(self, digest: str) -> None:
        """Forget a copy."""
        self._place(digest).unlink(missing_ok=True)

    def _make_room(self) -> None:
        copies = sorted(self._copies())
        total = sum(size for _, size, _ in copies)
        for _, size, path in copies:
            if total <= self._max_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size

    def _copies(self) -> Iterator[tuple[float, int, Path]]:
        for path in self._root.iterdir():
            with suppress(FileNotFoundError):
                facts = path.stat()
                yield facts.st_mtime, facts.st_size, path

    def _place(self, digest: str) -> Path:
        return self._root / digest
