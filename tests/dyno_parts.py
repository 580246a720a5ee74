"""An imitation of a platform that reads a Procfile: dynos with disks of their own, emptied at each start, and Redis over TLS."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dev.servers import end_with_parent
from dev.stack import ROOT
from tests.test_layout import tracked

TLS = Path(__file__).parent / "data" / "tls"
PROCESSES = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text(encoding="utf-8").splitlines())
STOP_SECONDS = 30  # what platforms allow between SIGTERM and SIGKILL


@dataclass
class Dyno:
    """One process of the Procfile, and what it starts, in a folder that nobody else has."""

    name: str  # `web.1`
    folder: Path
    config: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    logs: list[Path] = field(default_factory=list)
    before: tuple[str, ...] = ()  # words of a command that runs the process

    def start(self) -> None:
        """Start it on an empty disk, with the code as it is checked out."""
        shutil.rmtree(self.folder, ignore_errors=True)
        app = self.folder / "app"
        for path in (each.relative_to(ROOT) for each in tracked()):
            if path.parts[0] not in ("tests", "bench", "docs"):
                (app / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / path, app / path)
        (self.folder / "tmp").mkdir()
        own = {
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "HOME": str(app),
            "TMPDIR": str(self.folder / "tmp"),
            "DYNO": self.name,
        }
        self.logs.append(self.folder.parent / f"{self.name}.{len(self.logs)}.log")
        with self.logs[-1].open("wb") as log:
            command = [*self.before, "sh", "-c", f"exec {PROCESSES[self.name.partition('.')[0]]}"]
            # A session of its own, so that SIGTERM can be sent to all that is in it, as platforms do.
            self.process = subprocess.Popen(
                command, cwd=app, env=own | self.config, stdout=log, stderr=log, start_new_session=True, preexec_fn=end_with_parent
            )

    def stop(self) -> float:
        """Send SIGTERM to every process of the dyno; return how long they took. AssertionError where one outlives what is allowed."""
        assert self.process is not None
        began = time.monotonic()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(STOP_SECONDS)
        while _lives(self.process.pid):
            assert time.monotonic() - began < STOP_SECONDS, f"{self.name} left processes behind"
            time.sleep(0.1)
        return time.monotonic() - began

    def kill(self) -> None:
        """End whatever there still is."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def logged(self) -> str:
        """Return what it has logged since it was started last."""
        return self.logs[-1].read_text(encoding="utf-8", errors="replace")


def _lives(group: int) -> bool:
    """Tell whether a process of the group runs (one that nobody has waited for yet has ended)."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            words = stat.read_text().rpartition(")")[2].split()
            if int(words[2]) == group and words[0] not in "ZX":
                return True
    return False


def ask(address: str, key: str = "", data: bytes | None = None, more: dict[str, str] | None = None) -> tuple[int, str]:
    """Send a request, with `more` headers perhaps; return status and text, (0, why) where nobody answers."""
    headers = {"Authorization": f"apikey {key}", "Content-Type": "text/csv"} if key else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(address, data, headers | (more or {})), timeout=30) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()
    except OSError as nobody:
        return 0, str(nobody)


@contextlib.contextmanager
def tls_before(port: int) -> Iterator[int]:
    """Give the port of a server that speaks TLS, with a certificate that nobody trusts, and passes everything on to this port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "cert.pem", TLS / "key.pem")
    loop = asyncio.new_event_loop()

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        sink.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))
        finally:
            for one in (writer, inner_writer):
                one.transport.abort()

    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0, ssl=context))
    thread = threading.Thread(target=loop.run_forever, name="tls", daemon=True)
    thread.start()
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        asyncio.run_coroutine_threadsafe(_end(server), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _end(server: asyncio.Server) -> None:
    server.close()
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.sleep(0.1)  # What was aborted is closed in the loop's next rounds.
