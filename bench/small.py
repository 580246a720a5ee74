"""Small batches: how long one takes on an idle worker, and how many a second one worker takes off a backlog."""

from __future__ import annotations

import http.client
import itertools
import json
import statistics
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from urllib.parse import urlencode

from redis import Redis

from bench import data, load_sqlite
from bench.databases import Postgres
from bench.figures import Figure
from bench.load_postgresql import Items
from bench.measure import ROOT, Failed, say
from bench.site import Site
from bench.suites import Options, workplace
from bench.uploads import Web
from catalog import batches, controls, files
from catalog.batches import Options as ScheduleOptions
from dev.servers import answers, end_with_parent, free_port, stop, valkey_command, wait_until
from jobs import queues

ROWS = 10
SINGLE_ROWS = 200
BATCHES = 40  # of which the time from POST to completed is taken
BACKLOG = {"PostgreSQL": 2_000, "SQLite": 5_000}
PAUSE_SECONDS = 3.0  # longer than a worker's fork waits for more: each batch meets a worker that does nothing at all
CONTROL = data.CONTROL.replace("ACTION", "Merge")


@contextmanager
def valkey(folder: Path) -> Iterator[str]:
    """Run a queue of the bench's own, with its append-only file; give its URL."""
    port = free_port()
    (folder / "valkey").mkdir()
    process = subprocess.Popen(valkey_command(port, folder / "valkey", is_kept=True), preexec_fn=end_with_parent)
    try:
        wait_until(lambda: answers(port), process, "Valkey")
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        stop(process)


@contextmanager
def worker(site: Site, folder: Path) -> Iterator[None]:
    """Run one worker."""
    with (folder / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "worker.py")], cwd=ROOT, env=site.environment | {"PATH": "/usr/bin:/bin"}, stdout=log, stderr=log,
            preexec_fn=end_with_parent,
        )  # fmt: skip
    try:
        yield
    finally:
        stop(process)


