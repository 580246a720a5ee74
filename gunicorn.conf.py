"""How gunicorn serves the web process. GUNICORN_CMD_ARGS and the command line override what stands here."""

import os
import socket
import struct
from typing import Any

from pace import PacingListener
from settings import Settings

_settings = Settings.from_environment()

# A platform that sets PORT sends its requests from other machines; without it, nobody but this machine's users is let in.
bind = f"0.0.0.0:{_settings.port}" if os.environ.get("PORT") else f"127.0.0.1:{_settings.port}"

# Threads, because a slow upload holds one for its whole length, and dozens of them must not need dozens of processes. A connection that has
# not sent anything yet holds none: gthread gives it back to its poller after five seconds.
worker_class = "gthread"
workers = _settings.web_concurrency
threads = _settings.web_threads
# With gthread this is how long the process, not a request, may be silent; so it ends no slow upload.
timeout = 60
# Platforms kill 30 seconds after they asked to stop.
graceful_timeout = 25
# Longer than the minute for which proxies keep their idle connections, so that it is they who close them first.
keepalive = 75

# The sign of life is a file; on a disk under load, touching it can block.
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108
control_socket_disable = True
_proxies = _settings.forwarded_allow_ips
forwarded_allow_ips = _proxies if isinstance(_proxies, str) else ",".join(map(str, _proxies))


def when_ready(server: Any) -> None:
    """Cut clients off that fall silent, or nearly so, in the middle of a request: gthread would let each hold a thread for ever.

    The kernel hands a listening socket's time-outs on to every connection that it accepts, and the workers inherit the socket.
    """
    silence = struct.pack("ll", int(_settings.stall_seconds), int(_settings.stall_seconds % 1 * 1_000_000))
    for listener in server.LISTENERS:
        listener.sock = PacingListener(listener.sock, _settings.min_bytes_per_second, _settings.stall_seconds)
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, silence)
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, silence)
