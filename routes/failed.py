"""What was refused: the rows as they stood in their file, the reasons beside them, and all errors rolled up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from flask import Blueprint
from flask.typing import ResponseReturnValue

from catalog import batches
from catalog.batches import Batch, BatchFile
from engine import failed
from engine.failed import Layout
from engine.failed_sheet import refused_rows
from engine.missing import Missed, missed
from engine.readers import FileRefused, Limits
from engine.readers.bytestream import bare_name
from engine.rollup import Group, roll_up
from errors import Refusal
from routes import fields, masking, parts, replies
from routes.auth import requires
from routes.described import CSV, Reply, described
from routes.receipts import CSV_TYPE, RunQuery, batch_with_run, csv_of, is_over, rows_of, stream, with_severity
from schemas import control
from schemas.control import Document
from schemas.replies import ErrorsReply, MissingReply
from schemas.requests import COLLECTION_TYPE

routes = Blueprint("failed", __name__)

XLSX_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
_TYPES = {
    "jsonl": "application/jsonl", "json": "application/json", "tsv": "text/tab-separated-values", "xlsx": XLSX_TYPE,
    "collection": COLLECTION_TYPE,
}  # fmt: skip
ROWS_TYPES = (CSV, *_TYPES.values())


@routes.get("/batch/<batch>/failed/<path:name>")
@requires("read")
@described(refuses=(409, 410, 422), replies={200: Reply(types=ROWS_TYPES, says=("Content-Disposition",))})
def get_failed(batch: str, name: str) -> ResponseReturnValue:
    """Give the refused rows of a file as they stood in it, with its header, ready to be mended and sent again."""
    found = _finished(batch)
    file = file_of(found, name)
    masking.refuse_rows_of(found)
    layout, read = layout_of(found.control, file)
    body = _refused(parts().spool.open(file.digest), name, layout, failed.marks(rows_of(found), name), limits())
    plain_name = name[: len(bare_name(name))]
    return stream(found, body, _TYPES.get(read, "text/csv"), f"failed-{plain_name.rpartition('/')[2]}")


@routes.get("/batch/<batch>/failed/<path:name>/reasons")
@requires("read")
@described(refuses=(409, 410), replies={200: Reply(types=(CSV,), says=("Content-Disposition",))})
def get_reasons(batch: str, name: str) -> ResponseReturnValue:
    """Give the results of a file's refused rows, in the order of the rows."""
    found = _finished(batch)
    file_of(found, name)
    rows = (row for row in with_severity(rows_of(found), "Error") if row[6] == name)
    return stream(found, csv_of(rows), CSV_TYPE, f"reasons-{name.rpartition('/')[2]}.csv")


@routes.get("/batch/<batch>/errors")
@requires("read")
@described(query=RunQuery, refuses=(410,), replies={200: Reply(ErrorsReply)})
def get_errors(batch: str) -> ResponseReturnValue:
    """Give the errors rolled up by code, column and value: how many, the first lines, one example; the most frequent first."""
    found = batch_with_run(batch, fields.of_query(RunQuery()))
    groups = roll_up(rows_of(found))
    if replies.wants_json():
        return replies.json(
            {"batch": found.id, "run": found.mode, "errors": sum(g.count for g in groups), "groups": [_details(g) for g in groups]}
        )
    return replies.text("".join(f"{_line(group)}\n" for group in groups))


@routes.get("/batch/<batch>/missing")
@requires("read")
@described(query=RunQuery, refuses=(410,), replies={200: Reply(MissingReply)})
def get_missing(batch: str) -> ResponseReturnValue:
    """Give what records refer to and is not there: each value once, how often, the key most like it, the first lines."""
    found = batch_with_run(batch, fields.of_query(RunQuery()))
    values, left_out = missed(rows_of(found))
    if replies.wants_json():
        return replies.json(
            {"batch": found.id, "run": found.mode, "missing": [_missed(one) for one in values], "records_left_out": left_out}
        )
    return replies.text("".join(f"{_missed_line(one)}\n" for one in values))


def _missed(one: Missed) -> dict[str, object]:
    lines = [{"file": file, "line": line} for file, line in one.lines]
    return {"entity": one.entity, "column": one.column, "value": one.value, "count": one.count, "nearest": one.nearest, "lines": lines}


def _missed_line(one: Missed) -> str:
    where = " ".join(f"{file}:{line}" for file, line in one.lines)
    more = " ..." if one.count > len(one.lines) else ""
    nearest = f" nearest {one.nearest}" if one.nearest is not None else ""
    return " ".join(f"{one.count} {one.entity} {one.column}: {one.value}{nearest} ({where}{more})".split())


def _details(group: Group) -> dict[str, object]:
    return {
        "code": group.code, "column": group.column, "value": group.value, "count": group.count, "example": group.example,
        "lines": [{"file": file, "line": line} for file, line in group.lines],
    }  # fmt: skip


def _line(group: Group) -> str:
    """Return a group as one line, the count first, so that `sort` and `head` do what one expects."""
    where = " ".join(f"{file}:{line}" for file, line in group.lines)
    more = " ..." if group.count > len(group.lines) else ""
    return " ".join(f"{group.count} {group.code} {group.column}: {group.example} ({where}{more})".split())


def _finished(batch: str) -> Batch:
    """Return the batch if its run is over: only then is it certain where the last refused row ends."""
    found = batch_with_run(batch, fields.of_query(RunQuery()))
    if not is_over(found):
        raise Refusal(409, "not_finished", f"Batch {found.id} is {found.state}: wait until it is finished.", headers={"Retry-After": "1"})
    return found


def limits() -> Limits:
    """Return how far a compressed file may expand."""
    settings = parts().settings
    return Limits(expansion_ratio=settings.max_expansion_ratio, expanded_bytes=settings.max_expanded_bytes)


def file_of(batch: Batch, name: str) -> BatchFile:
    """Return the batch's file of this name; 404 where there is none."""
    for file in batches.files(parts().catalog, batch.id):
        if file.name == name:
            return file
    raise Refusal(404, "file_unknown", f"Batch {batch.id} has no file {name[:80]!r}.")


def layout_of(digest: str, file: BatchFile) -> tuple[Layout, str]:
    """Return how a file is cut into lines, and what it is read as: as it was sent, else as this control file says."""
    with parts().spool.open(digest) as blob:
        document: Document = control.parse(blob.read(), parts().settings.max_control_bytes)
    return failed.layout_of(document.data.get("files") or {}, file.name, file.format, file.separator)


def _refused(blob: BinaryIO, name: str, layout: Layout, marks: Iterator[failed.Mark], limits: Limits) -> Iterator[bytes]:
    try:
        with blob:
            yield from refused_rows(blob, layout, marks, limits) if layout.is_sheet else failed.refused(blob, name, layout, marks, limits)
    except FileRefused as error:
        raise Refusal(422, "file_refused", f"{name}: {error}") from error
