"""Who holds a run: a process, known by host, id and start, so that a process id given again to another program is never mistaken for it."""

from __future__ import annotations

import os
import signal
import socket
import time
from functools import lru_cache
from pathlib import Path

_PROC = Path("/proc")
_START_FIELD = 19  # of /proc/PID/stat, counted behind the parenthesised name: the start, in clock ticks since boot
WAIT_SECONDS = 5


def this_process() -> tuple[str, int, str]:
    """Return (host, pid, started) of this process, as take_over wants them."""
    return _process(os.getpid())


@lru_cache(maxsize=1)
def _process(pid: int) -> tuple[str, int, str]:
    return socket.gethostname(), pid, started(pid)


def started(pid: int) -> str:
    """Return when a process started, as text that no other process of this host shares with it; "" where that cannot be told."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return f"{boot}/{fields[_START_FIELD]}"


def end_process(pid: int, started_then: str) -> bool:
    """Kill a process of this host if it still is the one that started then and is not ourselves; return whether it is gone."""
    if not started_then or pid == os.getpid() or started(pid) != started_then:
        return False
    try:
        os.kill(pid, signal.SIGKILL)  # a stopped process heeds nothing less
    except OSError:
        return False
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        if _is_gone(pid, started_then):
            return True
        time.sleep(0.01)
    return False


def _is_gone(pid: int, started_then: str) -> bool:
    """Tell whether a process has ended; one that only waits for its parent to notice (a zombie) has let go of its locks."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return True
    return fields[0] in "ZX" or started(pid) != started_then
