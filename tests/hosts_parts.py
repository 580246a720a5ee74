"""Machines on one network, imitated by the kernel: each has a network, a name and a folder of its own, and a cable to be pulled."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import Engine

from catalog import batches
from catalog.batches import Batch
from dev.servers import LIBC, answers, end_with_parent, stop, valkey_command, wait_until
from dev.stack import ROOT
from tests import object_store, postgresql
from tests.dyno_parts import Dyno, ask
from tests.postgresql import SPEED, Server

NETWORK = "10.77.0"
CLONE_NEWNET = 0x40000000
BUCKET = "s3://lading/hosts"
WEB_PORT, REDIS_PORT = 8000, 6379
# A host of the kernel's own: `hostname` is seen by this process and its children alone.
NAMED = ("unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"')


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def can_be_imitated() -> bool:
    """Tell whether this user may make namespaces here."""
    if LIBC is None or not all(map(shutil.which, ("ip", "unshare"))):
        return False
    try:
        with Network() as network:
            network.add("probe")
        return not subprocess.run([*NAMED, "probe", "true"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT).returncode
    except (OSError, subprocess.CalledProcessError):
        return False


@contextmanager
def _entered(path: str) -> Iterator[None]:
    """Have this thread, and the processes that it starts, use another network."""
    assert LIBC is not None
    with Path("/proc/thread-self/ns/net").open() as before, Path(path).open() as wanted:
        if LIBC.setns(wanted.fileno(), CLONE_NEWNET):
            raise OSError(f"{path} cannot be entered")
        try:
            yield
        finally:
            LIBC.setns(before.fileno(), CLONE_NEWNET)


@dataclass
class Host:
    """A machine: an address, and a cable to the switch."""

    name: str
    address: str
    namespace: str
    switch: str

    def inside(self) -> contextlib.AbstractContextManager[None]:
        """Have this thread, and what it starts, run on this machine."""
        return _entered(f"/run/netns/{self.namespace}")

    def cut(self) -> None:
        """Lose whatever is sent to it or by it, from now on. Nobody is told."""
        _ip("-n", self.switch, "link", "set", self.name, "nomaster")

    def mend(self) -> None:
        """Put the cable back."""
        _ip("-n", self.switch, "link", "set", self.name, "master", "switch")


@dataclass
class Network:
    """A switch, itself out of everybody's sight, and the machines on it."""

    hosts: dict[str, Host] = field(default_factory=dict)
    _made: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Network:
        self._switch = self._namespace("switch")
        _ip("-n", self._switch, "link", "add", "switch", "type", "bridge")
        _ip("-n", self._switch, "link", "set", "switch", "up")
        return self

    def __exit__(self, *_: object) -> None:
        self._made.close()

    def _namespace(self, name: str) -> str:
        full = f"lading{os.getpid()}-{name}"
        _ip("netns", "add", full)
        self._made.callback(_ip, "netns", "delete", full)
        return full

    def add(self, name: str) -> Host:
        """Add a machine; names have at most 15 letters."""
        address = f"{NETWORK}.{len(self.hosts) + 1}"
        host = self.hosts[name] = Host(name, address, self._namespace(name), self._switch)
        _ip("link", "add", "name", name, "netns", self._switch, "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
        for link in ("lo", "eth0"):
            _ip("-n", host.namespace, "link", "set", link, "up")
        _ip("-n", host.namespace, "address", "add", f"{address}/24", "dev", "eth0")
        _ip("-n", self._switch, "link", "set", name, "up")
        host.mend()
        return host


@contextmanager
def stores(host: Host) -> Iterator[dict[str, str]]:
    """Run PostgreSQL, Valkey and an object store on a machine; give the settings by which others find them."""
    with ExitStack() as stack:
        stack.enter_context(host.inside())
        bucket = stack.enter_context(object_store.running("0.0.0.0"))
        server = Server.start(next(iter(postgresql.versions().values())), [*SPEED, "listen_addresses=*"])
        stack.callback(server.stop)
        with (server.folder / "data" / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {NETWORK}.0/24 trust\n")
        with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
            connection.execute("SELECT pg_reload_conf()")
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        command = valkey_command(REDIS_PORT, Path(folder), is_kept=False)
        command += ["--bind", "0.0.0.0", "--protected-mode", "no"]
        valkey = subprocess.Popen(command, start_new_session=True, preexec_fn=end_with_parent)
        stack.callback(stop, valkey)
        wait_until(lambda: answers(REDIS_PORT), valkey, "Valkey")
        # By a process that starts here: threads of the store's library that this one may have are on another network.
        put = f"from spool.bucket import Bucket; Bucket({BUCKET!r}).put('now', b'')"
        subprocess.run(
            [sys.executable, "-c", put], cwd=ROOT, env=os.environ | bucket.environment(), check=True
        )  # the server makes the bucket
        yield {
            "DATABASE_URL": server.url("postgres").replace("127.0.0.1", host.address),
            "REDIS_URL": f"redis://{host.address}:{REDIS_PORT}/0",
            "SPOOL_URL": BUCKET,
            **bucket.environment(address=host.address),
        }


class Machine(Dyno):
    """A machine on which the Procfile's `web` or `worker` runs, as its name says."""

    def __init__(self, host: Host, folder: Path, config: dict[str, str]) -> None:
        """`folder`: nobody else's."""
        super().__init__(host.name, folder / host.name, config, before=(*NAMED, host.name))
        self.host = host

    def start(self) -> None:
        """Start it on an empty disk."""
        with self.host.inside():
            super().start()

    def is_ready(self) -> bool:
        """Tell whether its web process says that all is well; in no hurry."""
        time.sleep(0.2)
        return self.ask("/readyz")[0] == 200

    def end(self) -> None:
        """End whatever there still is, and show what it has logged last."""
        self.kill()
        print(f"--- {self.name}\n{self.logged()[-6000:]}")

    def ask(self, path: str, key: str = "", data: bytes | None = None, more: dict[str, str] | None = None) -> tuple[int, str]:
        """Send its web process a request, from wherever this thread is; return status and text, (0, why) where nobody answers."""
        return ask(f"http://{self.host.address}:{WEB_PORT}{path}", key, data, more)


@dataclass
class Site:
    """An installation on many machines, seen from one more, which has this test's own process."""

    machines: dict[str, Machine]
    catalog: Engine
    key: str
    target_url: str

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement on the target."""
        with psycopg.connect(self.target_url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def get(self, batch_id: int) -> Batch:
        """Return a batch."""
        batch = batches.get(self.catalog, batch_id)
        assert batch is not None
        return batch

    def holder(self, batch_id: int) -> Machine:
        """Return the machine that carries a batch out."""
        worker = str(self.get(batch_id).worker)
        return next(machine for name, machine in self.machines.items() if worker.startswith(f"{name}."))
