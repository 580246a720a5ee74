"""`make run` and `make demo` leave nothing running, however they end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from dev import demo
from dev.servers import free_port
from dev.stack import ROOT, only_one

PATIENCE_SECONDS = 120  # of a machine that is busy with other tests


@pytest.fixture
def command(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Give a running `make run`, at the moment when it has said that it is ready."""
    env = demo.environment(tmp_path) | {"PORT": str(free_port())}
    process = subprocess.Popen([sys.executable, "-m", "dev.run", str(tmp_path)], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline().startswith(f"Lading runs at http://127.0.0.1:{env['PORT']}")
        yield process
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


def is_running(process: psutil.Process) -> bool:
    """Tell whether a process does anything still; one that only waits for its new parent to take note of its end does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def ended_within(processes: list[psutil.Process], timeout_seconds: float) -> bool:
    """Tell whether all of them have ended in time."""
    deadline = time.monotonic() + timeout_seconds
    while any(is_running(p) for p in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize("with_signal", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_in_order(command: subprocess.Popen[str], with_signal: signal.Signals) -> None:
    """Asked to stop, it ends with status 0, and queue, web process, workers and their sweeps have ended before it."""
    children = psutil.Process(command.pid).children(recursive=True)
    assert len(children) >= 5
    command.send_signal(with_signal)
    assert command.wait(PATIENCE_SECONDS) == 0
    assert ended_within(children, 1)


def test_killed_it_leaves_nothing(command: subprocess.Popen[str]) -> None:
    """Killed without a chance to tidy up, its children end by themselves."""
    children = psutil.Process(command.pid).children(recursive=True)
    command.kill()
    assert ended_within(children, PATIENCE_SECONDS)


def test_a_dead_part_ends_the_rest(command: subprocess.Popen[str]) -> None:
    """If one of its processes dies, it says so by its exit status instead of going on with half a service."""
    children = psutil.Process(command.pid).children()
    os.kill(children[-1].pid, signal.SIGKILL)
    assert command.wait(PATIENCE_SECONDS) == 1
    assert ended_within(children, 1)


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    """A second command on the same data is refused while the first runs, and not after it."""
    lock = tmp_path / "x.lock"
    with only_one(lock), pytest.raises(RuntimeError, match="another command"), only_one(lock):
        pass
    start = time.monotonic()
    with only_one(lock):
        assert time.monotonic() - start < 1


def test_the_demo_counts_by_itself() -> None:
    """The demo's own count finds what the excerpt's description says is missing: 16 planes and the airports of 4 flights."""
    assert {name: len(demo.rows(name)) for name in demo.TABLES} == {"airlines": 16, "airports": 52, "planes": 95, "flights": 120}
    assert len(demo.expected_refusals()) == 20


def test_the_demo_sees_what_is_wrong(tmp_path: Path) -> None:
    """A status, receipts or tables that differ from the count are each named."""
    demo.make_target(tmp_path / "target.db")
    (tmp_path / "results.csv").write_text("#Code,Message,Severity,LineNumber,Properties,EntityId,File\n")
    found = demo.problems(tmp_path, "completed input=283 success=283 error=0 skip=0\n")
    assert [problem.split()[0] for problem in found] == ["the", "0", "refused", "table", "table", "table", "table"]
