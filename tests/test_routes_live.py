"""The service as users meet it: gunicorn, a worker's sign of life, and curl."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from catalog import batches
from catalog.batches import Counts, State
from dev.servers import answers, free_port, stop, wait_until
from tests.web_parts import CONTROL, ROOT, Web, lite

__all__ = ["lite"]


@dataclass
class Live:
    """gunicorn on a port of its own, and the catalog behind it."""

    web: Web
    port: int
    folder: Path

    def curl(self, path: str, *options: str, key: str | None = "") -> str:
        """Ask with curl; return what it prints: the reply, then a space and the status."""
        user = [] if key is None else ["-u", f"api:{key or self.web.key}"]
        command = ["curl", "-sS", "-w", " %{http_code}", *user, *options, f"http://127.0.0.1:{self.port}{path}"]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=self.folder, timeout=60).stdout


@pytest.fixture
def live(lite: Web, tmp_path: Path) -> Iterator[Live]:
    """Give the application served by gunicorn, as the Procfile starts it."""
    port, settings = free_port(), lite.settings
    urls = {name.upper(): getattr(settings, name) for name in ("target_url", "catalog_url", "spool_url", "redis_url")}
    environment = os.environ | urls | {"PORT": str(port), "WEB_CONCURRENCY": "1"}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "gunicorn", "wsgi:app"], cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        wait_until(lambda: answers(port), process, "gunicorn")
        yield Live(lite, port, tmp_path)
    finally:
        stop(process)
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_the_four_steps_by_curl(live: Live) -> None:
    """The four steps with curl give bare values; the status waits for the run's end; the log has a line for each request."""
    (live.folder / "c.yaml").write_bytes(CONTROL)
    (live.folder / "a.csv").write_text("carrier,name\nAA,American\n")
    control, status = live.curl("/api/control", "-F", "file=@c.yaml").split()
    assert (len(control), status) == (64, "200")
    batch, status = live.curl("/api/batch", "-d", "control=airlines", "-H", "Idempotency-Key: one").split()
    assert (batch.isdecimal(), status) == (True, "200")
    digest, status = live.curl("/api/file", "-F", f"batch={batch}", "-F", "name=airlines.csv", "-F", "file=@a.csv").split()
    assert (len(digest), status) == (64, "200")
    assert live.curl("/api/schedule", "-d", f"batch={batch}") == "SCHEDULED 200"
    claim = batches.claim(live.web.catalog, "a test", 30)
    assert claim is not None and str(claim.batch_id) == batch
    batches.finish(live.web.catalog, claim.batch_id, claim.fence, state=State.COMPLETED, counts=Counts(input=1, created=1))
    assert live.curl(f"/api/batch/{batch}?wait=10") == "completed input=1 success=1 error=0 skip=0 200"
    assert f"path=/api/batch/{batch} status=200" in (live.folder / "log").read_text()


def test_refusals_arrive_whatever_was_sent(live: Live) -> None:
    """Whoever sends much without a key, or too much, gets the refusal, not a broken connection."""
    with (live.folder / "big").open("wb") as big:
        big.truncate(64 * 2**20)
    for path, options in {
        "/api/file": ["-F", "batch=1", "-F", "name=x", "-F", "file=@big"],
        f"/api/file/{'0' * 64}": ["-T", "big"],
        "/api/batch": ["--data-binary", "@big"],
    }.items():
        for _ in range(3):
            assert live.curl(path, *options, key="lad_no_no").endswith("\n 401"), path
    assert live.curl("/api/batch", "--data-binary", "@big").endswith("\n 413")
    assert live.curl("/api/batch", "--data-binary", "@big", "-H", "Transfer-Encoding: chunked").endswith("\n 413")
    assert live.curl("/api/batch", "-d", "control=none", "-H", "Transfer-Encoding: chunked") == "Control file not found: none\n 404"
    assert live.curl("/healthz", key=None) == "ok 200"
