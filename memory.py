"""How a process treats memory that it no longer needs: glibc's own way keeps tens of MiB of what batches and uploads have used."""

from __future__ import annotations

import ctypes
from typing import Any

# Parameters of mallopt(3), by their numbers in glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
KIB = 1024
# For workers.
EARLY = {
    # Each thread would otherwise have arenas of its own, which keep what that thread once needed.
    _ARENA_MAX: 2,
    # A piece of this size is mapped by itself, so that freeing it gives it back. Left alone glibc raises the limit, up to 32 MiB, with
    # each such piece that is freed, and the heap then grows with the length of the file. Smaller limits cost a tenth of the time.
    _MMAP_THRESHOLD: 256 * KIB,
    _TRIM_THRESHOLD: 512 * KIB,
}
# For the web process, whose buffers are all of one size. Given back and asked for anew, page by page, they would cost nearly half of the
# processor time of an upload. One arena for all threads, so that what is kept is kept once.
BUFFERS = {_ARENA_MAX: 1, _MMAP_THRESHOLD: 4096 * KIB, _TRIM_THRESHOLD: 8192 * KIB}


def give_back_early(library: Any = None) -> bool:
    """Tell the C library's allocator to keep little, in this process and those that it forks; False where it is not glibc's.

    `library`: what has `mallopt`, by default the one that the interpreter is linked with.
    """
    return _set(EARLY, library)


def keep_buffers(library: Any = None) -> bool:
    """Tell the C library's allocator to keep freed memory of a buffer's size for the next buffer; as `give_back_early` otherwise."""
    return _set(BUFFERS, library)


def _set(options: dict[int, int], library: Any) -> bool:
    mallopt = getattr(library or ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    taken = [mallopt(option, value) for option, value in options.items()]
    return all(taken)
