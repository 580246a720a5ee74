"""Measuring: commands that are run in turns, each in a process of its own."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of a command."""

    seconds: float
    peak_mib: float
    told: dict[str, Any] = field(default_factory=dict)  # what the command itself reported

    @property
    def with_start(self) -> Sample:
        """Return the same with all of the process's time, its start too."""
        return replace(self, seconds=self.told["process_seconds"])


@dataclass(frozen=True, slots=True)
class Command:
    """One way to do a thing. `prepare` is not measured; it gives the words of the command and its environment."""

    name: str
    prepare: Callable[[], tuple[Sequence[str], dict[str, str]]]
    check: Callable[[Sample], None] = lambda sample: None  # raises if it did not do what it should; not measured
    reports: bool = False  # its last line is JSON with `seconds` and `peak_mib` of its own, from which its start is left out
    may_fail: bool = False


class Failed(RuntimeError):
    """A measured command ended otherwise than it should."""


def once(command: Command) -> Sample:
    """Run a command and say how long it took and how much memory its process used at most."""
    words, environment = command.prepare()
    os.sync()
    started = time.perf_counter()
    process = subprocess.Popen(words, env=os.environ | environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    output = process.stdout.read().decode(errors="replace")
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    if process.returncode and not command.may_fail:
        raise Failed(f"{command.name}: exit status {process.returncode}\n{output[-4000:]}")
    told: dict[str, Any] = {"exit": process.returncode, "output": output, "process_seconds": seconds}
    if command.reports:
        told |= json.loads(output.splitlines()[-1])
    sample = Sample(told.get("seconds", seconds), told.get("peak_mib", usage.ru_maxrss / 1024), told)
    command.check(sample)
    return sample


def in_turns(commands: Sequence[Command], rounds: int) -> dict[str, list[Sample]]:
    """Run all commands, then all again, so that what slows the machine down for a while slows all of them."""
    samples: dict[str, list[Sample]] = {command.name: [] for command in commands}
    for number in range(rounds):
        for command in commands:
            sample = once(command)
            samples[command.name].append(sample)
            say(f"  {number + 1}/{rounds} {command.name}: {sample.seconds:.3f} s, {sample.peak_mib:.0f} MiB")
    return samples


def median(samples: Sequence[Sample]) -> float:
    """Return the median of the seconds."""
    return statistics.median(sample.seconds for sample in samples)


def peak(samples: Sequence[Sample]) -> float:
    """Return the most memory, in MiB."""
    return max(sample.peak_mib for sample in samples)


def own_peak_mib() -> float:
    """Return the most memory that this process has used since it was started; its parent's, before the start, is left out."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def say(text: str) -> None:
    """Tell how far the bench is."""
    print(text, file=sys.stderr, flush=True)
