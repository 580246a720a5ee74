"""What a run is given and what it gives back: the order, its files, the store of its segments, the result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

from engine.allowed import Allowed
from engine.plan import Plan
from engine.readers import Limits
from engine.results import Counts


class Store(Protocol):
    """Where segments lie until the run is over: a spool."""

    def write_segment(self, run: str, name: str, data: bytes) -> None:
        """Write a segment; it is durable on return."""

    def read_segment(self, run: str, name: str) -> bytes:
        """Return a segment."""

    def drop_segments(self, run: str) -> None:
        """Delete all segments of a run."""


@dataclass(frozen=True, slots=True)
class RunFile:
    """One file of the batch."""

    name: str
    open: Callable[[], BinaryIO]
    verify: Callable[[], None]  # reads all its bytes; DigestMismatch
    format: str | None = None  # how it is read, where not as the plan says
    separator: str | None = None


@dataclass(frozen=True, slots=True)
class Outbox:
    """How the events of records are written."""

    most: int  # events that may wait; the run waits rather than let there be more
    on_wait: Callable[[], None] = lambda: None  # called while it waits


@dataclass(frozen=True, slots=True)
class Help:
    """How others may be had to write chunks of a run."""

    invite: Callable[[int, int, int], None]  # told how many workers help, the number of the file that is read, and the byte; asks for more
    silent_seconds: float = 30.0  # a hand that gives no sign of life for so long is dismissed


@dataclass(frozen=True, slots=True)
class RunOrder:
    """All that is to be known to carry a run out."""

    run: str  # names the run in the target: the batch's id and the run's number
    batch_id: int
    files: Sequence[RunFile]  # in the order in which they are taken
    plan: Plan
    mode: Literal["import", "dry-run"]
    execution: Literal["PerRecord", "AllOrNone"]
    is_ordered: bool
    started_at: datetime
    scratch: Path  # a folder for temporary files
    limits: Limits = field(default_factory=Limits)
    allowed: Allowed = field(default_factory=Allowed)  # what the batch's key may write
    chunk_records: int = 5_000
    chunk_bytes: int = 8 * 1024 * 1024
    writers: int = 2
    outbox: Outbox | None = None  # where each change of a record is told; None: nowhere
    help: Help | None = None  # None: the run is carried out by this process alone

    @property
    def is_one_transaction(self) -> bool:
        """Say whether all chunks are written in one transaction."""
        return self.mode == "dry-run" or self.execution == "AllOrNone"


State = Literal["completed", "failed", "cancelled", "handed-back"]
Stop = Literal["cancel", "hand-back", "time-out", "give-up"]


@dataclass(slots=True)
class RunResult:
    """How a run ended. `results` yields the results file's bytes; it must be consumed before the run is cleared away."""

    state: State
    counts: Counts
    results: Iterator[bytes]
    code: str = ""
    status_msg: str = ""
    warnings: list[str] = field(default_factory=list)
