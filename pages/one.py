"""One import: how it fares, what became of its records, and what can be done with it."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, redirect, request, url_for
from flask.typing import ResponseReturnValue

from catalog import batches, copies, listing, samples
from catalog.batches import Batch, Execution, Mode, Options, State
from errors import Refusal
from pages.looks import page
from pages.session import signed_in
from routes import failed, file, parts, results
from routes.auth import caller, visible_batch
from routes.control import usable_control
from routes.receipts import RunQuery
from routes.schedule import announce, put_into_queue
from schemas.requests import check

routes = Blueprint("one", __name__, url_prefix="/imports")

_MOVING = (State.SCHEDULED, State.RUNNING)


@routes.get("/<batch>")
@signed_in("read")
def show(batch: str) -> ResponseReturnValue:
    """Show an import: of its runs the last one, or the last of the mode that is asked for."""
    run = check(RunQuery(), {name: value for name, value in request.args.items() if name == "run"})["run"]
    found = visible_batch(batch, Mode(run) if run else None)
    if found.state is State.UPLOADING:
        return redirect(url_for("pages.by_hand.files", batch=batch), 303)
    runs = batches.runs_of(parts().catalog, found.id)
    return page("import.html", runs=runs, files=batches.files(parts().catalog, found.id), run_asked=run, **_told(found))


@routes.get("/<batch>/progress")
@signed_in("read", is_poll=True)
def progress(batch: str) -> ResponseReturnValue:
    """Give how far the import is; when it is over, have the page loaded anew."""
    found = visible_batch(batch)
    reply = page("import_progress.html", **_told(found))
    if found.state not in _MOVING:
        reply.headers["HX-Refresh"] = "true"
    return reply


def _told(batch: Batch) -> dict[str, Any]:
    """Return what is shown of an import."""
    may = caller().can("import")
    is_dry = batch.mode is Mode.DRY_RUN
    return {
        "batch": batch,
        "labels": listing.labels(parts().catalog, [batch]),
        "moving": batch.state in _MOVING,
        "chart": _chart(batch),
        "may_cancel": may and batch.state in _MOVING and not batch.is_cancel_wanted,
        "may_import": may and is_dry and batch.state in (State.COMPLETED, State.FAILED),
        "may_again": may and batch.state.is_over,
    }


def _chart(batch: Batch) -> list[list[float]] | None:
    """Return the run over time as a chart wants it: seconds, records read, records refused; None for one too short to be looked at."""
    run = batch.run
    noted = samples.of_run(parts().catalog, batch.id, run.number) if run else []
    if not noted or run is None or run.started_at is None:
        return None
    points = [(0.0, 0, 0), *(((s.at - run.started_at).total_seconds(), s.input, s.errors) for s in noted)]
    if run.completed_at is not None:
        points.append((run.elapsed_seconds, run.counts.input, run.counts.errors))
    return [list(series) for series in zip(*points, strict=True)]


@routes.post("/<batch>/cancel")
@signed_in("import")
def cancel(batch: str) -> ResponseReturnValue:
    """Stop an import: at once if it waits, at the next chunk border if it runs."""
    batches.cancel(parts().catalog, visible_batch(batch).id)
    return _to(int(batch))


@routes.post("/<batch>/import")
@signed_in("import")
def carry_out(batch: str) -> ResponseReturnValue:
    """Run for good what was tried before, in the same way."""
    found = visible_batch(batch, Mode.DRY_RUN)
    if found.run is None:
        raise Refusal(409, "no_dry_run", f"Batch {found.id} has had no dry run.")
    tried = found.run.options
    return _scheduled(found, Options(Mode.IMPORT, tried.execution, tried.is_ordered, tried.has_event_handlers))


@routes.post("/<batch>/again")
@signed_in("import")
def again(batch: str) -> ResponseReturnValue:
    """Send the same files with the same control file once more, as a new import."""
    found = _usable(batch)
    options = found.run.options if found.run else Options(Mode.IMPORT, Execution.PER_RECORD)
    made = visible_batch(str(copies.copy(parts().catalog, found, caller())))
    return _scheduled(made, Options(options.mode, options.execution, options.is_ordered, options.has_event_handlers))


@routes.post("/<batch>/copy")
@signed_in("import")
def copy(batch: str) -> ResponseReturnValue:
    """Begin a new import with the same control file and files, to be changed before it is sent."""
    return _to(copies.copy(parts().catalog, _usable(batch), caller()))


def _usable(batch: str) -> Batch:
    """Return a batch whose control file the caller may use for another."""
    found = visible_batch(batch)
    usable_control(found.control)
    return found


def _scheduled(batch: Batch, options: Options) -> Response:
    scheduled = put_into_queue(batch, options)
    reply = _to(batch.id)
    if not scheduled.is_repeat:
        announce(batch.id, options, reply)
    return reply


def _to(batch_id: int) -> Response:
    reply = redirect(url_for("pages.one.show", batch=batch_id), 303)
    assert isinstance(reply, Response)  # noqa: S101 - the application's own kind
    return reply


# Downloads: what the routes give, for those who are signed in.
@routes.get("/<batch>/results.csv")
@signed_in("read")
def download_results(batch: str) -> ResponseReturnValue:
    """Give the result of every record."""
    return results.get_results(batch)


@routes.get("/<batch>/failed/<path:name>")
@signed_in("read")
def download_failed(batch: str, name: str) -> ResponseReturnValue:
    """Give the refused rows of a file, ready to be mended."""
    return failed.get_failed(batch, name)


@routes.get("/<batch>/reasons/<path:name>")
@signed_in("read")
def download_reasons(batch: str, name: str) -> ResponseReturnValue:
    """Give why they were refused."""
    return failed.get_reasons(batch, name)


@routes.get("/<batch>/content/<digest>")
@signed_in("read")
def download_file(batch: str, digest: str) -> ResponseReturnValue:
    """Give a file of the import as it was sent."""
    visible_batch(batch)
    return file.get_content(digest)
