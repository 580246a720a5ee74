"""Figures of the whole installation, counted in the catalog when they are asked for: it is the truth, whichever process answers.

What has not happened yet is told as 0: an alert on an increase would miss the first of a figure that was not there before.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Engine, Float, and_, case, cast, exists, extract, func, or_, select, true

import clock
from catalog.database import UtcDateTime, reading
from catalog.notices import Kind, Progress
from catalog.states import Mode, State
from catalog.tables import batch_files, batches, deliveries, files, runs, tallies, uploads

RUN_BOUNDS = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0)  # seconds
WAIT_BOUNDS = (0.05, 0.25, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0)  # seconds
_OUTCOMES = ("created", "updated", "deleted", "skipped", "errors", "unprocessed")
_ENDS = tuple(state for state in State if state.is_over)


@dataclass(frozen=True, slots=True)
class Sample:
    """One number, and what tells it from the others of its family."""

    value: float
    labels: Mapping[str, str]
    suffix: str = ""  # of a histogram: `_bucket`, `_sum` or `_count`


@dataclass(frozen=True, slots=True)
class Family:
    """Numbers of one name, as Prometheus groups them."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    about: str
    samples: Sequence[Sample]


def families(engine: Engine) -> list[Family]:
    """Return all figures, as they are at one moment."""
    with reading(engine) as connection:
        past = {(row.name, row.labels): row.value for row in connection.execute(select(tallies))}
        now = [family for part in (_of_batches, _of_bytes, _of_deliveries) for family in part(connection)]
        return [*(_added(family, past) for family in counted(connection)), *now]


def counted(connection: Connection, which: ColumnElement[bool] | None = None) -> list[Family]:
    """Return what only grows as long as no batch is deleted: counters and histograms, of all runs or of these."""
    where = true() if which is None else which
    return [family for part in (_of_runs, _of_times, _of_input) for family in part(connection, where)]


def labels_text(labels: Mapping[str, str]) -> str:
    """Return labels as the tallies have them."""
    return json.dumps(dict(labels), sort_keys=True)


def _added(family: Family, past: dict[tuple[str, str], float]) -> Family:
    """Add what batches counted for that were deleted since."""
    kept = {(family.name + sample.suffix, labels_text(sample.labels)): sample for sample in family.samples}
    more = {key: Sample(value, json.loads(key[1])) for key, value in past.items() if key[0] == family.name and key not in kept}
    added = [replace(sample, value=sample.value + past.get(key, 0)) for key, sample in kept.items()]
    return replace(family, samples=[*added, *more.values()])


def _of_batches(connection: Connection) -> Iterator[Family]:
    rows = connection.execute(select(batches.c.state, func.count().label("many")).group_by(batches.c.state)).all()
    found = {row.state: row.many for row in rows}
    yield Family("lading_batches", "gauge", "Batches by state.", [Sample(found.get(state, 0), {"state": state}) for state in State])
    now = clock.now()
    is_due = or_(batches.c.start_at.is_(None), batches.c.start_at <= now)
    joined = batches.join(runs, and_(runs.c.batch_id == batches.c.id, runs.c.number == batches.c.run))
    since = func.min(func.coalesce(runs.c.start_at, runs.c.scheduled_at), type_=UtcDateTime())
    oldest = connection.scalar(select(since).select_from(joined).where(batches.c.state == State.SCHEDULED, is_due))
    waited = max((now - oldest).total_seconds(), 0.0) if oldest else 0.0
    yield Family("lading_oldest_wait_seconds", "gauge", "How long the batch has waited that has waited longest.", [Sample(waited, {})])


def _of_runs(connection: Connection, where: ColumnElement[bool]) -> Iterator[Family]:
    sums = [func.coalesce(func.sum(runs.c[name]), 0).label(name) for name in _OUTCOMES]
    by_mode = {row.mode: row for row in connection.execute(select(runs.c.mode, *sums).where(where).group_by(runs.c.mode))}
    records = [Sample(int(getattr(by_mode.get(mode), name, 0)), {"mode": mode, "outcome": name}) for mode in Mode for name in _OUTCOMES]
    yield Family("lading_records_total", "counter", "Records by what became of them.", records)
    ended = select(runs.c.mode, runs.c.state, func.count().label("many")).where(where, runs.c.state.in_(_ENDS))
    found = {(row.mode, row.state): row.many for row in connection.execute(ended.group_by(runs.c.mode, runs.c.state))}
    ends = [Sample(found.get((mode, state), 0), {"mode": mode, "state": state}) for mode in Mode for state in _ENDS]
    yield Family("lading_runs_total", "counter", "Runs that have ended, by how.", ends)
    taken = connection.scalar(select(func.coalesce(func.sum(runs.c.takeovers), 0)).where(where))
    about = "Leases that ran out, so that another worker took the batch over."
    yield Family("lading_lease_takeovers_total", "counter", about, [Sample(int(taken or 0), {})])


