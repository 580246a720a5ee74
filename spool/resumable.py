"""Uploads that arrive in parts, over hours and through several processes, until they are whole and stored as any other.

uploads/<id>/facts    what is to be known of one, as JSON; replaced by a rename
uploads/<id>/data     its bytes so far, gone once they are stored
uploads/<id>/lock     held by the process that writes to it; the kernel frees it when that process ends, however it ends
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from errors import DigestMismatch, UploadHeld, UploadUnknown
from spool.files import full_disk_told, make_folder, sync_folder

_ID = re.compile(r"[0-9a-f]{32}")
Keep = Callable[[Path, int, str, int], None]  # gives (partial file, its handle, digest, size) its place among the blobs


class DirectoryUploads:
    """Uploads in parts (see the protocol in spool/__init__.py), each in a folder of its own."""

    def __init__(self, root: Path, keep: Keep) -> None:
        self._root, self._keep = root, keep
        make_folder(root)

    def create(self, upload_id: str, facts: dict[str, Any]) -> None:
        """Begin an upload under an id of 32 random hex digits. Raises UploadHeld where one of this id has just been begun."""
        folder = self._folder(upload_id)
        # Made whole under another name, so that nobody meets half of one.
        fresh = folder.with_name(f".{upload_id}{secrets.token_hex(4)}")
        with full_disk_told():
            fresh.mkdir(0o750)
            for name in ("lock", "data"):
                (fresh / name).touch(0o600)
            _write_facts(fresh, facts)
            try:
                fresh.rename(folder)
            except OSError as error:
                shutil.rmtree(fresh)
                if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
                    raise UploadHeld(f"the upload {upload_id} has just been begun") from None
                raise
            sync_folder(self._root)

    def find(self, upload_id: str) -> tuple[dict[str, Any], int]:
        """Return an upload's facts, and how many of its bytes are there. Raises UploadUnknown."""
        folder = self._folder(upload_id)
        return _facts(folder), _size(folder)

    def touched_at(self, upload_id: str) -> float:
        """Return when bytes or facts last came, in seconds since the epoch. Raises UploadUnknown."""
        return _touched_at(self._folder(upload_id))

    @contextmanager
    def hold(self, upload_id: str) -> Iterator[HeldUpload]:
        """Keep every other process and thread from an upload. Raises UploadUnknown, and UploadHeld where another has it."""
        folder = self._folder(upload_id)
        with _locked(folder):
            held = HeldUpload(folder, _facts(folder), self._keep)
            try:
                yield held
            finally:
                held.close()

    def expire(self, older_than_seconds: float) -> int:
        """Forget the uploads for which nothing has come for so long, stored or not, unless one is held; return how many there were."""
        limit = time.time() - older_than_seconds
        gone = 0
        for folder in self._root.iterdir():
            with suppress(UploadUnknown, UploadHeld), _locked(folder):
                if _touched_at(folder) <= limit:
                    _remove(folder)
                    gone += 1
        return gone

    def _folder(self, upload_id: str) -> Path:
        if not _ID.fullmatch(upload_id):
            raise UploadUnknown(upload_id)
        return self._root / upload_id


class HeldUpload:
    """An upload that only the holder may change."""

    def __init__(self, folder: Path, facts: dict[str, Any], keep: Keep) -> None:
        self.facts, self.size = facts, _size(folder)
        self._folder, self._keep = folder, keep
        self._fd: int | None = None

    def append(self, data: bytes) -> None:
        """Take the bytes that follow. Raises SpoolFull; what had room of them stays, and counts."""
        with full_disk_told():
            while data:
                written = os.pwrite(self._open(), data, self.size)
                self.size += written
                data = data[written:]

    def cut(self, size: int) -> None:
        """Forget all bytes behind the first `size`."""
        os.ftruncate(self._open(), size)
        self.size = size

    def sync(self) -> None:
        """Make durable what has come."""
        with full_disk_told():
            os.fsync(self._open())

    def store(self, expected: str | None = None) -> str:
        """Give the bytes their place under their digest and return it; a repeated call does what a broken-off one left to do.

        Raises DigestMismatch when `expected` is another, SpoolFull.
        """
        data = self._folder / "data"
        if not data.exists():
            return str(self.facts["digest"])
        fd = self._open()
        with data.open("rb") as file:
            digest = hashlib.file_digest(file, hashlib.sha256).hexdigest()
        if expected is not None and digest != expected:
            raise DigestMismatch(expected, digest)
        self.note(digest=digest, size=self.size)  # before the bytes leave: afterwards nothing else would tell where they went
        with full_disk_told():
            self._keep(data, fd, digest, self.size)
            data.unlink(missing_ok=True)
        return digest

    def note(self, **facts: Any) -> None:
        """Add facts, durably."""
        self.facts = self.facts | facts
        with full_disk_told():
            _write_facts(self._folder, self.facts)

    def remove(self) -> None:
        """Forget the upload, whatever has come of it; what is stored stays."""
        _remove(self._folder)

    def close(self) -> None:
        """Close the handle."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _open(self) -> int:
        if self._fd is None:
            self._fd = os.open(self._folder / "data", os.O_RDWR | os.O_CLOEXEC)
        return self._fd


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        fd = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise UploadUnknown(folder.name) from None
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UploadHeld(f"another request writes to the upload {folder.name}") from None
        yield
    finally:
        os.close(fd)


def _facts(folder: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads((folder / "facts").read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise UploadUnknown(folder.name) from None
    return facts


def _write_facts(folder: Path, facts: dict[str, Any]) -> None:
    with (folder / "facts.new").open("w") as file:
        json.dump(facts, file)
        file.flush()
        os.fsync(file.fileno())
    (folder / "facts.new").replace(folder / "facts")
    sync_folder(folder)


def _size(folder: Path) -> int:
    try:
        return (folder / "data").stat().st_size
    except FileNotFoundError:
        return int(_facts(folder)["size"])  # they are stored


def _touched_at(folder: Path) -> float:
    times = []
    for name in ("data", "facts"):
        with suppress(FileNotFoundError, NotADirectoryError):
            times.append((folder / name).stat().st_mtime)
    if not times:
        raise UploadUnknown(folder.name)
    return max(times)


def _remove(folder: Path) -> None:
    """Delete an upload's folder; first its facts, so that nobody takes what is left for an upload."""
    (folder / "facts").unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
