"""Takes a test's PostgreSQL server away and brings it back."""

from __future__ import annotations

import signal
import subprocess

from dev.servers import end_with_parent, stop, wait_until
from tests.postgresql import Server


def restart(server: Server, with_signal: signal.Signals) -> None:
    """Stop the server (SIGINT: fast, SIGQUIT: at once, without a checkpoint) and start it again as it was started."""
    process = server.process
    assert process is not None
    command = process.args
    stop(process, 20, with_signal)
    (server.folder / "data" / "postmaster.pid").unlink(missing_ok=True)
    with (server.folder / "log").open("ab") as log:
        server.process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=server.folder, start_new_session=True, preexec_fn=end_with_parent, **server.as_user
        )
    wait_until(server._accepts, server.process, "PostgreSQL")
