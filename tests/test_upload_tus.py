"""Uploads in parts over lines that break, to a live gunicorn: by the public client tuspy, and by hand."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
from tusclient.client import TusClient
from tusclient.uploader.uploader import Uploader

from routes.resumable import PART_TYPE
from tests.cutting import CuttingProxy
from tests.upload_parts import Web, running

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """Two web processes on one spool."""
    with running(tmp_path_factory.mktemp("web"), 2 * 1024 * MIB, workers=2) as process:
        yield process


def random_file(folder: Path, size: int) -> tuple[Path, str]:
    """Write a file that nobody has uploaded before; return its path and digest."""
    path, block = folder / "large.bin", os.urandom(MIB)
    with path.open("wb") as file:
        for number in range(0, size, MIB):
            file.write((number.to_bytes(8, "big") + block[8:])[: size - number])
    with path.open("rb") as file:
        return path, hashlib.file_digest(file, "sha256").hexdigest()


def sent_over_a_broken_line(web: Web, folder: Path, size: int, chunk: int, is_checked: bool) -> None:
    """Send a file by tuspy over a line that breaks ten times, and look whether it arrived."""
    path, digest = random_file(folder, size)
    batch = web.batch()
    said = {"batch": batch, "name": "flights.csv", "filename": path.name}
    with CuttingProxy(int(web.url.rpartition(":")[2]), [size // 11] * 10) as proxy, path.open("rb") as file:
        client = TusClient(f"http://127.0.0.1:{proxy.port}/api/upload", headers={"Authorization": f"apikey {web.key}"})
        uploader: Uploader = client.uploader(
            file_stream=file, chunk_size=chunk, metadata=said, upload_checksum=is_checked, retries=50, retry_delay=0.05
        )
        uploader.upload()
        assert proxy.cuts == 10
    assert uploader.request is not None and uploader.url is not None
    assert uploader.request.response_headers["file-digest"] == digest
    web.spool.verify(digest)
    assert f'"batches":[{batch}]' in web.curl(f"/api/file/{digest}")
    assert not (web.spool_dir / "uploads" / uploader.url.rpartition("/")[2] / "data").exists()


@pytest.mark.parametrize("is_checked", [False, True])
def test_tuspy_over_a_line_that_breaks_ten_times(web: Web, tmp_path: Path, is_checked: bool) -> None:
    """T59, T61: the public client brings a file over a line that is cut ten times, with and without checksums, and it arrives whole."""
    sent_over_a_broken_line(web, tmp_path, 22 * MIB + 7, MIB if is_checked else 100 * MIB, is_checked)


@pytest.mark.slow
def test_a_gibibyte_cut_ten_times(web: Web, tmp_path: Path) -> None:
    """T59: a gibibyte that is cut ten times arrives whole."""
    sent_over_a_broken_line(web, tmp_path, 1024 * MIB, 128 * MIB, is_checked=False)


def begun(web: Web, length: int) -> str:
    """Begin an upload by curl; return its path."""
    reply = web.curl("-X", "POST", "-H", "Tus-Resumable: 1.0.0", "-H", f"Upload-Length: {length}", "/api/upload")
    assert reply.endswith(" 201"), reply
    return f"/api/upload/{reply.split()[0]}"


def offset(web: Web, path: str) -> int:
    """Return the offset that the server tells."""
    head = web.curl("-I", "-H", "Tus-Resumable: 1.0.0", path).lower()
    return int(head.partition("upload-offset:")[2].split()[0])


def half_sent(web: Web, path: str, data: bytes) -> socket.socket:
    """Send the head of a part and the first half of its bytes, and wait until they are taken."""
    client = socket.create_connection(("127.0.0.1", int(web.url.rpartition(":")[2])))
    head = f"PATCH {path} HTTP/1.1\r\nHost: x\r\nAuthorization: apikey {web.key}\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n"
    head += f"Content-Type: {PART_TYPE}\r\nContent-Length: {len(data)}\r\n\r\n"
    client.sendall(head.encode() + data[: len(data) // 2])
    deadline = time.monotonic() + 10
    while offset(web, path) < len(data) // 2 - 65536 and time.monotonic() < deadline:
        time.sleep(0.02)
    return client


def part(web: Web, path: str, data: bytes, at: int) -> tuple[int, str | None]:
    """Send a part; return the status and the offset that the reply tells."""
    connection = HTTPConnection(web.url.removeprefix("http://"), timeout=60)
    headers = {"Authorization": f"apikey {web.key}", "Tus-Resumable": "1.0.0", "Upload-Offset": str(at), "Content-Type": PART_TYPE}
    connection.request("PATCH", path, data, headers)
    reply = connection.getresponse()
    reply.read()
    connection.close()
    return reply.status, reply.headers["Upload-Offset"]


def test_parallel_parts_lock_each_other_out(web: Web) -> None:
    """T59: of parts that are sent to several web processes at once, one is taken and the others are 423; the file is right."""
    data = os.urandom(2 * MIB)
    path = begun(web, len(data))
    with half_sent(web, path, data) as first:
        assert {part(web, path, data, 0)[0] for _ in range(10)} == {423}
        first.sendall(data[len(data) // 2 :])
        assert first.recv(100).startswith(b"HTTP/1.1 204 ")
    assert web.holds(data)
    again, barrier, replies = begun(web, len(data)), threading.Barrier(8), []

    def one() -> None:
        barrier.wait()
        replies.append(part(web, again, data, 0)[0])

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert replies.count(204) == 1 and set(replies) <= {204, 423, 409}


def test_a_part_that_breaks_off_keeps_what_came(web: Web) -> None:
    """T61: of a part that is cut off at half, what came counts: the client goes on from there, and the file is right."""
    data = os.urandom(2 * MIB)
    path = begun(web, len(data))
    half_sent(web, path, data).close()
    deadline = time.monotonic() + 10
    status, at = 423, 0
    while status != 204 and time.monotonic() < deadline:  # the first request may not have noticed yet
        at = offset(web, path)
        assert not web.holds(data)
        status, _ = part(web, path, data[at:], at)
        time.sleep(0.02)
    assert status == 204 and at > len(data) // 4
    assert web.holds(data)


def test_an_upload_outlives_the_web_processes(tmp_path: Path) -> None:
    """T27: web processes killed in the middle of a part leave no stored file; those started next go on where it stood."""
    data = os.urandom(2 * MIB)
    with running(tmp_path, 10 * MIB, workers=2) as web:
        path = begun(web, len(data))
        with half_sent(web, path, data):
            children = Path(f"/proc/{web.process.pid}/task/{web.process.pid}/children").read_text().split()
            for pid in (web.process.pid, *map(int, children)):
                os.kill(pid, signal.SIGKILL)
            web.process.wait()
        key = web.key
    assert not [p for p in (tmp_path / "spool" / "sha256").rglob("*") if p.is_file()]
    with running(tmp_path, 10 * MIB, workers=2) as web:
        web.key = key
        at = offset(web, path)
        assert len(data) // 4 < at <= len(data) // 2
        assert part(web, path, data[at:], at) == (204, str(len(data)))
        assert web.holds(data)


def test_a_full_disk_keeps_what_had_room(tmp_path: Path) -> None:
    """T28: where the disk takes no more, a part is 507, what was written counts, and other uploads go on."""
    with running(tmp_path, 100 * MIB, max_file_bytes=MIB) as web:
        data = os.urandom(2 * MIB)
        path, small = begun(web, len(data)), begun(web, 10)
        assert part(web, path, data, 0)[0] == 507
        assert offset(web, path) == MIB
        assert part(web, small, b"0123456789", 0) == (204, "10")
