"""What runs that are over have left in the target and in the spool, because their worker died before it had cleared up."""

from __future__ import annotations

import re

from sqlalchemy import Engine

from catalog import batches
from engine.target import Target
from spool import Spool


def clear(catalog: Engine, target: Target, spool: Spool) -> int:
    """Forget the heads, ledger rows and segments of runs that are over; return of how many runs there were any.

    Runs that the catalog does not know are left alone: the target may be another installation's too. TargetUnavailable, OSError.
    """
    found = {run: (int(match[1]), int(match[2])) for run in {*target.runs(), *spool.runs()} if (match := re.fullmatch(r"(\d+)-(\d+)", run))}
    over = batches.over(catalog, found.values())
    left = [run for run, which in found.items() if which in over]
    for run in left:
        target.forget(run)
        spool.drop_segments(run)
    return len(left)
