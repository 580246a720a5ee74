"""What tests of webhooks share: receivers that answer as they are told, and an application that may reach them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from ssl import SSLContext
from typing import Any

import pytest

from catalog import webhooks
from catalog.webhooks import Webhook
from tests.engine_parts import sql
from tests.notice_parts import ONE_FILE, TABLE, notices_of
from tests.security_parts import work_off
from tests.web_parts import Web, settings_for


@dataclass
class Receiver:
    """A server that keeps what it is sent."""

    address: str = "127.0.0.1"
    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)  # of its replies
    drip_seconds: float = 0  # between the bytes of a reply that never ends
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)  # headers and body of each request
    connections: int = 0
    tls: SSLContext | None = None

    def __post_init__(self) -> None:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def setup(self) -> None:
                receiver.connections += 1
                super().setup()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
                if receiver.drip_seconds:
                    receiver._drip(self)
                    return
                self.send_response(receiver.status)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: Any) -> None:
                """Say nothing of clients that go away."""

        self.server = Server((self.address, 0), Handler)
        if self.tls is not None:
            self.server.socket = self.tls.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def _drip(self, handler: BaseHTTPRequestHandler) -> None:
        try:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
            for _ in range(600):
                handler.wfile.write(b"x")
                time.sleep(self.drip_seconds)
        except OSError:
            return  # the client has gone, as it should

    @property
    def url(self) -> str:
        """Return its address."""
        return f"http://{self.address}:{self.port}/hook?a=b"

    def close(self) -> None:
        """Listen no more."""
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Give a server that takes what it is sent."""
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def hooked(target_url: str, tmp_path: Path, redis_url: str) -> Iterator[Web]:
    """Give the application, which may reach 127.0.0.1; once on SQLite, once on PostgreSQL."""
    yield from _hooked(target_url, tmp_path, redis_url)


@pytest.fixture
def lite_hooked(target_url_sqlite: str, tmp_path: Path, redis_url: str) -> Iterator[Web]:
    """Give the same on SQLite, for what no database can change."""
    yield from _hooked(target_url_sqlite, tmp_path, redis_url)


def _hooked(target_url: str, folder: Path, redis_url: str) -> Iterator[Web]:
    sql(target_url, TABLE)
    made = Web(settings_for(target_url, folder, redis_url, WEBHOOK_NETWORKS="127.0.0.1/32"))
    made.control(ONE_FILE)
    yield made
    made.close()


def hook(web: Web, url: str, key: str | None = None, **fields: str) -> Webhook:
    """Make a webhook."""
    reply = web.post("/api/webhooks", {"url": url, **fields}, key=key)
    assert reply.status_code == 200, reply.text
    made = webhooks.get(web.catalog, reply.text.split()[0])
    assert made is not None
    return made


def imported(web: Web, data: bytes = b"carrier,name\nAA,American\n", query: str = "", key: str | None = None) -> int:
    """Import some airlines to the end; return the batch."""
    reply = web.post(f"/api/import/airlines{query}", data, content_type="text/csv", key=key)
    assert reply.status_code == 202, reply.text
    work_off(web)
    return int(reply.text)


def tell(web: Web) -> None:
    """Make the requests that are due."""
    made = notices_of(web)
    made.fan_out()
    while made.tell_by_request():
        pass
