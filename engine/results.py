"""The results: one CSV line for every record, in order. Chunks write segments; the segments become one file.

Columns: `#Code,Message,Severity,LineNumber,Properties,EntityId,File`. Properties is a JSON object: of column and value at fault, or of what
a dry run tells to change (engine/changes.py), and of what a collection calls its record.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from engine.apply import Verdicts
from engine.changes import BESIDES, MEMBER
from engine.chunk import Chunk
from engine.faults import CREATED, DELETED, NOT_REACHED, ROLLED_BACK, SKIPPED_MISSING, UNCHANGED, UPDATED, Fault, Kind as FaultKind, fault
from engine.ops import CREATED as C, DELETED as D, REFUSED, SKIPPED, UNCHANGED as SAME, UPDATED as U
from engine.sorting import external_sort

HEADER = b"#Code,Message,Severity,LineNumber,Properties,EntityId,File\n"
LINE_CHARS = 1 << 30
TOLD = ("entityType", "userObjectId")  # what the Properties of a collection's records tell besides, at their end
SHOWN_CHARS = 1_000  # of a value in Properties; the failed rows hold it whole
_BY_KIND: dict[str, FaultKind] = {C: CREATED, U: UPDATED, SAME: UNCHANGED, D: DELETED}
_APPLIED = {CREATED.code, UPDATED.code, UNCHANGED.code, DELETED.code, SKIPPED_MISSING.code}
OUTCOMES = {  # the codes by which results tell to which of the counts a record belongs; all others of severity Error are `errors`
    "created": (CREATED.code,), "updated": (UPDATED.code,), "deleted": (DELETED.code,), "skipped": (UNCHANGED.code, SKIPPED_MISSING.code),
    "errors": (), "unprocessed": (ROLLED_BACK.code, NOT_REACHED.code),
}  # fmt: skip
_BY_CODE = {code: outcome for outcome, codes in OUTCOMES.items() for code in codes}


@dataclass(slots=True)
class Counts:
    """How many records came to what; `records` is the sum of the others (the count law)."""

    records: int = 0
    created: int = 0
    updated: int = 0
    deleted: int = 0
    skipped: int = 0
    errors: int = 0
    unprocessed: int = 0

    def __iadd__(self, other: Counts) -> Counts:
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        return self

    def check(self) -> None:
        """Raise AssertionError where the count law does not hold."""
        parts = self.created + self.updated + self.deleted + self.skipped + self.errors + self.unprocessed
        if parts != self.records:
            raise AssertionError(f"count law broken: {self}")


def cell(text: str) -> str:
    """Return a text as one CSV cell.

    >>> cell('a "b", c')
    '"a ""b"", c"'
    """
    return '"' + text.replace('"', '""') + '"' if _needs_quotes(text) else text


def _needs_quotes(text: str) -> bool:
    # Four searches for a character each take a tenth of the time that a regular expression takes for all of them.
    return '"' in text or "," in text or "\n" in text or "\r" in text


def count(verdicts: Verdicts) -> Counts:
    """Count a chunk's outcomes; a `#` line has a result but is no record."""
    kinds = "".join(verdicts.kinds)
    notices = sum(1 for faults in verdicts.faults.values() if faults[0].kind.code == "Core_ImportFile_SkippedHeaderLine")
    counts = Counts(
        records=len(kinds) - notices,
        created=kinds.count(C),
        updated=kinds.count(U),
        deleted=kinds.count(D),
        skipped=kinds.count(SAME) + kinds.count(SKIPPED),
        errors=kinds.count(REFUSED) - notices,
    )
    counts.check()
    return counts


def render(chunk: Chunk, verdicts: Verdicts) -> bytes:
    """Write a chunk's segment: one line for each position, in order."""
    file = cell(chunk.file_name)
    ids = verdicts.ids
    if _needs_quotes("".join(ids)):
        ids = [cell(" ".join(i.splitlines())) for i in ids]  # one physical line a record, whatever its key
    starts = {kind: f"{said.code},{said.message},{said.severity}," for kind, said in _BY_KIND.items()}
    kinds = set(verdicts.kinds)
    told = _told_of(chunk, verdicts)
    if len(kinds) == 1 and not verdicts.faults and not told and (start := starts.get(*kinds)):
        return "".join([f"{start}{line},,{i},{file}\n" for line, i in zip(chunk.lines, ids, strict=True)]).encode()
    starts |= {REFUSED: "", SKIPPED: ""}  # such a record has faults, which are told next
    shown = ['"{' + text.replace('"', '""') + '}"' if text else "" for text in told] or [""] * len(chunk)
    told = told or shown
    lines = [f"{starts[kind]}{line},{s},{i},{file}\n" for kind, line, s, i in zip(verdicts.kinds, chunk.lines, shown, ids, strict=True)]
    if verdicts.kinds.count(REFUSED) + verdicts.kinds.count(SKIPPED) > len(verdicts.faults):
        raise AssertionError(f"chunk {chunk.number} has records that were not applied, and no reason why")
    for position, faults in verdicts.faults.items():
        lines[position] = _line(faults, chunk.lines[position], ids[position], file, told[position])
    return "".join(lines).encode("utf-8", "backslashreplace")


