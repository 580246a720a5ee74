"""Readers: from a stored file to chunks of columns. A line that cannot be read is that line's fault, never the file's end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import BinaryIO

from engine.chunk import Chunk
from engine.plan import FilePlan, Plan
from engine.readers.bytestream import bare_name, open_blocks
from engine.readers.json_array import read_array
from engine.readers.json_lines import read_lines
from engine.readers.limits import FileRefused, Limits
from engine.readers.multi import read_multi
from engine.readers.plain import read_plain
from engine.readers.task import Task

__all__ = ["FORMATS", "FileRefused", "Limits", "format_of", "read"]

FORMATS = {"csv": "csv", "txt": "csv", "tsv": "tsv", "tab": "tsv", "jsonl": "jsonl", "ndjson": "jsonl", "json": "json"}
"""How a file is read where the control file does not say, by the ending of its name."""


def format_of(file: FilePlan, name: str) -> str:
    """Return how a file is read: csv, tsv, jsonl or json. Never guessed from the content."""
    return file.read or FORMATS.get(bare_name(name).rpartition(".")[2], "csv")


def read(
    stream: BinaryIO, file: FilePlan, plan: Plan, *, file_index: int, first_chunk_number: int, resolve_name: Callable[[str], Plan | None],
    limits: Limits, file_name: str | None = None, start_line: int = 1, first_record: int = 0, resume: str = "", chunk_records: int = 5_000,
    chunk_bytes: int = 8 * 1024 * 1024, ordered: bool = False,
) -> Iterator[Chunk]:  # fmt: skip
    """Yield a file's chunks, the same ones each time.

    To go on behind a chunk, open the file anew and give `start_line` = its next_line, `first_record` = its first_record + len(chunk),
    `first_chunk_number` = its number + 1 and `resume` = its resume, and the same options.
    FileRefused where the file cannot be read as a whole.
    """
    name = file_name or file.name
    blocks, encoding = open_blocks(stream, name, file.encoding, limits)
    task = Task(
        read=blocks, encoding=encoding, format=format_of(file, name), file=file, plan=plan, file_name=name, file_index=file_index,
        chunk_number=first_chunk_number, resolve_name=resolve_name, limits=limits, start_line=start_line, record=first_record,
        resume=json.loads(resume) if resume else {}, chunk_records=chunk_records, chunk_bytes=chunk_bytes, is_ordered=ordered,
    )  # fmt: skip
    if task.format not in ("csv", "tsv", "jsonl", "json"):
        raise FileRefused("format", f"Files cannot be read as {task.format}")
    is_json = task.format in ("jsonl", "json")
    if file.entity is None or file.action is None:
        if is_json:
            raise FileRefused("format", "A JSON file needs an entity and an action in the control file")
        yield from read_multi(task)
    elif is_json:
        yield from (read_lines if task.format == "jsonl" else read_array)(task, file.entity, file.action)
    else:
        yield from read_plain(task, file.entity, file.action)
