"""JSON Lines: every line that is not blank is a record."""

from __future__ import annotations

from collections.abc import Iterator

from engine.chunk import Chunk
from engine.readers.lines import Lines
from engine.readers.objects import Elements
from engine.readers.task import Task


def read_lines(task: Task, objects: Elements) -> Iterator[Chunk]:
    """Yield the chunks of a JSON Lines file, its records gathered by `objects`."""
    lines = Lines(task.read, task.encoding, task.limits, task.seek)
    if task.start_line > 1:
        lines.skip_to(task.start_line, task.resume.get("offset"))
    while ahead := lines.peek(task.chunk_records, task.chunk_bytes):
        for number, line in enumerate(ahead, lines.number):
            if fault := lines.marks.get(number):
                objects.add_fault(number, fault)
            elif not line.isspace():
                objects.add(number, line)
        lines.drop(len(ahead))
        if objects.lines:
            yield objects.chunk(lines.number, lines.place())
        objects.clear()
