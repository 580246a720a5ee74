"""A shared run whose hand, or whose holder, is killed at one of its calls: table, receipts and counts are those of one worker alone."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine import segments, sharing, writers
from engine.order import Help
from tests.crash import counting
from tests.engine_parts import sql
from tests.share_parts import Installation, pace, rows, written

SEED = int(os.environ.get("CRASH_SEED", "") or random.SystemRandom().randrange(2**32))
PATIENCE_SECONDS = 10
SOME = 3  # kills of the short test


@pytest.fixture(autouse=True)
def shared_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a run of some chunks be shared at once, and its segments lie in the ledger and in the store."""
    monkeypatch.setattr(sharing, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(writers, "WORTH_A_THREAD", 1)
    monkeypatch.setattr(segments, "INLINE_BYTES", 700)


class Killed(Installation):
    """An installation of which one process is forked, to be killed."""

    def forked(self, work: Callable[[], object], kill_at: Any = None, calls: Path | None = None) -> int:
        """Do something in a process of its own, which is killed at some call; return its id."""
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                counting.install(kill_at, calls)
                work()
                status = 0
            finally:
                os._exit(status)
        return pid

    def with_hand(self, kill_at: Any = None, calls: Path | None = None) -> tuple[int, tuple[Any, ...]]:
        """Carry a new run out with a hand that is killed; return the hand's exit status, and what the run comes to."""
        self.anew()
        helper: list[int] = []

        def invite(_present: int, *_where: int) -> None:
            if not helper:
                helper.append(self.forked(self.lend, kill_at, calls))
                self._wait(helper[0])

        with self.holder(Help(invite, silent_seconds=60), should_stop=pace) as (result, results):
            outcome = self.outcome(result, results)
            status = os.waitstatus_to_exitcode(os.waitpid(helper[0], 0)[1]) if helper[0] else -9
        return status, outcome

    def with_holder(self, kill_at: Any = None, calls: Path | None = None) -> tuple[int, tuple[Any, ...]]:
        """Carry a new run out with a holder that is killed, and on without help; return its exit status, and what comes of the run."""
        self.anew()

        def hold() -> None:
            with self.holder(Help(lambda present, *_: None if present else self._wait(0)), is_kept=True, should_stop=pace):
                pass

        pid = self.forked(hold, kill_at, calls)
        is_over = False

        def should_leave() -> bool:
            return is_over

        deadline = time.monotonic() + PATIENCE_SECONDS
        while not sql(self.url, "SELECT 1 FROM lading.head WHERE run = %s", self.run) and time.monotonic() < deadline:
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                break
        else:
            self.hand(should_leave)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        is_over = True
        with self.holder() as (result, results):
            return status, self.outcome(result, results)

    def _wait(self, pid: int) -> None:
        """Wait until the run has a hand, or the process that is to be one has died."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self.hands() and time.monotonic() < deadline:
            if pid and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                return
            time.sleep(0.005)


@pytest.mark.parametrize("role", ["hand", "holder"])
@pytest.mark.parametrize("is_all", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_kill_at_call_sites(target_url_pg: str, tmp_path: Path, role: str, is_all: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """A hand or holder killed once at each of its call sites, or at some: nothing is lost, nothing doubled, every receipt is right."""
    site = Killed(target_url_pg, tmp_path, written(rows(160, 60), "f.csv"))
    carry = site.with_hand if role == "hand" else site.with_holder
    expected = site.alone()
    calls = tmp_path / "calls"
    assert carry(calls=calls) == (0, expected)
    sites = Counter(calls.read_text().splitlines())
    assert any("take" in name for name in sites) and any("offers.put" in name for name in sites) == (role == "holder")
    chance = random.Random(f"{SEED} {role}")
    chosen = sorted(sites) if is_all else chance.sample(sorted(sites), SOME)
    killed = 0
    for name in chosen:
        kill_at = (name, chance.randint(1, sites[name]))
        status, outcome = carry(kill_at)
        assert status in (0, -9) and outcome == expected, f"{role} killed at {kill_at}, CRASH_SEED={SEED}"
        killed += status == -9
    with capsys.disabled():
        print(f"\n{role}: killed {killed} times at {len(chosen)} of {len(sites)} call sites; CRASH_SEED={SEED}")
    assert killed > len(chosen) // 2
