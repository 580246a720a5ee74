"""A measured command: carry out what waits, as a worker's fork does, and tell how long that took. `python -m bench.work BATCH`

Included: the claim, reading and checking the file's digest, the lease's heartbeats, every chunk's synced results, the results file
assembled and synced, the end in the catalog. Left out: the interpreter's start, which a worker has behind it.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from dataclasses import asdict

import catalog
import worker
from bench.measure import own_peak_mib
from catalog import batches
from jobs.run_batch import Drain
from settings import Settings


def main(batch_id: int) -> None:
    """Claim, carry out, report. No queue is to be reached, so the fork ends instead of waiting for more."""
    settings = Settings.from_environment()
    logging.getLogger("jobs").setLevel(logging.ERROR)
    worker.prepare_forks(settings)
    started = time.perf_counter()
    with Drain(settings, "bench", os.getppid()) as drain:
        drain.work()
    seconds = time.perf_counter() - started
    told = {"seconds": seconds, "peak_mib": own_peak_mib()}
    engine = catalog.connect(settings.catalog_url)
    batch = batches.get(engine, batch_id)
    assert batch is not None
    engine.dispose()
    print(json.dumps(told | {"state": batch.state.value, "counts": asdict(batch.counts), "status_msg": batch.status_msg}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
