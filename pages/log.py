"""The log of an import, line by line or rolled up, and the rows that its lines are about."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, url_for
from flask.typing import ResponseReturnValue
from marshmallow import fields as kinds, validate

from catalog.batches import Batch
from engine.missing import Missed, missed
from engine.readers import FileRefused
from engine.results import HEADER, OUTCOMES, changes_in, outcome_of
from engine.rollup import CUT_CHARACTERS, Group, roll_up
from engine.searching import Wanted, matching, search
from engine.source_rows import source_row
from errors import DigestUnknown, Refusal
from pages import forms
from pages.looks import page
from pages.session import signed_in
from routes import masking, parts
from routes.failed import file_of, layout_of, limits
from routes.receipts import RunQuery, batch_with_run, pieces, stored
from schemas.replies import SEVERITIES
from schemas.requests import Text

routes = Blueprint("log", __name__, url_prefix="/imports")

_ROWS = 50
_GROUPS = 100
_ERRORS = 200_000  # so many are rolled up for a page, which takes a second; the API rolls up all
_SECONDS = 0.2  # so long a search may take before it shows what it has; the page then goes on by itself


class LogQuery(RunQuery):
    """Which lines of the log are wanted."""

    severity = kinds.String(load_default=None, validate=validate.OneOf(SEVERITIES))
    code = Text(load_default=None, validate=validate.Length(max=100))
    column = Text(load_default=None, validate=validate.Length(max=200))
    text = Text(load_default=None, validate=validate.Length(max=200))
    outcome = kinds.String(load_default=None, validate=validate.OneOf(list(OUTCOMES)))
    cursor = kinds.Integer(load_default=len(HEADER), validate=validate.Range(min=len(HEADER), max=2**63 - 1))


class RowsQuery(RunQuery):
    """Which rows of which file are wanted, and which column is at fault."""

    file = Text(required=True)
    line = kinds.Integer(required=True, validate=validate.Range(min=1, max=2**53))
    column = Text(load_default="")


@routes.get("/<batch>/log")
@signed_in("read")
def show(batch: str) -> ResponseReturnValue:
    """Show the log, or what of it is sought."""
    query = forms.of_query(LogQuery())
    return page("log.html", severities=SEVERITIES, query=query, **_page(batch_with_run(batch, query), query))


@routes.get("/<batch>/log/rows")
@signed_in("read", is_poll=True)
def rows(batch: str) -> ResponseReturnValue:
    """Give the next lines alone, for a search that goes on by itself."""
    query = forms.of_query(LogQuery())
    return page("log_rows.html", query=query, **_page(batch_with_run(batch, query), query))


def _page(batch: Batch, query: dict[str, Any]) -> dict[str, Any]:
    wanted = Wanted(query["severity"], query["code"], query["column"], query["text"], query["outcome"])
    start = query["cursor"]
    found = search(pieces(batch, start), start, wanted, _ROWS, _SECONDS)
    given = {name: value for name, value in query.items() if value is not None} | {"cursor": found.position}
    size = batch.run.results_size if batch.run else None
    return {
        "batch": batch,
        "rows": list(map(_line, found.rows)),
        "is_end": found.is_end,
        "is_cut": not found.is_end and len(found.rows) < _ROWS,
        "searched": min(found.position / size, 1.0) if size else None,
        "following": f"{url_for('pages.log.show', batch=batch.id)}?{urlencode(given)}",
        "following_rows": f"{url_for('pages.log.rows', batch=batch.id)}?{urlencode(given)}",
        "is_first": start == len(HEADER),
    }


def _line(row: list[str]) -> dict[str, Any]:
    """Return a result as the page shows it: what changes cell by cell, or else the values that it tells."""
    code, message, severity, line, properties, entity_id, file = row
    changed, besides, told = changes_in(properties)
    return {
        "code": code, "message": message, "severity": severity, "line": line, "entity_id": entity_id, "file": file,
        "outcome": outcome_of(code, severity), "changed": changed, "besides": besides,
        "properties": properties if not changed else json.dumps(told, ensure_ascii=False) if told else "",
    }  # fmt: skip


@routes.get("/<batch>/errors")
@signed_in("read", is_poll=True)
def errors(batch: str) -> ResponseReturnValue:
    """Give the errors rolled up, the most frequent first."""
    found = batch_with_run(batch, forms.of_query(RunQuery()))
    groups = _groups(found)
    links = [_lines_of(found, group) for group in groups[:_GROUPS]]
    most = _ERRORS if found.counts.errors > _ERRORS else None
    return page("errors.html", batch=found, groups=list(zip(groups, links, strict=False)), more=len(groups) - _GROUPS, most=most)


def _lines_of(batch: Batch, group: Group) -> str:
    """Return where the log shows the lines of a group: those with its value, as far as that stands in the log as it is."""
    is_plain = group.value and len(group.value) < CUT_CHARACTERS and group.value.isprintable() and not set(group.value) & set('"\\')
    said: dict[str, Any] = {"code": group.code, "column": group.column or None, "text": group.value if is_plain else None}
    return url_for("pages.log.show", batch=batch.id, outcome="errors", run=batch.mode, **said)


@routes.get("/<batch>/missing")
@signed_in("read", is_poll=True)
def missing(batch: str) -> ResponseReturnValue:
    """Give what records refer to and is not there, with what is most like it."""
    found = batch_with_run(batch, forms.of_query(RunQuery()))
    return page("missing.html", batch=found, missing=_missing(found)[:_GROUPS])


def _groups(batch: Batch) -> list[Group]:
    digest = batch.run.results_digest if batch.run else None
    return list(_groups_of(digest)) if digest else roll_up(_errors(pieces(batch)))


@lru_cache(maxsize=32)
def _groups_of(results_digest: str) -> tuple[Group, ...]:
    """Return the errors of finished results rolled up; kept, since the bytes of a digest never change."""
    return tuple(roll_up(_errors(stored(parts().spool.open(results_digest)))))


def _missing(batch: Batch) -> list[Missed]:
    digest = batch.run.results_digest if batch.run else None
    return list(_missing_of(digest)) if digest else missed(_errors(pieces(batch)))[0]


@lru_cache(maxsize=32)
def _missing_of(results_digest: str) -> tuple[Missed, ...]:
    return tuple(missed(_errors(stored(parts().spool.open(results_digest))))[0])


def _errors(results: Iterator[bytes]) -> Iterator[list[str]]:
    return islice(matching(results, Wanted("Error")), _ERRORS)


@routes.get("/<batch>/row")
@signed_in("read", is_poll=True)
def row(batch: str) -> ResponseReturnValue:
    """Give a row as it stands in its file, the cell at fault marked."""
    query = forms.of_query(RowsQuery())
    found = batch_with_run(batch, query)
    try:
        shown = _row(found, **{name: query[name] for name in ("file", "line", "column")})
    except DigestUnknown:
        shown = {"why": "The file is no longer kept."}
    except FileRefused as error:
        raise Refusal(422, "file_refused", f"{query['file']}: {error}") from error
    return page("row.html", **{"line": query["line"], "cells": [], "marked": set(), "why": ""} | shown)


def _row(batch: Batch, file: str, line: int, column: str) -> dict[str, Any]:
    """Return (name, text) of a row's cells, those that are masked hidden, and the names of those to be marked; or why there are none."""
    held = file_of(batch, file)
    layout, read = layout_of(batch.control, held)
    entity, is_masked = masking.entity_of(batch.control, file), masking.may_mask(batch)
    if is_masked and entity is None:
        return {"why": "The row is not shown, since a control file masks a column: fetch the refused rows of its file."}
    with parts().spool.open(held.digest) as blob:
        row = source_row(blob, file, layout, entity.inputs if entity else (), line, limits())
    if row is None:
        return {"why": "There is no such row."}
    row = row.opened("properties") if read == "collection" else row
    cells = row.shown_cells()
    if entity is None:
        return {"cells": cells, "marked": {column} - {""}}
    if is_masked:
        hidden = masking.masked_names(entity, row.names)
        # What stands in which column of a row that cannot be read nobody knows, nor what is beyond the columns that have names.
        cells = [(n, cell if row.values is not None and n and n not in hidden else masking.MASK) for n, cell in cells]
    return {"cells": cells, "marked": masking.names_behind(entity, column, row.names)}
