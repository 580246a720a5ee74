"""One signed request to an address that somebody outside has chosen.

A name is looked up once, each address that it has is checked, and the connection goes to an address that was checked: what the name says
afterwards does not matter. Redirects are not followed, proxies of the environment not used, bodies of replies not read.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import SplitResult, urlsplit

import clock
from errors import LadingError
from schemas.webhooks import Networks, is_within, may_be_reached, port_of

CONNECT_SECONDS = 10.0
DEADLINE_SECONDS = 20.0  # for a request and the head of its reply


class NotAllowed(LadingError):
    """The address may not be reached."""


@dataclass(frozen=True, slots=True)
class Reach:
    """Where requests may go."""

    ports: Sequence[int] = (443,)
    networks: Networks = ()  # beside what is public, on any port, over http too


@dataclass(frozen=True, slots=True)
class Answer:
    """What the receiver answered."""

    status: int
    retry_after_seconds: float  # 0: it did not say


def signed(message_id: str, body: bytes, secrets: Sequence[str]) -> dict[str, str]:
    """Return the headers that sign a body as Standard Webhooks do, with each of these secrets (`whsec_` and Base64)."""
    timestamp = str(int(time.time()))
    content = f"{message_id}.{timestamp}.".encode() + body
    keys = (base64.b64decode(secret.removeprefix("whsec_")) for secret in secrets)
    signatures = (base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode() for key in keys)
    return {"webhook-id": message_id, "webhook-timestamp": timestamp, "webhook-signature": " ".join(f"v1,{one}" for one in signatures)}


def post(url: str, body: bytes, headers: dict[str, str], reach: Reach, deadline_seconds: float = DEADLINE_SECONDS) -> Answer:
    """Send a request; return the status of its reply.

    Raises NotAllowed where the address may not be reached, OSError or http.client.HTTPException where there is no reply in time.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", port_of(parts)
    sock = _connect(_checked(host, port, parts.scheme, reach), port)
    with _ended_after(sock, deadline_seconds) as is_late:
        try:
            if parts.scheme == "https":
                sock = ssl.create_default_context().wrap_socket(sock, server_hostname=host)
            answer = _exchange(sock, parts, body, headers)
        finally:
            sock.close()
    if is_late.is_set():  # what was cut off may look like a short reply
        raise TimeoutError("the reply took too long")
    return answer


def _checked(host: str, port: int, scheme: str, reach: Reach) -> list[str]:
    """Return the addresses of a host; NotAllowed unless all of them may be reached in this way."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise NotAllowed(f"{host} is no host's name") from error
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for address in addresses:
        if not may_be_reached(address, reach.networks):
            raise NotAllowed("the address is not public")
        if (scheme != "https" or port not in reach.ports) and not is_within(address, reach.networks):
            raise NotAllowed(f"{scheme} on port {port} is not allowed")
    return addresses


def _connect(addresses: Sequence[str], port: int) -> socket.socket:
    for address in addresses[:-1]:
        try:
            return socket.create_connection((address, port), CONNECT_SECONDS)
        except OSError:
            continue  # The next one may answer: of two, often only the IPv4 address can be reached.
    return socket.create_connection((addresses[-1], port), CONNECT_SECONDS)


@contextmanager
def _ended_after(sock: socket.socket, seconds: float) -> Iterator[threading.Event]:
    """End the connection after so many seconds, whatever it is at: each read alone may be in time, and all of them take for ever."""
    # The socket itself changes hands when it is wrapped for TLS; a second handle on the same connection stays.
    handle, is_late = sock.dup(), threading.Event()

    def end() -> None:
        is_late.set()
        try:
            handle.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # It has ended already.

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield is_late
    finally:
        timer.cancel()
        timer.join()
        handle.close()


def _exchange(sock: socket.socket, parts: SplitResult, body: bytes, headers: dict[str, str]) -> Answer:
    connection = http.client.HTTPConnection(parts.netloc)
    connection.sock = sock
    target = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
    said = {"Content-Type": "application/json", "User-Agent": "Lading", "Connection": "close"}
    connection.request("POST", target, body, said | headers)
    with connection.getresponse() as reply:
        return Answer(reply.status, _seconds(reply.getheader("Retry-After")))


def _seconds(retry_after: str | None) -> float:
    """Return what Retry-After says, a number of seconds or an instant, as seconds from now.

    >>> _seconds("120"), _seconds("soon"), _seconds("Sun, 06 Nov 1994 08:49:37 GMT"), _seconds(None)
    (120.0, 0.0, 0.0, 0.0)
    """
    text = (retry_after or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max((parsedate_to_datetime(text) - clock.now()).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return 0.0
