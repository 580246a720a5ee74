"""Lines that break: TCP proxies before a server of this machine."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterable
from typing import Self


class Proxy:
    """Listens on a port of its own, and has each connection served in a thread of its own, by what a subclass makes of it."""

    def __init__(self, port: int) -> None:
        """`port`: of the server, on this machine."""
        self._server = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        raise NotImplementedError


class CuttingProxy(Proxy):
    """Passes connections on to a server, and cuts one after each of these numbers of bytes from clients; afterwards it cuts none."""

    def __init__(self, port: int, cut_after: Iterable[int]) -> None:
        """See Proxy."""
        super().__init__(port)
        self._budgets = list(cut_after)
        self._lock = threading.Lock()
        self.cuts = 0

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._server) as server:
            back = threading.Thread(target=_pass_on, args=(server, client), daemon=True)
            back.start()
            with contextlib.suppress(OSError):
                while data := client.recv(65536):
                    if self._is_cut(len(data)):
                        for end in (client, server):
                            # A reset, as of a line that is gone, not an orderly end.
                            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        server.shutdown(socket.SHUT_RD)  # ends the way back, which would keep the connection open
                        back.join()
                        return
                    server.sendall(data)
                server.shutdown(socket.SHUT_WR)
                back.join()

    def _is_cut(self, count: int) -> bool:
        with self._lock:
            if not self._budgets:
                return False
            self._budgets[0] -= count
            if self._budgets[0] > 0:
                return False
            self._budgets.pop(0)
            self.cuts += 1
            return True


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