def _of_times(connection: Connection, where: ColumnElement[bool]) -> Iterator[Family]:
    took = _seconds(connection, runs.c.started_at, runs.c.completed_at)
    has_ended = where & runs.c.state.in_(_ENDS) & runs.c.started_at.is_not(None) & runs.c.completed_at.is_not(None)
    about = "How long runs took, from their first claim to their end."
    yield Family("lading_run_seconds", "histogram", about, _histogram(connection, took, has_ended, RUN_BOUNDS))
    due = case((runs.c.start_at > runs.c.scheduled_at, runs.c.start_at), else_=runs.c.scheduled_at)
    waited = _seconds(connection, due, runs.c.started_at)
    about = "How long runs waited for a worker, and for their tables, once they were due."
    yield Family(
        "lading_queue_wait_seconds", "histogram", about, _histogram(connection, waited, where & runs.c.started_at.is_not(None), WAIT_BOUNDS)
    )


def _seconds(connection: Connection, since: ColumnElement[datetime | None], until: ColumnElement[datetime | None]) -> ColumnElement[float]:
    """Return an expression for the seconds between two instants; 0 where the clock was set back."""
    passed: ColumnElement[Any]
    if connection.dialect.name == "postgresql":
        passed = cast(extract("epoch", until - since), Float)
    else:
        passed = (func.julianday(until) - func.julianday(since)) * 86400.0
    return case((passed > 0, passed), else_=0.0)


def _histogram(connection: Connection, value: ColumnElement[float], where: ColumnElement[bool], bounds: Sequence[float]) -> list[Sample]:
    below: list[Any] = [func.coalesce(func.sum(case((value <= bound, 1), else_=0)), 0) for bound in bounds]
    row = connection.execute(select(func.count(), func.coalesce(func.sum(value), 0.0), *below).where(where)).one()
    many, total, *counts = row
    buckets = [Sample(int(count), {"le": f"{bound:g}"}, "_bucket") for bound, count in zip(bounds, counts, strict=True)]
    return [*buckets, Sample(many, {"le": "+Inf"}, "_bucket"), Sample(round(float(total), 3), {}, "_sum"), Sample(many, {}, "_count")]


def _of_input(connection: Connection, where: ColumnElement[bool]) -> Iterator[Family]:
    of_run = runs.join(batch_files, batch_files.c.batch_id == runs.c.batch_id).join(files, files.c.digest == batch_files.c.digest)
    read = connection.scalar(select(func.coalesce(func.sum(files.c.size), 0)).select_from(of_run).where(where, runs.c.state.in_(_ENDS)))
    yield Family("lading_input_bytes_total", "counter", "Sizes of the files of runs that have ended.", [Sample(int(read or 0), {})])


def _of_bytes(connection: Connection) -> Iterator[Family]:
    is_kept = exists().where(uploads.c.digest == files.c.digest)
    data = connection.scalar(select(func.coalesce(func.sum(files.c.size), 0)).where(is_kept))
    results = connection.scalar(select(func.coalesce(func.sum(runs.c.results_size), 0)).where(runs.c.results_digest.is_not(None)))
    kept = [Sample(int(data or 0), {"kind": "files"}), Sample(int(results or 0), {"kind": "results"})]
    yield Family("lading_spool_bytes", "gauge", "What the spool holds.", kept)


def _of_deliveries(connection: Connection) -> Iterator[Family]:
    query = select(deliveries.c.kind, deliveries.c.state, func.count().label("many")).group_by(deliveries.c.kind, deliveries.c.state)
    found = {(row.kind, row.state): row.many for row in connection.execute(query)}
    many = [Sample(found.get((kind, state), 0), {"kind": kind, "state": state}) for kind in Kind for state in Progress]
    yield Family("lading_deliveries", "gauge", "Mails and requests to webhooks, by how far they are.", many)
