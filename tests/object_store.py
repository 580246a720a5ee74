"""A real S3 server for the tests: SeaweedFS in one process, on ports and a folder of its own, and a proxy that makes it fail."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dev.servers import end_with_parent, free_port, stop, wait_until
from tests.cutting import Proxy

KEY, SECRET = "lading-tests", "not-a-secret-at-all"
_IDENTITIES = {
    "identities": [
        {
            "name": "tests",
            "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
    ]
}


@dataclass
class ObjectStore:
    """A running server, and how its clients find it."""

    port: int
    scheme = "s3"

    def environment(self, port: int | None = None, address: str = "127.0.0.1", secret: str = SECRET) -> dict[str, str]:
        """Return the variables by which a process finds it, at another port perhaps, or with a secret that is none (`wrong`)."""
        return {
            "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": secret, "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{address}:{port or self.port}",
        }  # fmt: skip


def _command(folder: Path, ports: dict[str, int], address: str) -> list[str]:
    weed = Path(sys.executable).parent / "weed"
    flags = [f"-{name}={port}" for name, port in ports.items()]
    return [
        str(weed), "-logtostderr=true", "server", "-s3", "-ip=127.0.0.1", f"-ip.bind={address}", f"-dir={folder}",
        f"-s3.config={folder / 's3.json'}", "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false",
        "-master.volumeSizeLimitMB=64", "-volume.max=0",
        *flags,
    ]  # fmt: skip


@contextmanager
def running(address: str = "127.0.0.1") -> Iterator[ObjectStore]:
    """Start a server that listens on an address of this machine, and stop it at the end."""
    folder = Path(tempfile.mkdtemp(prefix="lading-s3-"))
    (folder / "s3.json").write_text(json.dumps(_IDENTITIES))
    names = [f"{part}.port{kind}" for part in ("master", "volume", "filer", "s3") for kind in ("", ".grpc")]
    ports: dict[str, int] = {}
    while len(ports) < len(names):
        if (port := free_port()) not in ports.values():
            ports[names[len(ports)]] = port
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            _command(folder, ports, address), stdout=log, stderr=log, start_new_session=True, preexec_fn=end_with_parent
        )
    try:
        wait_until(lambda: _answers(ports["s3.port"]), process, "SeaweedFS", 90)
        yield ObjectStore(ports["s3.port"])
    finally:
        stop(process, with_signal=signal.SIGKILL)  # in order takes it ten seconds, for readers that there are none of
        shutil.rmtree(folder, ignore_errors=True)


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2):
            return True
    except urllib.error.HTTPError as error:
        return error.code < 500
    except OSError:
        return False


class FailingProxy(Proxy):
    """Passes requests on to the store, or, as `mode` says, resets them (`gone`), answers 503, or is `slow`."""

    def __init__(self, port: int) -> None:
        """See Proxy."""
        super().__init__(port)
        self.mode = "pass"
        self.cut_after: int | None = None  # bytes from clients, from when it was set
        self.refused = 0
        self.recovers_at: int | None = None  # when so many requests were refused

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(self._server) as server:
            threading.Thread(target=self._pass_back, args=(server, client), daemon=True).start()
            while data := client.recv(65536):
                if self.mode == "slow":
                    time.sleep(0.2)
                if self.mode == "503":
                    self.refused += 1
                    client.sendall(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    return
                if self.mode == "gone" or self._is_cut(len(data)):
                    self.refused += 1
                    if self.refused == self.recovers_at:
                        self.mode = "pass"
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return
                server.sendall(data)

    def _is_cut(self, count: int) -> bool:
        if self.cut_after is None:
            return False
        self.cut_after -= count
        if self.cut_after > 0:
            return False
        self.mode, self.cut_after = "gone", None
        return True

    def _pass_back(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                client.sendall(data)
            client.shutdown(socket.SHUT_WR)
