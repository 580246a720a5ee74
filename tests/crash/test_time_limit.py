"""A run that takes longer than RUN_SECONDS allows."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from catalog.batches import Execution, Options, State
from tests.crash.parts import MANY, running
from tests.jobs_parts import Site

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("execution", list(Execution))
def test_a_run_that_takes_too_long(site: Site, tmp_path: Path, execution: Execution) -> None:
    """The run ends `timed_out`, not to be tried again; its committed chunks stay, the rest is told unprocessed, no file is left (T25)."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    site.environment |= {"RUN_SECONDS": "2", "TMPDIR": str(scratch), "CHUNK_RECORDS": "20"}
    site.slow_down()
    site.start_worker()
    batch_id = running(site, MANY, options=Options(execution=execution, is_ordered=execution is Execution.ALL_OR_NONE), is_awaited=False)
    batch = site.wait_over(batch_id, 90)
    counts = batch.counts
    assert (batch.state, batch.code, batch.run and batch.run.attempts) == (State.FAILED, "timed_out", 1)
    assert (counts.input, counts.created + counts.unprocessed, counts.errors) == (MANY, MANY, 0)
    assert (0 < counts.created < MANY) if execution is Execution.PER_RECORD else (counts.created == 0)
    assert site.execute("SELECT count(*), count(DISTINCT code) FROM things") == [(counts.created, counts.created)]
    told = Counter(line.partition(",")[0] for line in site.results(batch_id).splitlines()[1:])
    assert told["Core_Data_NotReached"] > 0 and told["Core_Data_NotReached"] + told["Core_Data_RolledBack"] == counts.unprocessed
    assert told.total() == MANY and (execution is Execution.ALL_OR_NONE or not told["Core_Data_RolledBack"])
    site.close()
    assert list(scratch.iterdir()) == []
