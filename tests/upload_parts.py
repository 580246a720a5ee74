"""A live web process for the tests of uploads and results: gunicorn with the real application, its catalog and its spool."""

from __future__ import annotations

import hashlib
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy

import catalog
from catalog import batches, controls, keys, migrate
from dev.servers import answers, end_with_parent, free_port, stop, wait_until
from spool import Spool, open_spool

ROOT = Path(__file__).parent.parent
CONTROL = b"""
files:
  flights.csv: {entity: Flight, action: Insert}
  more.csv: {entity: Flight, action: Insert}
entities:
- {entity: Flight, table: flights, input: [code, name], mappings: [code: , name: ]}
"""


@dataclass
class Web:
    """The running process and what it serves."""

    url: str
    process: subprocess.Popen[bytes]
    catalog: sqlalchemy.Engine
    spool: Spool
    spool_dir: Path
    key: str

    def curl(self, *arguments: str, key: str | None = None) -> str:
        """Return what curl prints for an address of the API, with the status behind it."""
        return self.answer(*arguments, key=key).decode()

    def answer(self, *arguments: str, key: str | None = None) -> bytes:
        """Return the same as bytes."""
        command = ["curl", "-sS", "-w", " %{http_code}", "-H", f"Authorization: apikey {key or self.key}", *arguments[:-1]]
        return subprocess.run([*command, self.url + arguments[-1]], check=True, stdout=subprocess.PIPE).stdout

    def batch(self, control: bytes = CONTROL, key: str | None = None) -> str:
        """Make an empty batch for a control file."""
        key_id = (key or self.key).split("_")[1]
        with self.spool.receive() as receiver:
            receiver.write(control)
            digest, _ = receiver.commit()
        controls.add(self.catalog, digest, key_id=key_id, tables=[(None, "flights")])
        return str(batches.create(self.catalog, control=digest, key_id=key_id))

    def new_key(self, *permissions: str) -> str:
        """Make another key."""
        return keys.create(self.catalog, "another", permissions or ("import", "read"))

    def partials(self) -> list[str]:
        """Return what lies in the spool's folder of partial files."""
        return [path.name for path in (self.spool_dir / "partial").iterdir()]

    def holds(self, data: bytes) -> bool:
        """Tell whether the spool holds these bytes."""
        return self.spool.size(hashlib.sha256(data).hexdigest()) is not None

    def peak_kib(self) -> int:
        """Return the most memory that the serving process has used."""
        child = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()[0]
        status = Path(f"/proc/{child}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0])


@contextmanager
def running(folder: Path, max_upload_bytes: int, max_file_bytes: int | None = None, workers: int = 1, **more: str) -> Iterator[Web]:
    """Run the web process in a folder; `max_file_bytes` is the system's limit for files that it writes, `more` are settings."""
    catalog_url, spool_dir, port = f"sqlite:///{folder / 'catalog.db'}", folder / "spool", free_port()
    migrate.upgrade(catalog_url)
    environment = {
        "TARGET_URL": f"sqlite:///{folder / 'target.db'}", "CATALOG_URL": catalog_url, "SPOOL_URL": f"file:{spool_dir}",
        "REDIS_URL": "redis://127.0.0.1:1/0", "MAX_UPLOAD_BYTES": str(max_upload_bytes), "PATH": "/usr/bin:/bin", **more,
    }  # fmt: skip

    def prepare() -> None:
        end_with_parent()
        if max_file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (max_file_bytes, max_file_bytes))

    command = [sys.executable, "-m", "gunicorn", f"--workers={workers}", "--threads=16", f"--bind=127.0.0.1:{port}", "wsgi:app"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, preexec_fn=prepare)
    wait_until(lambda: answers(port), process, "gunicorn")
    engine = catalog.connect(catalog_url)
    try:
        key = keys.create(engine, "test", ["import", "read"])
        yield Web(f"http://127.0.0.1:{port}", process, engine, open_spool(f"file:{spool_dir}"), spool_dir, key)
    finally:
        engine.dispose()
        stop(process)
