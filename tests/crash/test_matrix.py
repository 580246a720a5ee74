"""A worker killed at its calls: no row is lost, none doubled, and every receipt is right (T15, T16, T30)."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.crash.matrix import IN_BUCKET, SET_UPS, Matrix, SetUp, Tally

SEED = int(os.environ.get("CRASH_SEED", "") or random.SystemRandom().randrange(2**32))
EVERY = 3  # of the call sites, here one in so many, from one drawn by lot on; the slow tests take them all
# Handlers are told of on one of the databases here, on both by the slow tests.
IN_PART = [set_up for set_up in SET_UPS if not set_up.has_bucket and (not set_up.has_handlers or set_up.database == "postgresql")]
TAKEN = [pytest.param(s, EVERY, id=str(s)) for s in IN_PART]
TAKEN += [pytest.param(s, 1, id=f"{s}, every call site", marks=pytest.mark.slow) for s in SET_UPS if not s.has_bucket]


@pytest.mark.parametrize(("set_up", "every"), TAKEN)
def test_kills_at_call_sites(
    set_up: SetUp, every: int, tmp_path: Path, redis_url: str, postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """T15, T16, T30: killed once at call sites, between results and finish, finish and clear too; another worker ends it."""
    kill_at_sites(Matrix(set_up, tmp_path, redis_url, postgres_url), every, capsys)


@pytest.mark.slow
@pytest.mark.usefixtures("bucket_url")
def test_kills_with_a_spool_in_a_bucket(tmp_path: Path, redis_url: str, postgres_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """T15, T16: the same, each worker asking a real object store, of which its machine keeps nothing."""
    kill_at_sites(Matrix(IN_BUCKET, tmp_path, redis_url, postgres_url), 1, capsys)


def kill_at_sites(matrix: Matrix, every: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Kill at one call of so many sites, and compare."""
    set_up = matrix.set_up
    total, chance = Tally(), random.Random(f"{SEED} {set_up}")
    kills = matrix.kills_of_sites(chance)
    for kill in kills[chance.randrange(every) :: every]:
        total.add(matrix.kill(kill))
    matrix.close()
    with capsys.disabled():
        print(f"\n{set_up}: {total}; CRASH_SEED={SEED}")
    assert total.kills > len(kills) // every // 2 > 2  # a call may not come in every run: threads share the work as they get to it
    assert not total.wrong, "\n".join(total.wrong)
    assert (total.lost, total.doubled, total.receipts, total.unfinished) == (0, 0, 0, 0)
