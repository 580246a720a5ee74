"""The engine's order for a claimed batch, and how far the run has come by the bytes that it has read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

from catalog.batches import Claim, Mode
from engine.allowed import Allowed
from engine.order import Outbox
from engine.plan import Plan
from engine.readers import Limits
from engine.run import RunFile, RunOrder
from settings import Settings
from spool import Spool


@dataclass
class Reading:
    """The stored files as the run reads them."""

    spool: Spool
    sizes: list[int]  # bytes, in the order in which the run takes the files
    _index: int = field(default=0, init=False)
    _stream: BinaryIO | None = field(default=None, init=False)

    def open(self, index: int, digest: str) -> BinaryIO:
        """Open one of the files."""
        self._index, self._stream = index, self.spool.open(digest)
        return self._stream

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
    settings: Settings, spool: Spool, claim: Claim, plan: Plan, scratch: Path, on_wait: Callable[[], None], allowed: Allowed
) -> tuple[RunOrder, Callable[[], float]]:
    """Return the engine's order, and a function that tells the run's progress. The run takes the files as the control file orders them."""
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
