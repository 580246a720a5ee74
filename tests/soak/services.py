"""The processes of a soak: two web processes, two workers, Valkey, PostgreSQL; killed by lot, started again, measured."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from dev.servers import answers, end_with_parent, free_port, stop, valkey_command
from tests import postgresql
from tests.postgresql import Server

ROOT = Path(__file__).parent.parent.parent
WEBS = WORKERS = 2
KILLS = ("web", "web's child", "worker", "worker's fork", "worker's sweep", "valkey")


@dataclass(frozen=True)
class Sample:
    """What all processes use at one instant."""

    seconds: float  # since the start
    memory_kib: dict[str, int]  # proportional share (PSS) of each service's processes
    files: int  # open in all of them
    connections: int  # to PostgreSQL


@dataclass
class Services:
    """The running installation, below one folder."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    kills: Counter[str] = field(default_factory=Counter)
    samples: list[Sample] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._started = time.monotonic()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._ports = {name: free_port() for name in ("valkey", *(f"web{n}" for n in range(WEBS)))}
        self.postgres = Server.start(next(iter(postgresql.versions().values())))
        url = self.postgres.url("postgres")
        self.environment = {
            "TARGET_URL": url, "CATALOG_URL": url, "SPOOL_URL": f"file:{self.folder / 'spool'}",
            "REDIS_URL": f"redis://127.0.0.1:{self._ports['valkey']}/0", "WEB_CONCURRENCY": "1",
            "WEB_THREADS": "32", "CHUNK_RECORDS": "200",
            "LEASE_SECONDS": "10", "HEARTBEAT_SECONDS": "2", "SWEEP_SECONDS": "3", "TMPDIR": str(self.folder / "tmp"),
        }  # fmt: skip
        (self.folder / "tmp").mkdir()

    @property
    def urls(self) -> list[str]:
        """Return the addresses of the web processes."""
        return [f"127.0.0.1:{self._ports[f'web{n}']}" for n in range(WEBS)]

    def start(self) -> None:
        """Start whatever does not run."""
        for name in ("valkey", *(f"web{n}" for n in range(WEBS)), *(f"worker{n}" for n in range(WORKERS))):
            if name not in self._processes or self._processes[name].poll() is not None:
                self._start(name)

    def _start(self, name: str) -> None:
        if name == "valkey":
            folder = self.folder / "valkey"
            folder.mkdir(exist_ok=True)
            command = valkey_command(self._ports[name], folder, is_kept=False)
        elif name.startswith("web"):
            bind = f"--bind=127.0.0.1:{self._ports[name]}"
            command = [sys.executable, "-m", "gunicorn", bind, "--log-level=warning", "wsgi:app"]
        else:
            command = [sys.executable, "worker.py"]
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                command, cwd=ROOT, env=os.environ | self.environment, stdout=log, stderr=log, start_new_session=True,
                preexec_fn=end_with_parent,
            )  # fmt: skip

    def is_up(self) -> bool:
        """Tell whether all web processes and Valkey listen."""
        return all(map(answers, self._ports.values()))

    def kill(self, chance: random.Random) -> str:
        """Kill something with SIGKILL, and start again what that ended; return what it was."""
        kind = chance.choice(KILLS)
        name = "valkey" if kind == "valkey" else f"{kind.partition(chr(39))[0]}{chance.randrange(WEBS)}"
        process = self._processes[name]
        if kind in ("web", "worker", "valkey"):
            # All at once, as a machine or a container goes.
            os.killpg(process.pid, signal.SIGKILL)
            for pid in _descendants(process.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()
        else:
            children = [pid for pid in _descendants(process.pid) if _is_sweep(pid) == (kind == "worker's sweep")]
            if not children:
                return self.kill(chance)
            with suppress(ProcessLookupError):
                os.kill(chance.choice(children), signal.SIGKILL)
        self.kills[kind] += 1
        self.start()
        return f"{kind} ({name})"

    # Measures -------------------------------------------------------------------------------------------------------
    def sample(self) -> Sample:
        """Measure memory, open files and connections, and remember them."""
        memory, files = {}, 0
        for name, process in self._processes.items():
            pids = [process.pid, *_descendants(process.pid)]
            memory[name] = sum(map(_memory_kib, pids))
            files += sum(map(_open_files, pids))
        made = Sample(time.monotonic() - self._started, memory, files, self.connections())
        self.samples.append(made)
        return made

    def connections(self) -> int:
        """Return how many connections PostgreSQL has, besides this one."""
        with psycopg.connect(self.environment["TARGET_URL"]) as connection:
            query = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            row = connection.execute(query).fetchone()
        return int(row[0]) if row else 0

    def stop(self) -> None:
        """Stop everything, in order."""
        for name in sorted(self._processes, reverse=True):
            stop(self._processes[name], 30)

    def close(self) -> None:
        """Stop everything and PostgreSQL."""
        self.stop()
        self.postgres.stop()


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *_descendants(child)]
    return found


def _is_sweep(pid: int) -> bool:
    with suppress(OSError):
        return b"--sweep" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def _memory_kib(pid: int) -> int:
    with suppress(OSError):
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        return int(text.partition("\nPss:")[2].split()[0])
    return 0


def _open_files(pid: int) -> int:
    with suppress(OSError):
        return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    return 0
