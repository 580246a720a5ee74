"""Small steps on files that make a write durable, or say plainly that the disk is full."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from errors import SpoolFull

# EFBIG is the process's or file system's limit on one file: for the sender it is the same news as a full disk.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
FOLDER_MODE = 0o750
BLOB_MODE = 0o444


@contextmanager
def full_disk_told() -> Iterator[None]:
    """Turn the errors of a full disk or a used-up quota into SpoolFull."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise SpoolFull(f"the spool has no room: {error.strerror}") from error
        raise


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable (a rename is not, until its folder is synced)."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, durably; one that is there already is fine."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with suppress(FileExistsError):
        folder.mkdir(FOLDER_MODE)
    sync_folder(folder.parent)


def put(partial: Path, fd: int, place: Path) -> None:
    """Give a written file its final name: sync the bytes, rename, sync the folder, so that a crash leaves all of it or nothing."""
    os.fchmod(fd, BLOB_MODE)
    os.fsync(fd)
    make_folder(place.parent)
    partial.replace(place)
    sync_folder(place.parent)


def remove_abandoned(partial: Path, limit: float) -> bool:
    """Delete one partial file that is older than `limit` (seconds since the epoch) and that no process holds a lock on."""
    with suppress(FileNotFoundError, BlockingIOError):
        fd = os.open(partial, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if os.fstat(fd).st_mtime > limit:
                return False
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            partial.unlink()
            return True
        finally:
            os.close(fd)
    return False
