"""The first refused records of a run, each with its reason, its key, and all the values that it had in its file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any

import orjson

from catalog.batches import Batch, BatchFile
from engine import failed
from engine.plan import EntityPlan
from engine.readers import FileRefused, Limits
from engine.readers.task import place_names
from engine.source_rows import SourceRow, source_rows
from errors import DigestUnknown
from routes import parts
from routes.failed import file_of, layout_of
from routes.masking import MASK, entity_of, masked_names
from routes.receipts import rows_of, with_severity


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
    entity = entity_of(batch.control, name)
    found: dict[int, SourceRow] = {}
    if entity is not None:
        found = {record.line: record for record in _records(batch, file_of(batch, name), entity, len(wanted))}
    for row in wanted:
        record = found.get(int(row[3]))
        if entity is None or record is None:
            yield Refused(row[1], "", orjson.loads(row[4] or "{}"))  # what the results say of the values at fault
        elif record.values is None:
            yield Refused(row[1], "", MASK if masked_names(entity, entity.inputs) else record.shown)
        else:
            yield Refused(row[1], *_told(record, record.values, entity))


def _records(batch: Batch, file: BatchFile, entity: EntityPlan, most: int) -> Iterator[SourceRow]:
    layout, _ = layout_of(batch.control, file)
    settings = parts().settings
    limits = Limits(expansion_ratio=settings.max_expansion_ratio, expanded_bytes=settings.max_expanded_bytes)
    try:
        with parts().spool.open(file.digest) as blob:
            yield from source_rows(blob, file.name, layout, entity.inputs, _marks(batch, file.name), most, limits)
    except (DigestUnknown, FileRefused):
        return  # The file is no longer kept, or was never readable.


def _marks(batch: Batch, name: str) -> Iterator[failed.Mark]:
    """Yield the marks of a file; nothing is opened before the first is asked for."""
    yield from failed.marks(rows_of(batch), name)


def _told(record: SourceRow, values: dict[str, Any], entity: EntityPlan) -> tuple[str, Any]:
    """Return a record's key and its values, the masked ones hidden."""
    names = list(values)
    named = {name: names[index] for name, index in place_names(names, entity.inputs).items()}  # what the file calls each input
    parts_of_key = [values.get(named.get(name, "")) for name in entity.inputs if name in entity.identity_inputs]
    texts = ["" if part is None else part if isinstance(part, str) else orjson.dumps(part).decode() for part in parts_of_key]
    hidden = masked_names(entity, names)
    key = ",".join(texts) if all(texts) and hidden.isdisjoint(named.get(name, "") for name in entity.identity_inputs) else ""
    if record.text.startswith("{") and not hidden:
        return key, orjson.Fragment(record.text)  # as it stands, so that no digit of a number is lost
    return key, {name: MASK if name in hidden else value for name, value in values.items()}
