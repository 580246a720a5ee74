"""Clients that take their time: what they may hold, and that others are served meanwhile."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from http.client import HTTPConnection
from itertools import islice
from pathlib import Path

from catalog import batches
from catalog.batches import Options
from tests.upload_parts import Web, running


def head_of(web: Web) -> str:
    """Return the head of an upload of 9,999 bytes."""
    return f"PUT /api/file/{'0' * 64} HTTP/1.1\r\nHost: x\r\nAuthorization: apikey {web.key}\r\nContent-Length: 9999\r\n\r\n"


def upload_at_a_byte_a_second(web: Web) -> bytes:
    """Begin an upload and send a byte every half second until the server replies; return the reply."""
    with socket.create_connection(("127.0.0.1", int(web.url.rpartition(":")[2])), timeout=0.5) as client:
        client.sendall(head_of(web).encode())
        for _ in range(60):
            try:
                return client.recv(4096)
            except TimeoutError:
                client.sendall(b"a")
        return b"never cut off"


def test_slow_uploads_are_refused_and_others_served(tmp_path: Path) -> None:
    """T65: more slow senders than there are threads get 408, leave nothing, and hold a quick request up no longer than the limit."""
    with running(tmp_path, 10_000, STALL_SECONDS="1", MIN_BYTES_PER_SECOND="100") as web, ThreadPoolExecutor(20) as pool:
        slow = [pool.submit(upload_at_a_byte_a_second, web) for _ in range(20)]
        time.sleep(0.5)
        started = time.monotonic()
        assert web.curl("/healthz").endswith(" 200")
        assert time.monotonic() - started < 10
        assert {upload.result().split(b"\r\n")[0] for upload in slow} == {b"HTTP/1.1 408 REQUEST TIMEOUT"}
        assert web.partials() == []


def test_a_silent_upload_is_refused(tmp_path: Path) -> None:
    """T65: an upload that stands still is 408 too."""
    with (
        running(tmp_path, 10_000, STALL_SECONDS="0.5") as web,
        socket.create_connection(("127.0.0.1", int(web.url.rpartition(":")[2])), timeout=10) as client,
    ):
        client.sendall(f"{head_of(web)}abc".encode())
        assert client.recv(4096).startswith(b"HTTP/1.1 408 ")


def test_waiting_clients_leave_threads_for_others(tmp_path: Path) -> None:
    """However many clients wait for a batch, half of the threads go on serving: who is too many is answered at once, and may ask again."""
    with running(tmp_path, 10_000, WEB_THREADS="16") as web, ThreadPoolExecutor(24) as pool:
        batch = web.batch()
        batches.schedule(web.catalog, int(batch), Options(), [(None, "flights")])
        waiting = [pool.submit(status, web, f"/api/batch/{batch}?wait=30") for _ in range(24)]
        soon = [next_one.result() for next_one in islice(as_completed(waiting, timeout=25), 16)]
        assert soon == [("3", "1")] * 16
        assert web.curl("/healthz").endswith(" 200")
        assert sum(future.done() for future in waiting) == 16
        batches.cancel(web.catalog, int(batch))
        assert [future.result()[0] for future in waiting].count("1") == 8
        assert status(web, f"/api/batch/{batch}?wait=30") == ("1", None)


def status(web: Web, path: str) -> tuple[str | None, str | None]:
    """Ask how a batch stands; return Import-Exit and Retry-After."""
    connection = HTTPConnection(web.url.removeprefix("http://"), timeout=60)
    connection.request("GET", path, headers={"Authorization": f"apikey {web.key}"})
    reply = connection.getresponse()
    reply.read()
    connection.close()
    return reply.headers["Import-Exit"], reply.headers["Retry-After"]
