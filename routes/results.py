"""The receipts of a run: the per-line log as it stands, filtered, in pages, or safe for a spreadsheet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

from flask import Blueprint, Response
from flask.typing import ResponseReturnValue
from marshmallow import fields as kinds, validate

from catalog.batches import Batch
from engine.results import TOLD
from engine.spreadsheet import neutral
from errors import Refusal
from routes import download, failed, fields, parts, replies
from routes.auth import requires
from routes.described import CSV, Reply, described
from routes.receipts import CSV_TYPE, RunQuery, batch_with_run, csv_of, is_over, lines, parsed, pieces, rows_of, stream, with_severity
from schemas.replies import SEVERITIES, ResultsReply
from schemas.requests import about, choice

routes = Blueprint("results", __name__, url_prefix="/api")
routes.register_blueprint(failed.routes)


LOG = Reply(ResultsReply, types=(CSV,), says=("ETag", "Content-Disposition", "Accept-Ranges", "Retry-After"))
PART_OF_LOG = Reply(types=(CSV,), says=("ETag", "Content-Disposition", "Accept-Ranges", "Content-Range"), description="The range of bytes.")
_PAGE = 1000  # results, unless another number is asked for


class ResultsQuery(RunQuery):
    """The query string of `GET /api/batch/<id>/results`."""

    severity = kinds.String(load_default=None, validate=validate.OneOf(SEVERITIES), metadata=about("Only results of this severity."))
    reader = choice("spreadsheet", data_key="for", load_default=None, description="Cells that a spreadsheet would run are made harmless.")
    cursor = kinds.Integer(
        load_default=0, validate=validate.Range(min=0, max=2**63 - 1), metadata=about("`next` of the page before, in JSON.")
    )
    limit = kinds.Integer(load_default=_PAGE, validate=validate.Range(min=1, max=10_000), metadata=about("How many results, in JSON."))


@routes.get("/batch/<batch>/results")
@requires("read")
@described(query=ResultsQuery, headers=("Range",), refuses=(410,), replies={200: LOG, 206: PART_OF_LOG})
def get_results(batch: str) -> ResponseReturnValue:
    """Give the result of every record, in order: CSV, or JSON pages. While the batch runs, those that are certain so far."""
    query = fields.of_query(ResultsQuery())
    found = batch_with_run(batch, query)
    if replies.wants_json():
        return replies.json(_page(found, query["severity"], query["cursor"], query["limit"]))
    if query["severity"] or query["reader"]:
        rows = with_severity(rows_of(found), query["severity"])
        return stream(found, csv_of(rows, neutral if query["reader"] else None), CSV_TYPE, _log_name(found))
    return whole_log(found)


def whole_log(batch: Batch) -> Response:
    """Reply with the results of every record, as CSV, as far as they are certain."""
    if batch.run and batch.run.results_digest:
        return download.blob(parts().spool, batch.run.results_digest, CSV_TYPE, _log_name(batch))
    return stream(batch, pieces(batch), CSV_TYPE, _log_name(batch))


def first_page(batch: Batch) -> dict[str, Any]:
    """Return the first results as JSON has them, and where the next ones begin."""
    page = _page(batch, None, 0, _PAGE)
    return {"items": page["items"], "next": page["next"]}


def _log_name(batch: Batch) -> str:
    return f"results-{batch.id}.csv"


def _page(batch: Batch, severity: str | None, cursor: int, limit: int) -> dict[str, Any]:
    """Return some results as JSON, and where the next ones begin: a byte of the CSV, which stays right while the run goes on."""
    position = cursor
    items: list[dict[str, Any]] = []

    def counted() -> Iterator[str]:
        nonlocal position
        following = lines(pieces(batch, max(cursor - 1, 0)))
        if cursor and next(following, "") != "\n":  # the end of the row before
            raise _cursor_invalid()
        for line in following:
            position += len(line.encode())
            yield line

    is_more = False
    for row in parsed(counted()):
        if severity is None or row[2:3] == [severity]:
            items.append(_item(row))
        if is_more := len(items) == limit:
            break
    return {"batch": batch.id, "run": batch.mode, "items": items, "next": position if is_more or not is_over(batch) else None}


def _item(row: list[str]) -> dict[str, Any]:
    try:
        code, message, severity, line, properties, entity_id, file = row
        return {
            "code": code, "message": message, "severity": severity, "line": int(line), "properties": json.loads(properties or "{}"),
            "entity_id": entity_id or None, "file": file,
        }  # fmt: skip
    except ValueError:
        raise _cursor_invalid() from None


def _cursor_invalid() -> Refusal:
    return Refusal(400, "cursor_invalid", "cursor: only what `next` said is a place to go on from.")


def first_errors(batch: Batch, max_errors: int) -> list[dict[str, Any]]:
    """Return the first errors of the batch's run as its status shows them; `data_row` holds the values at fault by column."""
    return [_error(number, _item(row)) for number, row in enumerate(islice(with_severity(rows_of(batch), "Error"), max_errors), 1)]


def _error(number: int, item: dict[str, Any]) -> dict[str, Any]:
    row = item["properties"]
    column = next((name for name in row if name not in TOLD), None)
    return {
        "id": number, "message": item["message"], "data_row": row, "line": item["line"], "column": column,
        "code": item["code"], "file": item["file"],
    }  # fmt: skip
