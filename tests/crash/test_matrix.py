"""A worker killed at each of its calls: no row is lost, none doubled, and every receipt is right (T15, T16, T30)."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.crash.matrix import SET_UPS, Matrix, SetUp, Tally

SEED = int(os.environ.get("CRASH_SEED", "") or random.SystemRandom().randrange(2**32))


# A minute each: handlers are told of on one of the databases here, on both by `make crash`.
IN_FULL = [set_up for set_up in SET_UPS if set_up.has_handlers and set_up.database == "sqlite"]


@pytest.mark.parametrize("set_up", [pytest.param(s, marks=[pytest.mark.slow] * (s in IN_FULL)) for s in SET_UPS], ids=str)
def test_a_kill_at_every_call_site(
    set_up: SetUp, tmp_path: Path, redis_url: str, postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """T15, T16, T30: killed once at each call site, between results and finish, finish and clear too; another worker ends it."""
    matrix = Matrix(set_up, tmp_path, redis_url, postgres_url)
    total = Tally()
    for kill in matrix.kills_of_sites(random.Random(f"{SEED} {set_up}")):
        total.add(matrix.kill(kill))
    matrix.close()
    with capsys.disabled():
        print(f"\n{set_up}: {total}; CRASH_SEED={SEED}")
    assert total.kills > 20
    assert not total.wrong, "\n".join(total.wrong)
    assert (total.lost, total.doubled, total.receipts, total.unfinished) == (0, 0, 0, 0)
