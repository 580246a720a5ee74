"""What readers make: chunks of a file, kept as columns.

A chunk is some thousand *positions* in file order; each position gets exactly one line in the results. A position is either a record of one
of the chunk's blocks, or has its verdict from the reader (an unreadable line, a skipped `#` line).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.faults import SKIPPED_HEADER, Fault
from engine.plan import Action, EntityPlan


@dataclass(slots=True)
class Block:
    """Consecutive records of one entity and action that have the same inputs."""

    entity: EntityPlan
    action: Action
    inputs: tuple[str, ...]  # the names of `columns`
    columns: list[Sequence[str | None]]  # text as it stands in the file; None is a null that the format itself tells (JSON null, absent)
    positions: Sequence[int]  # of the rows, ascending

    def __len__(self) -> int:
        return len(self.positions)

    def column(self, name: str | None) -> Sequence[str | None] | None:
        """Return the text of one input, or None where the file does not have it."""
        return self.columns[self.inputs.index(name)] if name in self.inputs else None


@dataclass(slots=True)
class Chunk:
    """Consecutive lines of one file."""

    number: int  # 0-based in the run, over all files
    file: int  # 0-based, in the order in which the run takes its files
    file_name: str
    lines: Sequence[int]  # first physical line of each position, 1-based
    first_record: int = 0  # 0-based number, in its file, of its first position
    blocks: list[Block] = field(default_factory=list)
    faults: dict[int, list[Fault]] = field(default_factory=dict)  # the reader's verdicts, by position
    next_line: int = 0  # the physical line at which the next chunk begins
    resume: str = ""  # what a reader must know besides next_line to go on behind this chunk, as JSON text; see engine.readers.read
    warnings: list[str] = field(default_factory=list)  # worth saying of the file once (columns that nothing uses), not of a record
    group_orders: list[str | None] = field(default_factory=list)  # ordered imports: by position a decimal number; None with a fault
    told: list[str] = field(
        default_factory=list
    )  # by position: what a record's result tells of it in any case, as members of a JSON object

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def records(self) -> int:
        """Return how many of its positions are records: a `#` line has a result, but is none."""
        return len(self) - sum(1 for found in self.faults.values() if found[0].kind.code == SKIPPED_HEADER.code)
