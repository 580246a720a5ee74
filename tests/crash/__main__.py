"""Print the crash matrix: `python -m tests.crash [--every STEP] [WORD ...]`.

A kill at every call of every set-up (or every STEP-th), then kills of two workers one after the other; WORDs choose set-ups by their names.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from dev.servers import answers, end_with_parent, free_port, stop, valkey_command, wait_until
from tests import postgresql
from tests.crash.matrix import SET_UPS, Matrix, Tally


def main() -> int:
    """Do all kills; return the exit status, 0 where nothing was lost, doubled or wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash")
    parser.add_argument("words", nargs="*")
    parser.add_argument("--every", type=int, default=1, help="kill at every so many calls only")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="crash"))
    port = free_port()
    valkey = subprocess.Popen(valkey_command(port, folder, is_kept=False), start_new_session=True, preexec_fn=end_with_parent)
    wait_until(lambda: answers(port), valkey, "Valkey")
    server = postgresql.Server.start(next(iter(postgresql.versions().values())))
    total = Tally()
    try:
        for number, set_up in enumerate(s for s in SET_UPS if all(word in str(s) for word in given.words)):
            matrix = Matrix(set_up, folder / str(number), f"redis://127.0.0.1:{port}/0", server.url("postgres"))
            tally = kill_everywhere(matrix, given.every, random.Random(f"{given.seed} {set_up}"))
            matrix.close()
            print(f"{set_up!s:60} {len(matrix.sites):4} calls {tally}", flush=True)
            print(*tally.wrong, sep="\n", end="", flush=True)
            total.add(tally)
    finally:
        server.stop()
        stop(valkey)
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{'all':60} {total}")
    return int(bool(total.wrong or total.lost or total.doubled or total.receipts or total.unfinished))


def kill_everywhere(matrix: Matrix, every: int, chance: random.Random) -> Tally:
    """Kill at each call, from a first one drawn by lot where only some are wanted; and, a tenth as often, kill the second worker too."""
    total = Tally()
    calls = len(matrix.sites)
    for call in range(1 if every == 1 else chance.randint(1, every), calls + 1, every):
        total.add(matrix.kill(call))
    for _ in range(calls // every // 10):
        total.add(matrix.kill(chance.randint(1, calls), chance.randint(1, calls)))
    return total


if __name__ == "__main__":
    sys.exit(main())
