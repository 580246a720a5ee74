"""The first refused records of a run, each with its reason, its key, and all the values that it had in its file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any

import orjson

from catalog.batches import Batch, BatchFile
from engine import failed
from engine.failed_values import Record, refused_records
from engine.plan import EntityPlan, Plan
from engine.readers import FileRefused, Limits
from engine.readers.task import place_names
from errors import ControlFileInvalid, DigestUnknown, Refusal, TargetUnavailable
from routes import parts
from routes.failed import file_of, layout_of
from routes.receipts import rows_of, with_severity

_MASK = "***"


@dataclass(frozen=True, slots=True)
class Refused:
    """A refused record."""

    message: str
    key: str  # what its key has in the file, several parts with commas between them; "" where it has none
    values: Any  # by the file's own names, JSON's with their types; a text where the record cannot be read


def first_refused(batch: Batch, most: int) -> Iterator[Refused]:
    """Yield the first refused records of the batch's run, in the order of the results."""
    if not most:
        return
    errors = islice(with_severity(rows_of(batch), "Error"), most)
    for name, of_file in groupby(errors, key=lambda row: row[6]):
        wanted = list(of_file)
        yield from _of_file(batch, name, wanted)


def _of_file(batch: Batch, name: str, wanted: Sequence[list[str]]) -> Iterator[Refused]:
    entity = _entity(batch.control, name)
    found: dict[int, Record] = {}
    if entity is not None:
        found = {record.line: record for record in _records(batch, file_of(batch, name), entity, len(wanted))}
    masked = _masked(entity) if entity else frozenset()
    for row in wanted:
        record = found.get(int(row[3]))
        if entity is None or record is None:
            yield Refused(row[1], "", orjson.loads(row[4] or "{}"))  # what the results say of the values at fault
        elif record.values is None:
            yield Refused(row[1], "", _MASK if masked else record.shown)
        else:
            yield Refused(row[1], *_told(record, record.values, entity, masked))


def _records(batch: Batch, file: BatchFile, entity: EntityPlan, most: int) -> Iterator[Record]:
    layout, _ = layout_of(batch.control, file)
    settings = parts().settings
    limits = Limits(expansion_ratio=settings.max_expansion_ratio, expanded_bytes=settings.max_expanded_bytes)
    try:
        with parts().spool.open(file.digest) as blob:
            yield from refused_records(blob, file.name, layout, entity.inputs, _marks(batch, file.name), most, limits)
    except (DigestUnknown, FileRefused):
        return  # The file is no longer kept, or was never readable.


def _marks(batch: Batch, name: str) -> Iterator[failed.Mark]:
    """Yield the marks of a file; nothing is opened before the first is asked for."""
    yield from failed.marks(rows_of(batch), name)


def _told(record: Record, values: dict[str, Any], entity: EntityPlan, masked: frozenset[str]) -> tuple[str, Any]:
    """Return a record's key and its values, the masked ones hidden."""
    names = list(values)
    named = {name: names[index] for name, index in place_names(names, entity.inputs).items()}  # what the file calls each input
    parts_of_key = [values.get(named.get(name, "")) for name in entity.inputs if name in entity.identity_inputs]
    texts = ["" if part is None else part if isinstance(part, str) else orjson.dumps(part).decode() for part in parts_of_key]
    key = ",".join(texts) if all(texts) and masked.isdisjoint(entity.identity_inputs) else ""
    hidden = {named[name] for name in masked if name in named}
    if record.text.startswith("{") and not hidden:
        return key, orjson.Fragment(record.text)  # as it stands, so that no digit of a number is lost
    return key, {name: _MASK if name in hidden else value for name, value in values.items()}


def _masked(entity: EntityPlan) -> frozenset[str]:
    """Return the inputs that must not be shown."""
    hidden = {name for mapping in entity.mappings if mapping.is_masked for name in mapping.inputs()}
    return frozenset(hidden | entity.identity_inputs if entity.is_identity_masked else hidden)


def _entity(control: str, name: str) -> EntityPlan | None:
    """Return what the rows of a file are; None where they say so themselves, or the target does not tell what its tables are now."""
    try:
        plan = _plan(control)
    except (ControlFileInvalid, TargetUnavailable, Refusal):
        return None
    file = plan.file(name)
    return file.entity if file else None


def _plan(digest: str) -> Plan:
    with parts().spool.open(digest) as stored:
        return parts().compile(stored.read())
