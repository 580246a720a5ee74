"""Servers of the other clouds' object stores, for who has them installed: `OBJECT_STORE=azure pytest tests/test_spool*.py`.

The tests cannot count on these programs (Azurite comes from npm), so that by default all buckets of the tests are S3's.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

from dev.servers import answers, end_with_parent, free_port, stop, wait_until
from tests.google_store import google
from tests.object_store import ObjectStore

# The emulator's own, told in its documentation: https://learn.microsoft.com/azure/storage/common/storage-use-azurite
ACCOUNT = "devstoreaccount1"
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
API_VERSION = "2021-12-02"


class Azure(ObjectStore):
    """Azurite, Microsoft's emulator of Azure's blobs."""

    scheme = "az"

    def environment(self, port: int | None = None, address: str = "127.0.0.1", secret: str = ACCOUNT_KEY) -> dict[str, str]:
        """See ObjectStore."""
        return {
            "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": secret,
            "AZURE_STORAGE_ENDPOINT": f"http://{address}:{port or self.port}/{ACCOUNT}",
        }

    def make_container(self, name: str) -> None:
        """Make a container, by a request that is signed with the account's key."""
        headers = {"x-ms-date": format_datetime(datetime.now(UTC), usegmt=True), "x-ms-version": API_VERSION}
        named = "".join(f"{key}:{value}\n" for key, value in sorted(headers.items()))
        # Of the path, the account comes twice: once as the signer's, once because an emulator's addresses begin with it.
        signed = "PUT" + "\n" * 12 + named + f"/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
        digest = hmac.digest(base64.b64decode(ACCOUNT_KEY), signed.encode(), hashlib.sha256)
        headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}"
        url = f"http://127.0.0.1:{self.port}/{ACCOUNT}/{name}?restype=container"
        with urllib.request.urlopen(urllib.request.Request(url, b"", headers | {"Content-Type": ""}, method="PUT"), timeout=10):
            pass


@contextmanager
def azure() -> Iterator[Azure]:
    """Start Azurite, which must be on PATH (`npm install -g azurite`), with a container `lading`."""
    program = shutil.which("azurite-blob")
    if program is None:
        raise RuntimeError("OBJECT_STORE=azure needs azurite-blob on PATH: npm install -g azurite")
    folder, port = Path(tempfile.mkdtemp(prefix="lading-az-")), free_port()
    command = [
        program, "--silent", "--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck",
        f"--blobPort={port}", "--blobHost=127.0.0.1",
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True, preexec_fn=end_with_parent)
    try:
        wait_until(lambda: answers(port), process, "Azurite", 90)
        store = Azure(port)
        store.make_container("lading")
        yield store
    finally:
        stop(process)
        shutil.rmtree(folder, ignore_errors=True)


RUNNING = {"azure": azure, "google": google}
