"""gunicorn with our settings, as the Procfile starts it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.servers import answers, free_port, stop, wait_until
from dev.stack import ROOT

HELLO = """
def app(environ, start_response):
    body = b"%d" % len(environ["wsgi.input"].read())
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """Give the port of a gunicorn with one thread, which cuts silent clients off after half a second."""
    (tmp_path / "hello.py").write_text(HELLO)
    port = free_port()
    ours = {
        "PORT": str(port),
        "WEB_CONCURRENCY": "1",
        "WEB_THREADS": "1",
        "STALL_SECONDS": "0.5",
        "MIN_BYTES_PER_SECOND": "3",
        "HOME": str(tmp_path),
    }
    command = [sys.executable, "-m", "gunicorn", "--pythonpath", str(tmp_path), "hello:app"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | ours, stdout=log, stderr=log)
    try:
        wait_until(lambda: answers(port), process, "gunicorn")
        yield port
    finally:
        assert stop(process, 20, signal.SIGTERM) == 0


def connect(port: int, length: int) -> socket.socket:
    """Begin a request whose body is to have this many bytes."""
    client = socket.create_connection(("127.0.0.1", port), timeout=10)
    client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % length)
    return client


def reply(client: socket.socket) -> bytes:
    """Return all that the server says until it closes."""
    with client.makefile("rb") as incoming:
        return incoming.read()


def test_a_silent_client_is_cut_off(port: int) -> None:
    """A client that stops in the middle of a request holds the only thread no longer than the setting says."""
    start = time.monotonic()
    with connect(port, 5) as silent, connect(port, 2) as other:
        silent.sendall(b"ab")
        other.sendall(b"ab")
        assert reply(other).endswith(b"\r\n\r\n2")
        assert not reply(silent).startswith(b"HTTP/1.1 200 ")
    assert 0.4 < time.monotonic() - start < 5


def test_a_client_that_sends_next_to_nothing_is_cut_off(port: int) -> None:
    """T65: a byte now and then, be it of the head or of the body, does not hold the only thread: the next client is served soon."""
    for head in (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", b"POST / HT"):
        start = time.monotonic()
        with socket.create_connection(("127.0.0.1", port), timeout=10) as slow, connect(port, 2) as other:
            slow.sendall(head)
            time.sleep(0.1)
            is_over = threading.Event()
            dripping = threading.Thread(target=drip, args=(slow, is_over))
            dripping.start()
            other.sendall(b"ab")
            assert reply(other).endswith(b"\r\n\r\n2")
            is_over.set()
            dripping.join()
        assert time.monotonic() - start < 5


def drip(client: socket.socket, is_over: threading.Event) -> None:
    """Send a byte every 0.4 seconds, which is never a silence, until the server has had enough or it is over."""
    with contextlib.suppress(OSError):
        while not is_over.wait(0.4):
            client.sendall(b"a")


def test_a_slow_client_is_served(port: int) -> None:
    """A client that is slow, but neither silent nor below the least pace, is served however long it takes."""
    with connect(port, 5) as slow:
        for _ in range(5):
            time.sleep(0.2)
            slow.sendall(b"a")
        assert reply(slow).endswith(b"\r\n\r\n5")


def test_no_control_socket_is_left_in_the_home_folder(port: int, tmp_path: Path) -> None:
    """gunicorn opens no door for commands in the home folder."""
    assert answers(port)
    assert not (tmp_path / ".gunicorn").exists()
