"""Helpers for tests of the readers."""

import io
import itertools
from typing import BinaryIO, cast

from engine.plan import Action, EntityPlan, FilePlan, Plan
from engine.readers import Limits, read
from engine.tables import Column, Kind, Table, fold

INPUTS = ("a", "b", "c")
ENTITY = EntityPlan("T", Table(None, "t", {name: Column(name, Kind.TEXT, "text", "text") for name in INPUTS}), INPUTS, ())
OTHER = EntityPlan("Other", Table(None, "o", {}), ("x",), ())
PLAN = Plan(None, {fold("T"): ENTITY, fold("Thing"): ENTITY, fold("Other"): OTHER}, {})
NAMED = Plan("named", {fold("Item"): EntityPlan("Item", ENTITY.table, ("a",), ())}, {})


class Trickle(io.RawIOBase):
    """A stream whose reads give a few bytes at a time, so that every border falls somewhere awkward."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data, self._size = io.BytesIO(data), size

    def read(self, size: int = -1) -> bytes:
        return self._data.read(self._size if size < 0 else min(size, self._size))


def chunks(
    data, name="f.csv", *, trickle=None, limits=None, ordered=False, go_on=None, chunk_records=5_000, chunk_bytes=1 << 23, **options
):
    data = data.encode() if isinstance(data, str) else data
    options = {"entity": ENTITY, "action": Action.MERGE, **options}
    return read(
        cast(BinaryIO, Trickle(data, trickle) if trickle else io.BytesIO(data)), FilePlan(name, **options), PLAN, file_index=0,
        resolve_name={"Named": NAMED}.get, limits=limits or Limits(), chunk_records=chunk_records, chunk_bytes=chunk_bytes, ordered=ordered,
        **(go_on or {"first_chunk_number": 0}),
    )  # fmt: skip


def told(found):
    """Return what chunks say, line by line: (line, values by input, or the fault's kind)."""
    lines = []
    for chunk in found:
        at = {position: wrong[0].kind for position, wrong in chunk.faults.items()}
        for block in chunk.blocks:
            rows = zip(*block.columns, strict=True) if block.columns else itertools.repeat((), len(block))
            for position, row in zip(block.positions, rows, strict=True):
                assert position not in at
                at[position] = dict(zip(block.inputs, row, strict=True))
        assert sorted(at) == list(range(len(chunk)))
        lines += [(line, at[position]) for position, line in enumerate(chunk.lines)]
    return lines


def row(*values):
    return dict(zip(INPUTS, values, strict=False))


def facts(chunk):
    blocks = [(b.entity.name, b.action, b.inputs, [list(column) for column in b.columns], list(b.positions)) for b in chunk.blocks]
    return (chunk.number, list(chunk.lines), chunk.first_record, blocks, chunk.faults, chunk.next_line, chunk.resume, chunk.group_orders)


def resumed_everywhere(data, name, **options):
    """Check that reading on from behind any chunk gives the chunks that follow it."""
    whole = list(chunks(data, name, **options))
    assert [facts(chunk) for chunk in chunks(data, name, **options)] == [facts(chunk) for chunk in whole]
    for number, chunk in enumerate(whole):
        assert (chunk.number, chunk.first_record) == (number, sum(map(len, whole[:number])))
        go_on = {
            "start_line": chunk.next_line, "first_record": chunk.first_record + len(chunk), "first_chunk_number": number + 1,
            "resume": chunk.resume,
        }  # fmt: skip
        rest = list(chunks(data, name, go_on=go_on, **options))
        assert [facts(later) for later in rest] == [facts(later) for later in whole[number + 1 :]]
