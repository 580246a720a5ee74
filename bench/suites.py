"""What all suites have in common."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.measure import ROOT


@dataclass(frozen=True, slots=True)
class Options:
    """How much is to be measured."""

    rows: int = 1_000_000
    rounds: int = 3
    is_full: bool = False  # also what takes very long


@contextmanager
def workplace() -> Iterator[Path]:
    """Give an empty folder on a disk."""
    folder = ROOT / "var" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="run-") as name:
        yield Path(name)
