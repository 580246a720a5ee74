"""Connections that cut off clients who send too slowly.

A thread that waits for a client's next bytes does nothing else, so a few clients that send a byte a second would hold all of them. The
kernel's own time-out ends only the silent ones. What is measured is the time spent waiting for the client, never our own work.
"""

from __future__ import annotations

import socket
import time

from errors import TooSlow


class PacingListener(socket.socket):
    """A listening socket whose connections are PacedSockets. It takes the place of another one by that one's handle."""

    def __init__(self, listener: socket.socket, bytes_per_second: float, window_seconds: float) -> None:
        super().__init__(fileno=listener.detach())
        self._pace = bytes_per_second, window_seconds

    def accept(self) -> tuple[socket.socket, object]:
        """Accept a connection."""
        handle, address = self._accept()  # type: ignore[attr-defined]
        return PacedSocket(handle, *self._pace), address


class PacedSocket(socket.socket):
    """A connection whose client must send so many bytes a second, counted over windows of `window_seconds` of waiting for it."""

    def __init__(self, handle: int, bytes_per_second: float, window_seconds: float) -> None:
        super().__init__(fileno=handle)
        self._bytes_per_second, self._window_seconds = bytes_per_second, window_seconds
        self._waited, self._received = 0.0, 0

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """Receive bytes. Raises TooSlow where too few came while they were waited for."""
        began = time.monotonic()
        data = super().recv(size, flags)
        self._waited += time.monotonic() - began
        self._received += len(data)
        if self._waited >= self._window_seconds:
            if data and self._received < self._waited * self._bytes_per_second:
                raise TooSlow(f"{self._received} bytes in {self._waited:.0f} seconds")
            self._waited, self._received = 0.0, 0
        return data
