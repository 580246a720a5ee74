"""Print the crash matrix: `python -m tests.crash [--every STEP] [--jobs N] [WORD ...]`.

A kill at every call of every set-up (or every STEP-th), then kills of two workers one after the other; WORDs choose set-ups by their names.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from pathlib import Path

from dev.servers import answers, end_with_parent, free_port, stop, valkey_command, wait_until
from tests import object_store, postgresql
from tests.crash.matrix import SET_UPS, SetUp, Tally
from tests.crash.shares import DATABASES, Share

SHARES = 2  # parts that a set-up is cut into, so that no process is left with the longest one alone
# What a killed process has written is there for the next one whether a disk has it or not, so the matrix may work in memory.
MEMORY = Path("/dev/shm")


def main() -> int:
    """Do all kills; return the exit status, 0 where nothing was lost, doubled or wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash")
    parser.add_argument("words", nargs="*")
    parser.add_argument("--every", type=int, default=1, help="kill at every so many calls only")
    parser.add_argument("--jobs", type=int, default=min(os.cpu_count() or 1, DATABASES), help="how many processes do the killing")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    started, total = time.monotonic(), Tally()
    set_ups = [s for s in SET_UPS if all(word in str(s) for word in given.words)]
    with ExitStack() as stack:
        folder, port, server_url = stack.enter_context(_servers())
        if any(set_up.has_bucket for set_up in set_ups):
            os.environ.update(stack.enter_context(object_store.running()).environment())  # for the processes that kill
        shares = list(_shares(set_ups, given.every, str(given.seed), folder, port, server_url))
        with ProcessPoolExecutor(given.jobs, get_context("spawn")) as pool:
            open_shares: dict[SetUp, Tally] = {}
            for number, (set_up, calls, tally) in enumerate(pool.map(Share.kill, shares)):
                open_shares.setdefault(set_up, Tally()).add(tally)
                if number + 1 == len(shares) or shares[number + 1].set_up != set_up:
                    done = open_shares.pop(set_up)
                    print(f"{set_up!s:60} {calls:4} calls {done}", *done.wrong, sep="\n", flush=True)
                    total.add(done)
    print(f"{'all':60} {total}, in {time.monotonic() - started:.0f} s")
    return int(bool(total.wrong or total.lost or total.doubled or total.receipts or total.unfinished))


def _shares(set_ups: list[SetUp], every: int, seed: str, folder: Path, port: int, server_url: str) -> Iterator[Share]:
    """Cut the kills into parts, from a first call drawn by lot where only some are wanted."""
    number = 0
    for set_up in set_ups:
        first = 1 if every == 1 else random.Random(f"{seed} {set_up}").randint(1, every)
        for part in range(SHARES):
            yield Share(number, set_up, first + part * every, every * SHARES, seed, folder, port, server_url)
            number += 1


@contextmanager
def _servers() -> Iterator[tuple[Path, int, str]]:
    """Give a folder, the port of a Valkey and the URL of a PostgreSQL server, all gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="crash", dir=MEMORY if os.access(MEMORY, os.W_OK) else None))
    port = free_port()
    valkey = subprocess.Popen(valkey_command(port, folder, is_kept=False), start_new_session=True, preexec_fn=end_with_parent)
    try:
        wait_until(lambda: answers(port), valkey, "Valkey")
        server = postgresql.Server.start(next(iter(postgresql.versions().values())))
        try:
            yield folder, port, server.url("postgres")
        finally:
            server.stop()
    finally:
        stop(valkey)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