class Small:
    """Batches of ten rows, no two with the same keys."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site, self.folder = site, folder
        self.web = Web(site, folder)
        self.key_id = self.web.key.split("_")[1]
        self.control = site.stored_text(CONTROL)
        self.tables = site.tables(CONTROL)
        controls.add(self.web.catalog, self.control, key_id=self.key_id, tables=self.tables)
        self._numbers = itertools.count()
        self._rows = data.rows(ROWS * (BATCHES * 3 + max(BACKLOG.values())) + SINGLE_ROWS)

    def batch(self) -> int:
        """Make a batch with its file, ready to be scheduled."""
        lines = [",".join([*row[:7], ""]) for row in itertools.islice(self._rows, ROWS)]
        text = "\n".join([",".join(data.INPUTS), *lines]) + "\n"
        digest = self.site.stored_text(text)
        files.add(self.web.catalog, digest, len(text), key_id=self.key_id, name="items.csv")
        batch = batches.create(self.web.catalog, control=self.control, key_id=self.key_id)
        batches.attach(self.web.catalog, batch, "items.csv", digest)
        return batch

    def seconds(self, pause_seconds: float) -> float:
        """Return the median from before `POST /api/schedule` to the instant that the catalog has for the end."""
        taken = []
        connection = http.client.HTTPConnection("127.0.0.1", self.web.port)
        headers = {"Authorization": "Basic " + b64encode(f"api:{self.web.key}".encode()).decode(), "Accept": "application/json"}
        for number in range(BATCHES):
            batch = self.batch()
            time.sleep(pause_seconds)
            form = urlencode({"batch": batch})
            started = time.time()
            connection.request("POST", "/api/schedule", form, headers | {"Content-Type": "application/x-www-form-urlencoded"})
            reply = connection.getresponse()
            if reply.read() and reply.status != 200:
                raise Failed(f"POST /api/schedule: {reply.status}")
            connection.request("GET", f"/api/batch/{batch}?wait=30", headers=headers)
            status = json.loads(connection.getresponse().read())
            if (status["state"], status["created_count"]) != ("completed", ROWS):
                raise Failed(f"batch {number}: {status}")
            taken.append(datetime.fromisoformat(status["completed_at"]).timestamp() - started)
        connection.close()
        return statistics.median(taken)

    def one_row(self) -> float:
        """Return the median of a whole `POST /api/import/<control>?wait=30` of one row, from the request to the end of its results."""
        taken = []
        connection = http.client.HTTPConnection("127.0.0.1", self.web.port)
        headers = {"Authorization": "Basic " + b64encode(f"api:{self.web.key}".encode()).decode(), "Content-Type": "text/csv"}
        for _ in range(SINGLE_ROWS):
            row = next(self._rows)
            text = f"{','.join(data.INPUTS)}\n{','.join([*row[:7], ''])}\n"
            started = time.perf_counter()
            connection.request("POST", f"/api/import/{self.control}?wait=30", text, headers)
            reply = connection.getresponse()
            said = reply.read()
            taken.append(time.perf_counter() - started)
            if (reply.status, reply.headers["Import-Exit"]) != (200, "0"):
                raise Failed(f"POST /api/import: {reply.status} {said.decode()}")
            time.sleep(0.05)
        connection.close()
        return statistics.median(taken)

    def rate(self, redis_url: str, count: int) -> float:
        """Return how many waiting batches a second one worker completes, from the first's start to the last's end."""
        ids = [self.batch() for _ in range(count)]
        for batch in ids:
            batches.schedule(self.web.catalog, batch, ScheduleOptions(), self.tables)
        with Redis.from_url(redis_url) as redis, worker(self.site, self.folder):
            queues.enqueue(redis, ids[0])
            while not self._get(ids[-1]).state.is_over:
                time.sleep(0.2)
            found = [self._get(batch) for batch in ids]
        if any(batch.counts.created != ROWS for batch in found):
            raise Failed("not all batches of the backlog were carried out")
        starts, ends = [b.started_at for b in found if b.started_at], [b.completed_at for b in found if b.completed_at]
        return count / (max(ends) - min(starts)).total_seconds()

    def _get(self, batch_id: int) -> batches.Batch:
        batch = batches.get(self.web.catalog, batch_id)
        assert batch is not None
        return batch


def _measured(where: str, site: Site, folder: Path, goal: float) -> list[Figure]:
    with valkey(folder) as redis_url:
        site.more["REDIS_URL"] = redis_url
        small = Small(site, folder)
        try:
            with worker(site, folder):
                idle = small.seconds(PAUSE_SECONDS) * 1000
                say(f"  idle: {idle:.1f} ms")
                lately = small.seconds(0.1) * 1000
                say(f"  shortly after another: {lately:.1f} ms")
                single = small.one_row() * 1000
                say(f"  one row, waited for: {single:.1f} ms")
            rate = small.rate(redis_url, BACKLOG[where])
            say(f"  backlog: {rate:.0f} a second")
        finally:
            small.web.close()
    return [
        Figure(f"{where}: a 10-row batch on an idle worker, POST to `completed`", "ms", idle, 50),
        Figure(f"{where}: the same within 2 s of another batch", "ms", lately, 50),
        Figure(f"{where}: a one-row import over HTTP, waited for", "ms", single, 20 if where == "SQLite" else None),
        Figure(f"{where}: 10-row batches a second off a backlog, one worker", "1/s", rate, goal, is_least=True),
    ]


def postgresql(server: Postgres, _options: Options) -> list[Figure]:
    """Measure with target and catalog in PostgreSQL."""
    with workplace() as folder:
        items = Items(server, Options(rows=1), folder, [])
        server.create("run", "empty")
        return _measured("PostgreSQL", items.site, folder, 100)


def sqlite(_options: Options) -> list[Figure]:
    """Measure with target and catalog in SQLite."""
    with workplace() as folder:
        return _measured("SQLite", load_sqlite.Items(folder).site, folder, 300)
