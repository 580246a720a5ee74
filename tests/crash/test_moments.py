"""Stops and breaks at exactly the worst moment: between the message and the first statement, and in the middle of COMMIT."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Collection
from pathlib import Path

import pytest

from dev.servers import end_with_parent
from jobs import queues
from tests.crash.parts import QUICK, assert_whole
from tests.jobs_parts import ROOT, Site, rows

pytestmark = pytest.mark.slow
# A worker that is sent SIGTERM when it has the message and no fork yet, or when its fork has begun and has said nothing to any database.
HOOKED = """
import os, signal, sys, time
import worker
from jobs import run_batch
def before_fork(self, name, queue, take=worker.BatchWorker._take):
    take(self, name, queue)
    os.kill(os.getpid(), signal.SIGTERM)
def in_fork(batch_id, run=run_batch.run):
    os.kill(os.getppid(), signal.SIGTERM)
    while not run_batch._is_stopping:
        time.sleep(0.01)
    run(batch_id)
if sys.argv[1] == "before":
    worker.BatchWorker._take = before_fork
else:
    run_batch.run = in_fork
worker.main([])
"""


@pytest.mark.parametrize("moment", ["before", "in"])
def test_sigterm_between_the_message_and_the_first_statement(site: Site, moment: str) -> None:
    """T18: the message was taken, nothing was claimed: the worker sends the hint again and ends, and the next one has it at once."""
    site.environment |= {"LEASE_SECONDS": "60", "SWEEP_SECONDS": "60"}
    redis = queues.connect(site.settings.redis_url)
    batch_id = site.batch(rows(10))
    queues.enqueue(redis, batch_id)
    with (site.folder / "hooked.log").open("wb") as log:
        hooked = subprocess.Popen(
            [sys.executable, "-c", HOOKED, moment], cwd=ROOT, env=os.environ | site.environment, stdout=log, stderr=log,
            preexec_fn=end_with_parent,
        )  # fmt: skip
    site.workers.append(hooked)
    assert hooked.wait(60) == 0
    assert (site.get(batch_id).state, site.get(batch_id).fence) == ("scheduled", 0)
    assert queues.hints(redis) == [str(batch_id)]
    site.start_worker()
    assert_whole(site, batch_id, 10)
    assert site.get(batch_id).fence == 1


class CommitCutter:
    """A TCP proxy before PostgreSQL that cuts the connection at some commits: before the server hears of it, or before it is answered."""

    def __init__(self, port: int, cut_at: Collection[int], is_after: bool) -> None:
        self._server, self._cut_at, self._is_after = ("127.0.0.1", port), cut_at, is_after
        self._commits, self._lock = 0, threading.Lock()
        self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client, socket.create_connection(self._server)), daemon=True).start()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        is_cut = threading.Event()
        back = threading.Thread(target=self._answer, args=(server, client, is_cut), daemon=True)
        back.start()
        with client, server, contextlib.suppress(OSError):
            while data := client.recv(65536):
                if b"COMMIT" in data and self._is_next():
                    is_cut.set()
                    if self._is_after:
                        server.sendall(data)
                        back.join()  # the server has done it, and its answer is dropped
                    return
                server.sendall(data)

    def _answer(self, server: socket.socket, client: socket.socket, is_cut: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while (data := server.recv(65536)) and not is_cut.is_set():
                client.sendall(data)

    def _is_next(self) -> bool:
        with self._lock:
            self._commits += 1
            is_cut = self._commits in self._cut_at
            self.cuts += is_cut
            return is_cut


@pytest.mark.parametrize("is_after", [False, True], ids=["undone", "done"])
def test_the_connection_is_lost_at_commit(target_url_pg: str, redis_url: str, tmp_path: Path, is_after: bool) -> None:
    """T39: whether the commit was carried out cannot be known from the connection: the ledger says so, and no record counts twice."""
    address, _, database = target_url_pg.rpartition("/")
    proxy = CommitCutter(int(address.rpartition(":")[2]), cut_at={4, 5, 9, 14}, is_after=is_after)
    environment = {
        "TARGET_URL": f"postgresql://postgres@127.0.0.1:{proxy.port}/{database}", "CATALOG_URL": f"sqlite:///{tmp_path / 'catalog.db'}",
        "SPOOL_URL": f"file:{tmp_path / 'spool'}", "REDIS_URL": redis_url, "RUN_ATTEMPTS": "5",
    }  # fmt: skip
    direct = Site(tmp_path, QUICK | environment | {"TARGET_URL": target_url_pg})
    try:
        direct.environment["TARGET_URL"] = environment["TARGET_URL"]
        batch_id = direct.batch(rows(3000))
        queues.enqueue(queues.connect(redis_url), batch_id)
        direct.start_worker()
        assert_whole(direct, batch_id, 3000)
        assert proxy.cuts == 4 and direct.logged().count("of 5 failed") + direct.logged().count("its ledger stays") >= 3
        assert direct.execute("SELECT count(*), count(DISTINCT code) FROM things") == [(3000, 3000)]
    finally:
        direct.close()
        proxy.close()
