"""What a batch can be in and what is known of it: states, options, counts, and the rows as plain data."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import clock
from errors import LadingError


class State(StrEnum):
    """Where a batch, or one of its runs, stands."""

    UPLOADING = "uploading"  # files may still be added; no run yet
    SCHEDULED = "scheduled"  # waits for a worker, its start time or its lanes; its files are frozen
    RUNNING = "running"  # a worker holds its lease and its lanes
    HELD = "held"  # a guard rail stopped it until somebody approves
    COMPLETED = "completed"  # every record has its outcome; some may be errors
    FAILED = "failed"  # the run ended early or was taken back; status_msg and code say why
    CANCELLED = "cancelled"  # stopped on request

    @property
    def is_over(self) -> bool:
        """Tell whether the run has ended for good."""
        return self in (State.COMPLETED, State.FAILED, State.CANCELLED)


class Mode(StrEnum):
    """What a run does with the target."""

    DRY_RUN = "dry-run"  # the real path in one transaction, rolled back at its end
    IMPORT = "import"  # for good


class Execution(StrEnum):
    """What one refused record means for the others."""

    PER_RECORD = "PerRecord"  # nothing
    ALL_OR_NONE = "AllOrNone"  # all are taken back


class Beat(StrEnum):
    """What a heartbeat learns."""

    OK = "ok"  # the lease is renewed
    CANCEL = "cancel"  # renewed too, but somebody wants the batch stopped at the next chunk border
    LOST = "lost"  # the lease is another's, or the run is over: write nothing more


class CountLawBroken(LadingError):
    """The outcomes of a run do not add up to its records, so its results cannot be trusted."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many records a run has read, and what became of them."""

    input: int = 0  # records read
    created: int = 0
    updated: int = 0
    deleted: int = 0
    skipped: int = 0
    errors: int = 0
    unprocessed: int = 0

    @property
    def success(self) -> int:
        """Return how many records changed the target."""
        return self.created + self.updated + self.deleted

    def check(self) -> None:
        """Raise CountLawBroken unless every record has exactly one outcome."""
        if self.success + self.skipped + self.errors + self.unprocessed != self.input:
            raise CountLawBroken(f"the outcomes do not add up to the records: {self}")


@dataclass(frozen=True, slots=True)
class Options:
    """How a batch is to be run: what `POST /api/schedule` says. Two equal ones are one request, repeated."""

    mode: Mode = Mode.IMPORT
    execution: Execution = Execution.PER_RECORD
    is_ordered: bool = False
    has_event_handlers: bool = False
    start_at: datetime | None = None  # not before this instant


@dataclass(frozen=True, slots=True)
class Run:
    """One attempt to carry a batch out, dry or real; a resumed run is the same run."""

    batch_id: int
    number: int  # 1-based in its batch
    options: Options
    state: State
    status_msg: str
    code: str  # why it failed, as a stable word; else ""
    counts: Counts  # so far, while it runs
    progress: float  # 0 to 1
    results_digest: str | None
    results_size: int | None  # bytes
    scheduled_at: datetime
    started_at: datetime | None  # the first claim
    completed_at: datetime | None
    attempts: int  # how many claims counted

    @property
    def elapsed_seconds(self) -> float:
        """Return how long it has run, or ran; 0 where it has not begun or the clock was set back."""
        if self.started_at is None:
            return 0.0
        return max(((self.completed_at or clock.now()) - self.started_at).total_seconds(), 0.0)


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as its status shows it: what was asked, where it stands, and one of its runs."""

    id: int
    control: str  # digest of the control file
    comment: str
    file_name: str
    creation_path: str
    addresses: tuple[str, ...]  # whom to notify
    key_id: str
    created_at: datetime
    state: State  # the batch's own; the run's where a run was asked for by its mode
    fence: int
    worker: str | None
    lease_until: datetime | None
    is_cancel_wanted: bool
    schema_id: int | None = None  # the import schema that it was made with
    run: Run | None = None  # the last one, or the last of the mode asked for; None before the first (or where the mode has none)

    @property
    def counts(self) -> Counts:
        """Return the run's counts so far."""
        return self.run.counts if self.run else Counts()

    @property
    def mode(self) -> Mode | None:
        """Return whether the run is dry or real."""
        return self.run.options.mode if self.run else None

    @property
    def status_msg(self) -> str:
        """Return the run's reason in words."""
        return self.run.status_msg if self.run else ""

    @property
    def code(self) -> str:
        """Return the run's reason as a stable word."""
        return self.run.code if self.run else ""

    @property
    def progress(self) -> float:
        """Return how far the run is, 0 to 1."""
        return self.run.progress if self.run else 0.0

    @property
    def started_at(self) -> datetime | None:
        """Return when the run was first claimed."""
        return self.run.started_at if self.run else None

    @property
    def completed_at(self) -> datetime | None:
        """Return when the run ended."""
        return self.run.completed_at if self.run else None

    @property
    def rows_per_second(self) -> float | None:
        """Return the run's speed in records a second; None before there is one."""
        seconds = self.run.elapsed_seconds if self.run else 0.0
        return self.counts.input / seconds if seconds else None

    @property
    def eta_seconds(self) -> float | None:
        """Return how many seconds a running run still needs at its speed so far; None where that cannot be said."""
        if self.run is None or self.state is not State.RUNNING or not self.progress:
            return None
        return self.run.elapsed_seconds * (1 - self.progress) / self.progress


@dataclass(frozen=True, slots=True)
class BatchFile:
    """One named file of a batch."""

    name: str
    digest: str
    size: int  # bytes
    position: int  # 1-based, in the order of upload
    created_at: datetime
    format: str | None = None  # how it is read, where not as its control file says
    separator: str | None = None


class Attached(StrEnum):
    """What an upload did to its batch."""

    ADDED = "added"
    REPEATED = "repeated"  # the name already holds this very digest; nothing changed
    REPLACED = "replaced"


@dataclass(frozen=True, slots=True)
class Scheduled:
    """The answer to a schedule request: which run it made, or repeats."""

    batch_id: int
    run: int
    is_repeat: bool


TableKey = tuple[str | None, str]  # (schema, name) of a table of the target: what tells lanes apart


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's right to carry a batch out, and all it needs to know for it."""

    batch_id: int
    fence: int
    run: int
    options: Options
    control: str  # digest
    key_id: str
    started_at: datetime  # when the run was first claimed, if by an earlier attempt
    attempts: int  # this one included
    is_cancel_wanted: bool  # somebody wants it stopped: end it at once
    files: tuple[BatchFile, ...]  # in the order of their upload


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended: what its worker tells the catalog at last."""

    state: State  # completed, failed or cancelled
    counts: Counts
    status_msg: str = ""
    code: str = ""  # why it failed, as a stable word
    results_digest: str | None = None
    results_size: int | None = None  # bytes

    def check(self) -> None:
        """Raise ValueError for a state that is no end, CountLawBroken where the counts do not add up."""
        if not self.state.is_over:
            raise ValueError(f"a run does not end {self.state}")
        self.counts.check()
