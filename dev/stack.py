"""The whole service on one machine: a queue if none is given, the web process, two workers; started and stopped in order."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import BinaryIO

from dev.servers import answers, end_with_parent, free_port, stop, valkey_command, wait_for_end, wait_until

ROOT = Path(__file__).parent.parent
WORKERS = 2
# A worker stops at the end of its chunk; platforms allow 30 seconds for that, so it is what we allow too.
STOP_SECONDS = 30
START_SECONDS = 120  # a machine that is busy with other things, or reads all packages for the first time, is slow to start


@dataclass
class Stack:
    """The running processes, in the order of their start."""

    port: int
    data: Path  # of the queue; catalog, spool and target lie where the settings in `env` say
    env: dict[str, str]
    is_quiet: bool = False  # what the processes log goes to the file `log` among the data, not to the terminal
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    why_not_ready: str = ""

    @property
    def address(self) -> str:
        """Return the address of the web process."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start all, in order, and wait until the service says that it is ready."""
        self.data.mkdir(parents=True, exist_ok=True)
        if not self.env.get("REDIS_URL") and not self.env.get("REDIS_URL_FILE"):
            self._start_valkey()
        self._upgrade()
        gunicorn = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{self.port}", "--log-level", "warning", "wsgi:app"]
        self._spawn("web", gunicorn)
        for number in range(1, WORKERS + 1):
            self._spawn(f"worker {number}", [sys.executable, "worker.py"])
        try:
            wait_until(self._is_ready, self.processes["web"], "the service", START_SECONDS)
        except RuntimeError as failure:
            raise RuntimeError(f"{failure}; /readyz last said: {self.why_not_ready.strip()}") from None

    def _start_valkey(self) -> None:
        port = free_port()
        folder = self.data / "valkey"
        folder.mkdir(exist_ok=True)
        self._spawn("valkey", valkey_command(port, folder.resolve(), is_kept=True))
        wait_until(lambda: answers(port), self.processes["valkey"], f"Valkey (its log is in {folder})")
        self.env["REDIS_URL"] = f"redis://127.0.0.1:{port}/0"

    def _upgrade(self) -> None:
        """Do what the Procfile's `release` does."""
        with self._log() as log:
            done = subprocess.run([sys.executable, "-m", "flask", "db", "upgrade"], cwd=ROOT, env=self.env, stdout=log, stderr=log)
        if done.returncode:
            raise RuntimeError("`flask db upgrade` failed")

    def _log(self) -> contextlib.AbstractContextManager[BinaryIO | None]:
        return (self.data / "log").open("ab") if self.is_quiet else contextlib.nullcontext()

    def _spawn(self, name: str, command: list[str]) -> None:
        """Start a process in a session of its own, so that Ctrl-C reaches only us and we stop it when its turn comes."""
        with self._log() as log:
            self.processes[name] = subprocess.Popen(
                command, cwd=ROOT, env=self.env, stdout=log, stderr=log, start_new_session=True, preexec_fn=end_with_parent
            )

    def _is_ready(self) -> bool:
        for name, process in self.processes.items():
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended with exit status {process.returncode} instead of starting")
        try:
            with urllib.request.urlopen(f"{self.address}/readyz", timeout=5) as reply:  # noqa: S310 - our own address
                return bool(reply.status == 200)
        except urllib.error.HTTPError as not_ready:
            self.why_not_ready = not_ready.read().decode(errors="replace")
        except OSError as no_answer:
            self.why_not_ready = str(no_answer)
        return False

    def watch(self) -> None:
        """Return when a process has ended by itself, naming it; otherwise run until a signal raises."""
        while True:
            for name, process in self.processes.items():
                if process.poll() is not None:
                    raise RuntimeError(f"{name} ended with exit status {process.returncode}")
            time.sleep(0.2)

    def stop(self) -> None:
        """Stop the web process, then the workers together, then the queue, and see to it that nothing of theirs is left."""
        workers = [p for name, p in self.processes.items() if name.startswith("worker")]
        if "web" in self.processes:
            stop(self.processes["web"], STOP_SECONDS)
        # Once only: to a worker, a second signal means to drop what it does.
        for worker in workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGTERM)
        for worker in workers:
            wait_for_end(worker, STOP_SECONDS)
        if "valkey" in self.processes:
            stop(self.processes["valkey"], STOP_SECONDS)
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        self.processes.clear()


@contextlib.contextmanager
def only_one(lock: Path) -> Iterator[None]:
    """Keep a second command from using the same data; RuntimeError says that there is a first one."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(f"another command holds {lock}") from None
        yield


class Stopped(BaseException):
    """Somebody asked us to stop."""


def _raise_stopped(_number: int, _frame: FrameType | None) -> None:
    # Asked once is enough: a second Ctrl-C must not cut the orderly stop short.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    raise Stopped


@contextlib.contextmanager
def running(port: int, data: Path, env: dict[str, str], *, is_quiet: bool = False) -> Iterator[Stack]:
    """Run the service for as long as the block lasts; a signal to stop ends the block with Stopped."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _raise_stopped)
    stack = Stack(port, data, env, is_quiet)
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()
