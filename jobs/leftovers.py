"""What runs that are over have left in the target and in the spool, because their worker died before it had cleared up."""

from __future__ import annotations

import re

from sqlalchemy import Engine

from catalog import batches, holds
from engine.target import Target
from spool import Spool


def clear(catalog: Engine, target: Target, spool: Spool) -> int:
    """Forget the heads, ledger rows and segments of runs that are over; return of how many runs there were any.

    While a backup is being made nothing is forgotten. Runs that the catalog does not know are left alone, since the target may be another
    installation's too; and so are those that failed without stored results, since only the ledger tells what became of their records.
    Raises TargetUnavailable, OSError.
    """
    if holds.held_until(catalog) is not None:
        return 0
    found = {run: (int(match[1]), int(match[2])) for run in {*target.runs(), *spool.runs()} if (match := re.fullmatch(r"(\d+)-(\d+)", run))}
    done = batches.receipted(catalog, found.values())
    left = [run for run, which in found.items() if which in done]
    for run in left:
        target.forget(run)
        spool.drop_segments(run)
    return len(left)
