"""The engine's order for a claimed batch, and how far the run has come by the bytes that it has read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

from catalog.batches import Claim, Mode
from engine.allowed import Allowed
from engine.order import Help, Outbox
from engine.plan import Plan
from engine.readers import Limits
from engine.run import RunFile, RunOrder
from settings import Settings
from spool import Spool

Invite = Callable[[int, float], None]


@dataclass
class Reading:
    """The stored files as the run reads them."""

    spool: Spool
    sizes: list[int]  # bytes, in the order in which the run takes the files
    _index: int = field(default=0, init=False)
    _stream: BinaryIO | None = field(default=None, init=False)

    def open(self, index: int, digest: str) -> BinaryIO:
        """Open one of the files."""
        stream = self.spool.open(digest)
        if self._stream is None or self._stream.closed or index > self._index:
            self._index, self._stream = index, stream  # else it is a second look at a file that is being read
        return stream

    def part(self, index: int, offset: int) -> float:
        """Return how much of all bytes lies before a byte of a file, 0 to 1."""
        return (sum(self.sizes[:index]) + offset) / max(sum(self.sizes), 1)

    def progress(self) -> float:
        """Return how much of all bytes has been read, 0 to 1; never 1 before the run is over."""
        read = sum(self.sizes[: self._index])
        if self._stream is not None:
            try:
                read += self._stream.tell()
            except (ValueError, OSError):  # It has been read to its end and closed, maybe this instant: writers ask from their own threads.
                read += self.sizes[self._index]
        return min(read / max(sum(self.sizes), 1), 0.99)


def order_of(
    settings: Settings,
    spool: Spool,
    claim: Claim,
    plan: Plan,
    scratch: Path,
    on_wait: Callable[[], None],
    allowed: Allowed,
    invite: Invite | None = None,
) -> tuple[RunOrder, Callable[[], float]]:
    """Return the engine's order, and a function that tells the run's progress. The run takes the files as the control file orders them.

    `invite` is called now and then with the number of those who help, and how much is read, 0 to 1; None: nobody may help.
    """
    files = sorted(claim.files, key=lambda file: (_place(plan, file.name), file.position))
    reading = Reading(spool, [file.size for file in files])
    tells = claim.options.has_event_handlers and claim.options.mode is Mode.IMPORT
    order = RunOrder(
        run=f"{claim.batch_id}-{claim.run}",
        batch_id=claim.batch_id,
        files=[
            RunFile(file.name, partial(reading.open, index, file.digest), partial(spool.verify, file.digest), file.format, file.separator)
            for index, file in enumerate(files)
        ],
        plan=plan,
        mode=claim.options.mode.value,
        execution=claim.options.execution.value,
        is_ordered=claim.options.is_ordered,
        started_at=claim.started_at,
        scratch=scratch,
        limits=limits_of(settings),
        allowed=allowed,
        chunk_records=settings.chunk_records,
        chunk_bytes=settings.chunk_bytes,
        outbox=Outbox(settings.event_outbox_records, on_wait) if tells else None,
        help=Help(lambda present, *where: invite(present, reading.part(*where)), settings.lease_seconds) if invite else None,
    )
    return order, reading.progress


def _place(plan: Plan, name: str) -> float:
    file = plan.file(name)
    return file.order if file else 0


def limits_of(settings: Settings) -> Limits:
    """Return the readers' limits."""
    return Limits(
        field_chars=settings.max_field_chars,
        columns=settings.max_columns,
        line_bytes=settings.max_line_bytes,
        expansion_ratio=settings.max_expansion_ratio,
        expanded_bytes=settings.max_expanded_bytes,
    )
