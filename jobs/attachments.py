"""What is attached to a mail: the refused rows of each file, and the reasons beside them, for a spreadsheet to open.

Whoever opens it may be anybody with a mail box, so nothing of it runs there, and rows of control files that mask a column stay here.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from catalog.batches import BatchFile
from engine import failed, results
from engine.failed import Layout
from engine.failed_sheet import refused_rows
from engine.readers import Limits
from engine.readers.bytestream import bare_name
from engine.spreadsheet import neutral
from spool import Spool

XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
_BOM = b"\xef\xbb\xbf"  # without it some spreadsheets take UTF-8 for something else
_BOMS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that goes with a mail."""

    name: str
    content_type: str
    content: bytes


class TooMuch(Exception):
    """There is more than may be attached."""


def rows_in(spool: Spool, digest: str) -> Iterator[list[str]]:
    """Yield the rows of stored results, without their header. Raises DigestUnknown where they are no longer kept."""
    with io.TextIOWrapper(spool.open(digest), "utf-8", errors="replace", newline="") as text:
        yield from results.parse(text)


def reasons(rows: Iterable[list[str]], most: int) -> Attachment:
    """Return the results of the refused rows. TooMuch where they have more bytes than `most`."""
    lines = (_line(row) for row in rows if row[2] == "Error")
    return Attachment("reasons.csv", "text/csv", _BOM + results.HEADER + _joined(lines, most))


def refused(
    spool: Spool, file: BatchFile, files: Mapping[str, Any], rows: Callable[[], Iterator[list[str]]], limits: Limits, most: int
) -> Attachment | None:
    """Return the refused rows of one file as CSV, or, of a workbook, as a workbook; None where it has none.

    `files` is what the control file says of its files, `rows` reads the results. TooMuch where they have more bytes than `most`.
    """
    if not any(row[2] == "Error" and row[6] == file.name for row in rows()):
        return None
    layout, read = failed.layout_of(files, file.name, file.format, file.separator)
    every = failed.marks(rows(), file.name)  # of the good rows too: they tell where a refused one ends
    name = bare_name(file.name)
    plain = f"failed-{re.sub(r'[^0-9A-Za-z._-]', '_', file.name[: len(name)].rpartition('/')[2])}"
    with spool.open(file.digest) as blob:
        if layout.is_sheet:
            return Attachment(plain, XLSX, _joined(refused_rows(blob, layout, every, limits), most))
        data = _joined(failed.refused(blob, file.name, layout, every, limits), most)
    cells = _objects(data, layout) if read in ("json", "jsonl") else _cells(data, layout)
    return Attachment(plain if plain.endswith(".csv") else f"{plain}.csv", "text/csv", _BOM + _joined(map(_line, cells), most))


def _joined(pieces: Iterable[bytes], most: int) -> bytes:
    held, size = [], 0
    for piece in pieces:
        size += len(piece)
        if size > most:
            raise TooMuch
        held.append(piece)
    return b"".join(held)


def _line(cells: Iterable[str]) -> bytes:
    return (",".join(results.cell(neutral(cell)) for cell in cells) + "\n").encode("utf-8", "replace")


def _cells(data: bytes, layout: Layout) -> Iterator[list[str]]:
    encoding = next((name for bom, name in _BOMS if data.startswith(bom)), layout.encoding)
    csv.field_size_limit(results.LINE_CHARS)
    text = io.StringIO(data.decode(encoding, "replace"), newline="")
    if layout.quote:
        return csv.reader(text, delimiter=layout.separator, quotechar=layout.quote)
    return csv.reader(text, delimiter=layout.separator, quoting=csv.QUOTE_NONE)


def _objects(data: bytes, layout: Layout) -> Iterator[list[str]]:
    """Return JSON objects as a table: a column for every key, in the order of their first use. What is no object has one cell."""
    text = data.decode(layout.encoding, "replace").removeprefix("\ufeff")
    records = _elements(text) if layout.is_array else [_parsed(line) for line in text.splitlines() if line.strip()]
    names = list(dict.fromkeys(key for record in records if isinstance(record, dict) for key in record))
    yield names
    for record in records:
        yield [_shown(record[name]) if name in record else "" for name in names] if isinstance(record, dict) else [_shown(record)]


def _elements(text: str) -> list[Any]:
    found = _parsed(text)
    return found if isinstance(found, list) else [found]


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)
