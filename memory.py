"""How a process hands memory back to the system: glibc's own way keeps tens of MiB of what batches and uploads no longer need."""

from __future__ import annotations

import ctypes
from typing import Any

# Parameters of mallopt(3), by their numbers in glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
KIB = 1024
OPTIONS = {
    # Each thread would otherwise have arenas of its own, which keep what that thread once needed.
    _ARENA_MAX: 2,
    # A piece of this size is mapped by itself, so that freeing it gives it back. Left alone glibc raises the limit, up to 32 MiB, with
    # each such piece that is freed, and the heap then grows with the length of the file.
    _MMAP_THRESHOLD: 512 * KIB,
    _TRIM_THRESHOLD: 1024 * KIB,
}


def give_back_early(library: Any = None) -> bool:
    """Tell the C library's allocator to keep little, in this process and those that it forks; False where it is not glibc's.

    `library`: what has `mallopt`, by default the one that the interpreter is linked with.
    """
    mallopt = getattr(library or ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    taken = [mallopt(option, value) for option, value in OPTIONS.items()]
    return all(taken)
