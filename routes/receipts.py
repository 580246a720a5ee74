"""A run's results as rows, lines and pieces, and the replies that are made of them while they are sent."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import chain, islice
from typing import Any, BinaryIO

from flask import Response

from catalog.batches import Batch, Mode
from engine import results
from engine.segments import committed
from engine.target import open_target
from errors import Refusal
from routes import Parts, download, parts
from routes.auth import visible_batch
from schemas.requests import MODES, Request, choice

CSV_TYPE = "text/csv; charset=utf-8"
_ROWS_AT_ONCE = 1000
_PIECE_BYTES = 256 * 1024


class RunQuery(Request):
    """Which run of the batch is meant; the last one, unless it is said."""

    run = choice(*MODES, load_default=None, description="The last run of this mode, instead of the last one.")


def batch_with_run(text: str, query: dict[str, Any]) -> Batch:
    """Return a batch with the run that is asked for; 404 where it has none."""
    batch = visible_batch(text, Mode(query["run"]) if query["run"] else None)
    if batch.run is None:
        raise Refusal(404, "run_unknown", f"Batch {batch.id} has no {query['run'] or ''} run.".replace("  ", " "))
    return batch


def is_over(batch: Batch) -> bool:
    """Tell whether the run that is looked at has all its results."""
    return batch.run is not None and batch.run.state.is_over


def rows_of(batch: Batch) -> Iterator[list[str]]:
    """Return the results of the batch's run so far: rows of the seven columns, without the header. They are read as they are asked for."""
    return parsed(lines(pieces(batch)))


def parsed(of: Iterable[str]) -> Iterator[list[str]]:
    """Return lines of the results as rows, without the header."""
    # A cell may hold all values of a record, each as long as a field may be; the limit is the process's, and small where nobody sets it.
    csv.field_size_limit(2**31 - 1)
    return results.parse(of)


def with_severity(rows: Iterable[list[str]], severity: str | None) -> Iterator[list[str]]:
    """Return the rows of this severity; all, where none is named."""
    return (row for row in rows if severity is None or row[2] == severity)


def stream(batch: Batch, body: Iterator[bytes], content_type: str, name: str) -> Response:
    """Reply with a body that is made while it is sent. What goes wrong before its first byte still becomes a refusal."""
    first = next(body, b"")
    reply = Response(chain([first], body), content_type=content_type)
    download.name_it(reply, name)
    if not is_over(batch):
        reply.headers["Retry-After"] = "1"
    return reply


def pieces(batch: Batch, offset: int = 0) -> Iterator[bytes]:
    """Return the results so far from a byte on, the header included, in pieces that end with a line."""
    # The parts are taken now: when the pieces are read, the reply is on its way and the request is over.
    wired, run = parts(), batch.run
    if run is not None and run.results_digest:
        return stored(wired.spool.open(run.results_digest), offset)
    if run is not None and run.state.is_over and run.results_size is not None:
        raise Refusal(410, "no_longer_kept", f"The results of batch {batch.id} are no longer kept.")
    # An ordered run writes its records by group: only at its end are they back in file order, and what was once read would have moved.
    # A run that is over and has no results stored, for want of room perhaps, has its ledger still.
    if run is None or run.started_at is None or run.options.is_ordered:
        return iter([results.HEADER[offset:]])
    return _so_far(wired, f"{batch.id}-{run.number}", offset)


def stored(blob: BinaryIO, offset: int = 0) -> Iterator[bytes]:
    """Yield finished results from a byte on, in pieces that end with a line, and close them."""
    with blob:
        blob.seek(offset)
        while piece := blob.read(_PIECE_BYTES):
            yield piece if piece.endswith(b"\n") else piece + blob.readline()


def _so_far(wired: Parts, run: str, offset: int) -> Iterator[bytes]:
    """Yield the results of a run that goes on, as far as they are certain."""
    with closing(open_target(wired.settings.target_url)) as target:
        found = committed(target, run, wired.spool)
        asked = list(islice(found, 2))  # the header, and what the target says: a target that is away is told before the reply has begun
        for piece in chain(asked, found):
            yield piece[offset:]
            offset = max(offset - len(piece), 0)


def lines(of: Iterable[bytes]) -> Iterator[str]:
    """Return results as the lines that a CSV reader wants: a cell may hold line ends of any kind, and they are its own."""
    for piece in of:
        yield from io.StringIO(piece.decode(errors="replace"), newline="")


def csv_of(rows: Iterable[list[str]], change: Callable[[str], str] | None = None) -> Iterator[bytes]:
    """Write rows as CSV. What is for a spreadsheet begins with a BOM, without which some take UTF-8 for something else."""
    yield (b"\xef\xbb\xbf" if change else b"") + results.HEADER
    rows = iter(rows)
    while block := list(islice(rows, _ROWS_AT_ONCE)):
        changed = block if change is None else [[change(cell) for cell in row] for row in block]
        yield "".join([",".join(map(results.cell, row)) + "\n" for row in changed]).encode()
