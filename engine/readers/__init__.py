"""Readers: from a stored file to chunks of columns. A line that cannot be read is that line's fault, never the file's end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import BinaryIO

from engine.chunk import Chunk
from engine.plan import FilePlan, Plan
from engine.readers.bytestream import bare_name, open_seekable_blocks
from engine.readers.collection import Collection, Compile
from engine.readers.json_array import read_array
from engine.readers.json_lines import read_lines
from engine.readers.limits import FileRefused, Limits
from engine.readers.multi import read_multi
from engine.readers.objects import Objects
from engine.readers.plain import read_plain
from engine.readers.sheet import fit_dates, sheet_rows
from engine.readers.task import Task

__all__ = ["FORMATS", "FileRefused", "Limits", "format_of", "read"]

FORMATS = {"csv": "csv", "txt": "csv", "tsv": "tsv", "tab": "tsv", "jsonl": "jsonl", "ndjson": "jsonl", "json": "json", "xlsx": "xlsx"}
"""How a file is read where the control file does not say, by the ending of its name."""


def format_of(file: FilePlan, name: str) -> str:
    """Return how a file is read: csv, tsv, jsonl, json, xlsx or collection. Never guessed from the content."""
    return file.read or FORMATS.get(bare_name(name).rpartition(".")[2], "csv")


def read(
    stream: BinaryIO, file: FilePlan, plan: Plan, *, file_index: int, first_chunk_number: int, resolve_name: Callable[[str], Plan | None],
    limits: Limits, compile_shape: Compile | None = None,
    file_name: str | None = None, start_line: int = 1, first_record: int = 0, resume: str = "", chunk_records: int = 5_000,
    chunk_bytes: int = 8 * 1024 * 1024, ordered: bool = False,
) -> Iterator[Chunk]:  # fmt: skip
    """Yield a file's chunks, the same ones each time.

    To go on behind a chunk, open the file anew and give `start_line` = its next_line, `first_record` = its first_record + len(chunk),
    `first_chunk_number` = its number + 1 and `resume` = its resume, and the same options.
    FileRefused where the file cannot be read as a whole.
    """
    name = file_name or file.name
    form = format_of(file, name)
    is_json = form in ("jsonl", "json")
    if form not in FORMATS.values() and (form != "collection" or compile_shape is None):
        raise FileRefused("format", f"Files cannot be read as {form}")
    if is_json and (file.entity is None or file.action is None):
        raise FileRefused("format", "A JSON file needs an entity and an action in the control file")
    blocks, encoding, seek = (stream.read, "", None) if form == "xlsx" else open_seekable_blocks(stream, name, file.encoding, limits)
    task = Task(
        read=blocks, seek=seek, encoding=encoding, format=form, file=file, plan=plan, file_name=name, file_index=file_index,
        chunk_number=first_chunk_number, resolve_name=resolve_name, limits=limits, start_line=start_line, record=first_record,
        resume=json.loads(resume) if resume else {}, chunk_records=chunk_records, chunk_bytes=chunk_bytes, is_ordered=ordered,
    )  # fmt: skip
    if form == "xlsx":
        yield from _read_sheet(task, stream)
    elif form == "collection" and compile_shape is not None:
        yield from read_array(task, Collection(task, compile_shape))
    elif file.entity is None or file.action is None:
        yield from read_multi(task)
    elif is_json:
        yield from (read_lines if form == "jsonl" else read_array)(task, Objects(task, file.entity, file.action))
    else:
        yield from read_plain(task, file.entity, file.action)


def _read_sheet(task: Task, stream: BinaryIO) -> Iterator[Chunk]:
    if bare_name(task.file_name) != task.file_name.lower():
        raise FileRefused("format", "An XLSX file is compressed already, and is read only as it is")
    entity, action = task.file.entity, task.file.action
    with sheet_rows(task, stream) as rows:
        for chunk in read_multi(task, rows) if entity is None or action is None else read_plain(task, entity, action, rows):
            for block in chunk.blocks:
                block.columns = fit_dates(block.entity, block.inputs, block.columns)
            yield chunk
