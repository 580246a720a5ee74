"""Step 4: a batch is put into the queue."""

from functools import lru_cache
from typing import Any

from flask import Blueprint, Response, make_response
from flask.typing import ResponseReturnValue

import clock
from catalog import batches, controls
from catalog.batches import Batch, Execution, Mode, Options, Scheduled
from engine.control import required_files
from errors import Problem, Refusal
from jobs import queues
from routes import fields, parts, replies
from routes.auth import caller, requires, visible_batch
from routes.described import Reply, described
from routes.idempotency import idempotent
from routes.limits import refuse_anothers, refuse_writes
from routes.status import import_exit, settled_batch
from schemas import control as control_files
from schemas.replies import ScheduledReply
from schemas.requests import ScheduleRequest

routes = Blueprint("schedule", __name__, url_prefix="/api")


@routes.post("/schedule")
@requires("import")
@described(
    form=ScheduleRequest, headers=("Idempotency-Key",), refuses=(404, 410),
    replies={200: Reply(ScheduledReply, says=("Import-Exit", "Queue-Delayed"))},
)  # fmt: skip
def schedule_batch() -> ResponseReturnValue:
    """Put a batch into the queue; with `wait`, reply when it is finished, `Import-Exit` saying how."""
    given = fields.of_body(ScheduleRequest())
    reply = make_response(_scheduled(given))
    if given["wait"]:
        reply.headers["Import-Exit"] = str(import_exit(settled_batch(given["batch"], given["wait"], Mode(given["mode"]))))
    return reply


@idempotent
def _scheduled(given: dict[str, Any]) -> ResponseReturnValue:
    batch, options = visible_batch(given["batch"]), options_of(given)
    scheduled = put_into_queue(batch, options, refuse_if_busy=given["when_busy"] == "refuse")
    reply = replies.bare("SCHEDULED", {"status": "SCHEDULED", "batch": batch.id, "run": scheduled.run, "mode": options.mode})
    if not scheduled.is_repeat:
        announce(batch.id, options, reply)
    return reply


def put_into_queue(batch: Batch, options: Options, *, refuse_if_busy: bool = False) -> Scheduled:
    """Put a batch that has all its files into the queue; who has done so announces it."""
    _refuse_unfit(batch)
    control = controls.get(parts().catalog, batch.control)
    return batches.schedule(parts().catalog, batch.id, options, control.tables if control else (), refuse_if_busy=refuse_if_busy)


def options_of(given: dict[str, Any]) -> Options:
    """Return how a run is wanted, from the checked fields of a request."""
    handlers = given["has_event_handlers"]
    return Options(Mode(given["mode"]), Execution(given["execution"]), given["is_ordered"], handlers, given["start_at"])


def announce(batch_id: int, options: Options, reply: Response) -> None:
    """Wake a worker for a batch that was put into the queue; the reply says so where it has to wait for the sweep instead."""
    is_due = options.start_at is None or options.start_at <= clock.now()  # A later start is announced by the sweep when its time comes.
    if is_due and not queues.enqueue(parts().redis, batch_id):
        reply.headers["Queue-Delayed"] = "true"


def _refuse_unfit(batch: Batch) -> None:
    """Refuse a batch that lacks a file, or whose files go beyond what the caller's key is limited to."""
    key = caller()
    refuse_anothers(key, batch)
    names = (
        {file.name for file in batches.files(parts().catalog, batch.id)} if key.is_limited or required_files_of(batch.control) else set()
    )
    refuse_missing(batch.control, names)
    refuse_writes(key, batch.control, names)


def refuse_missing(control: str, uploaded: set[str]) -> None:
    """Refuse a batch that has these files where its control file requires others."""
    problems = [Problem("This required file is missing.", name) for name in required_files_of(control) if name not in uploaded]
    if problems:
        raise Refusal(422, "files_missing", "The batch lacks files that its control file requires.", problems)


@lru_cache(maxsize=256)
def required_files_of(digest: str) -> tuple[str, ...]:
    """Return the names of the files that a stored control file requires; kept, since the bytes of a digest never change."""
    with parts().spool.open(digest) as stored:
        return required_files(control_files.parse(stored.read(), parts().settings.max_control_bytes))
