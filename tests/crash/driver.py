"""Forks processes that carry out what waits, as worker.py does, on request: `python -m tests.crash.driver`, one JSON order a line.

An order: {"environment": {...}, "batch_id": n, "kill_at": n | [site, k] | null, "calls": path | null, "log": path, "is_warm_up": bool}. The
answer is the exit status of the process, negative for the signal that ended it. A warm-up is carried out in this very process: what a run
imports and prepares at its first use is there, once for all, when the others are forked, so that a kill costs milliseconds.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import logs
import worker
from engine import segments
from jobs import run_batch
from settings import Settings
from tests.crash import counting

INLINE_BYTES = 900  # so that some chunks' results lie in the ledger and others, those with faults, in the spool


def main() -> None:
    """Answer orders until there are no more."""
    for module in worker.PRELOADED:
        importlib.import_module(module)
    segments.INLINE_BYTES = INLINE_BYTES
    run_batch.LINGER_SECONDS = 0
    for line in sys.stdin:
        order = json.loads(line)
        settings = Settings.from_environment(order["environment"])
        run_batch.prepare(settings, "crash")
        print(_warm_up(settings) if order["is_warm_up"] else _forked(order), flush=True)


def _warm_up(settings: Settings) -> int:
    """Carry the batch out here. A run stops when its parent is no longer the process that was prepared, so it is told of ours."""
    with run_batch.Drain(settings, "crash", os.getppid()) as drain:
        drain.work()
    gc.collect()
    gc.freeze()
    return 0


def _forked(order: dict[str, Any]) -> int:
    pid = os.fork()
    if pid == 0:
        _carry_out(order)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def _carry_out(order: dict[str, Any]) -> None:
    status = 1
    try:
        with Path(order["log"]).open("ab", buffering=0) as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        logs.configure("logfmt")
        signal.signal(signal.SIGTERM, run_batch.stop)
        kill_at = order["kill_at"]
        counting.install(tuple(kill_at) if isinstance(kill_at, list) else kill_at, order["calls"] and Path(order["calls"]))
        run_batch.run(order["batch_id"])
        status = 0
    finally:
        os._exit(status)


if __name__ == "__main__":
    main()
