"""What every reader is told, and how chunks are numbered."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.chunk import Block, Chunk
from engine.faults import Fault
from engine.plan import Action, FilePlan, Plan
from engine.readers.bytestream import Read, Seek
from engine.readers.limits import Limits

NUMBER = re.compile(r"[+-]?(?:[0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})")  # of a group
ACTIONS = {action.value.lower(): action for action in Action}


@dataclass(slots=True)
class Task:
    """One file to be read. `chunk_number` and `record` count on as chunks are made."""

    read: Read
    encoding: str
    format: str  # csv, tsv, jsonl or json
    file: FilePlan
    plan: Plan
    file_name: str
    file_index: int
    chunk_number: int
    resolve_name: Callable[[str], Plan | None]
    limits: Limits
    start_line: int = 1
    record: int = 0  # 0-based number of the next position
    resume: dict[str, Any] = field(default_factory=dict)
    chunk_records: int = 5_000
    chunk_bytes: int = 8 * 1024 * 1024
    is_ordered: bool = False
    seek: Seek | None = None  # None: the file can only be read from its beginning
    warnings: list[str] = field(default_factory=list)  # not yet told

    def chunk(
        self, lines: Sequence[int], blocks: list[Block], faults: dict[int, list[Fault]], next_line: int,
        state: dict[str, Any] | None = None, groups: list[str | None] | None = None,
    ) -> Chunk:  # fmt: skip
        """Make the next chunk. `state` is what the reader must know to go on behind it; `groups` the group of each position."""
        if self.is_ordered and groups is None:
            groups = [format(self.file.order, "g")] * len(lines)
        chunk = Chunk(
            number=self.chunk_number, file=self.file_index, file_name=self.file_name, lines=lines, first_record=self.record,
            blocks=blocks, faults=faults, next_line=next_line, resume=json.dumps(state) if state else "",
            warnings=self.warnings, group_orders=groups or [],
        )  # fmt: skip
        self.chunk_number += 1
        self.record += len(lines)
        self.warnings = []
        return chunk


def place_names(names: Sequence[str], inputs: Sequence[str]) -> dict[str, int]:
    """Return where each input stands among a file's names: the very name, else the same but for case.

    >>> place_names(["B", "a", "x"], ["a", "b"])
    {'a': 1, 'b': 0}
    """
    exact = {name: index for index, name in enumerate(names)}
    folded = {name.casefold(): index for index, name in reversed(list(enumerate(names)))}
    places = {name: exact.get(name, folded.get(name.casefold())) for name in inputs}
    taken = {exact[name] for name in inputs if name in exact}
    return {name: index for name, index in places.items() if index is not None and (name in exact or index not in taken)}


def name_problem(names: Sequence[str]) -> str | None:
    """Return what is wrong with the names of a header; None if nothing is."""
    if "" in names:
        return f"the name of column {names.index('') + 1} is blank"
    twice = next((name for name in names if names.count(name) > 1), None)
    return f"'{twice}' stands twice" if twice is not None else None
