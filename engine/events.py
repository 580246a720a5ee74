"""What event handlers are told of a chunk: each record that was created, updated or deleted, as the JSON that receivers get."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from engine.apply import Verdicts
from engine.chunk import Chunk
from engine.convert import Cells, Converted
from engine.ops import CREATED, DELETED, UPDATED, plain
from engine.outbox import Page

PAGE_EVENTS = 500
PAGE_BYTES = 256 * 1024
TYPES = {CREATED: "record.created", UPDATED: "record.updated", DELETED: "record.deleted"}


def pages(chunk: Chunk, converted: Sequence[Converted], verdicts: Verdicts) -> Iterator[Page]:
    """Yield the events of a chunk that was applied, in file order: of each record that was created, updated or deleted."""
    held: list[bytes] = []
    size = 0
    for event in _events(chunk, converted, verdicts):
        told = _json(event)
        if held and (len(held) == PAGE_EVENTS or size + len(told) > PAGE_BYTES):
            yield _page(held)
            held, size = [], 0
        held.append(told)
        size += len(told)
    if held:
        yield _page(held)


def _page(events: list[bytes]) -> Page:
    return len(events), "[" + b",".join(events).decode() + "]"


def _json(event: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(event)
    except TypeError:
        return json.dumps(event).encode()  # half a character, which UTF-8 has no bytes for, is escaped


def _events(chunk: Chunk, converted: Sequence[Converted], verdicts: Verdicts) -> Iterator[dict[str, Any]]:
    for block, ready in zip(chunk.blocks, converted, strict=True):
        shown = [cells for cells in ready.cells if not cells.mapping.is_masked]
        for row, position in enumerate(block.positions):
            kind = verdicts.kinds[position]
            if kind not in TYPES:
                continue
            event: dict[str, Any] = {
                "type": TYPES[kind], "entity": block.entity.name, "id": verdicts.ids[position], "action": block.action.value,
                "file": chunk.file_name, "line": chunk.lines[position],
            }  # fmt: skip
            if kind != DELETED:
                event["values"] = _values(shown, row, kind)
            yield event


def _values(shown: Sequence[Cells], row: int, kind: str) -> dict[str, str | None]:
    """Return what the record wrote into its columns, as text; nothing of what the database filled, left, or looked up."""
    values: dict[str, str | None] = {}
    for cells in shown:
        if row not in cells.empties:
            value: object = cells.values[row]
            values[cells.column.name] = None if value is None else plain(value)
        elif (cells.on_insert if kind == CREATED else cells.on_update) == "null":
            values[cells.column.name] = None
    return values
