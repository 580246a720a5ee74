"""Runs Schemathesis against the whole service: web process, two workers, a queue."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from dev import demo
from dev.stack import ROOT, Stack
from tests.docs_parts import service

CONFIG = Path(__file__).parent / "schemathesis.toml"
# Nothing here is about waiting, and made-up requests ask for very long waits.
QUICK = {"WAIT_CAP_SECONDS": "0.05", "STALL_SECONDS": "2"}
HANDLE = "0b6f3c1e-8d5a-4f7b-9c2d-1a2b3c4d5e6f"


def run(folder: Path, redis_url: str, seconds: int, *more: str) -> subprocess.CompletedProcess[str]:
    """Make requests for about so many seconds; what was found is in the output, and the exit status is 1 where there is something."""
    demo.make_target(folder / "target.db")
    with service(folder, demo.environment(folder) | QUICK | {"REDIS_URL": redis_url}) as stack:
        key = demo.make_key(stack.env)
        demo.run_import(stack.address, key, folder)
        env = os.environ | {"KNOWN": json.dumps(known(stack, key)), "PYTHONPATH": str(ROOT)}
        command = [
            sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()", "--config-file", str(CONFIG),
            "run", f"{stack.address}/api/openapi.json", "--max-time", str(seconds), "--header", f"Authorization: Bearer {key}",
            "--header", "Accept: application/json", "--no-color", *more,
        ]  # fmt: skip
        return subprocess.run(command, cwd=folder, env=env, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def known(stack: Stack, key: str) -> dict[str, Any]:
    """Return what stands for the variables of the paths: things that are there."""

    def ask(method: str, path: str, data: bytes | None = None, **headers: str) -> Any:
        sent = {"Authorization": f"Bearer {key}", "Accept": "application/json", "Content-Type": "text/csv", **headers}
        with urllib.request.urlopen(urllib.request.Request(stack.address + path, data, sent, method=method), timeout=60) as reply:
            return json.load(reply)

    [batch] = ask("GET", "/api/batches")["batches"]
    upload = ask("POST", "/api/upload", None, **{"Tus-Resumable": "1.0.0", "Upload-Length": "1000"})["upload"]
    ask("PUT", f"/api/handle/{HANDLE}?name=airlines.csv", b"carrier,name\nXH,Handle Air\n")
    return {
        "batch": batch["id"], "digest": ask("GET", f"/api/batch/{batch['id']}")["files"][0]["digest"], "digest_or_name": batch["control"],
        "name": "flights.csv", "table": "airlines", "upload": upload, "handle": HANDLE,
    }  # fmt: skip