def _told_of(chunk: Chunk, verdicts: Verdicts) -> list[str]:
    """Return by position what a record's result tells of it, faults apart, as members of a JSON object; [] where it is nothing at all."""
    if not verdicts.changes:
        return chunk.told
    told = list(chunk.told) or [""] * len(chunk)
    for position, changes in verdicts.changes.items():
        told[position] = f"{changes}, {told[position]}" if told[position] else changes
    return told


def _line(faults: list[Fault], line: int, row_id: str, file: str, told: str = "") -> str:
    """The first fault's code and severity, all faults' messages and values, then what else is told of the record."""
    first = faults[0]
    # One physical line a record, whatever the value that the message quotes.
    message = " ".join("; ".join(dict.fromkeys(f.message for f in faults)).splitlines())
    properties = {f.column: f.value if len(f.value) <= SHOWN_CHARS else f"{f.value[:SHOWN_CHARS]}..." for f in faults if f.column}
    values = json.dumps(properties, ensure_ascii=False)[1:-1]
    shown = "{" + ", ".join(filter(None, (values, told))) + "}" if values or told else ""
    return f"{first.kind.code},{cell(message)},{first.kind.severity},{line},{cell(shown)},{row_id},{file}\n"


def not_reached(chunk: Chunk, reason: str) -> bytes:
    """Write the segment of a chunk that the run did not come to; what the reader found wrong is still said."""
    unread = fault(NOT_REACHED, reason=reason)
    file = cell(chunk.file_name)
    told = chunk.told or [""] * len(chunk)
    lines = [_line(chunk.faults.get(p, [unread]), line, "", file, told[p]) for p, line in enumerate(chunk.lines)]
    return "".join(lines).encode("utf-8", "backslashreplace")


def taken_back(segment: bytes) -> bytes:
    """Rewrite a segment after its transaction was rolled back: what would have been applied says that it was not."""
    out = StringIO(newline="")
    for row in _rows(segment):
        said = (
            [ROLLED_BACK.code, ROLLED_BACK.message, ROLLED_BACK.severity, row[3], _told(row[4]), "", row[6]] if row[0] in _APPLIED else row
        )
        out.write(",".join(map(cell, said)) + "\n")
    return out.getvalue().encode()


def _told(properties: str) -> str:
    """Return of a result's Properties what a record is called, without what was at fault."""
    told = {name: value for name, value in json.loads(properties or "{}").items() if name in TOLD}
    return json.dumps(told, ensure_ascii=False) if told else ""


def at_fault(properties: str) -> dict[str, str]:
    """Return of a result's Properties the values at fault by column, without what a record of a collection is called."""
    return {name: value for name, value in json.loads(properties or "{}").items() if name not in TOLD}


def changes_in(properties: str) -> tuple[dict[str, dict[str, str | None]], int, dict[str, Any]]:
    """Return what a result's Properties tell to change, by column its `old` and `new` value; how many columns besides; and all else."""
    told = json.loads(properties or "{}")
    if not isinstance(told.get(MEMBER), dict):  # a column of this name, whose value is at fault, is a text
        return {}, 0, told
    return told.pop(MEMBER), told.pop(BESIDES, 0), told


def outcome_of(code: str, severity: str) -> str:
    """Return to which of the counts a result's record belongs; "" where it is about no record.

    >>> outcome_of("Core_Data_RecordUpdated", "Information"), outcome_of("Core_ImportFile_ColumnCount", "Error")
    ('updated', 'errors')
    """
    return _BY_CODE.get(code, "errors" if severity == "Error" else "")


def _rows(segment: bytes) -> Iterator[list[str]]:
    # Readers bound the fields of the users' files by the same, process-wide limit; our own lines may be longer.
    csv.field_size_limit(LINE_CHARS)
    return csv.reader(StringIO(segment.decode(), newline=""))


def in_file_order(segments: Iterable[tuple[int, bytes]], scratch: Path) -> Iterator[bytes]:
    """Yield the lines of (file, segment) pairs of an ordered run as they stand in the files, in flat memory."""
    lines = (
        (file, int(row[3]), text)
        for file, segment in segments
        for text, row in zip(segment.splitlines(keepends=True), _rows(segment), strict=True)
    )
    for _, _, text in external_sort(lines, lambda item: item[:2], scratch):
        yield text


def parse(lines: Iterable[str]) -> Iterator[list[str]]:
    """Read results back: rows of the seven columns, the header left out."""
    csv.field_size_limit(LINE_CHARS)
    return (row for row in csv.reader(lines) if row and not row[0].startswith("#"))
