"""Scheduling: a batch gets a run, a place in the queue, and the lanes it will need."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, bindparam, exists, func, or_, select, update

import clock
from catalog.database import insert, lock_queue, writing
from catalog.prepared import Prepared
from catalog.retention import keep_for_run
from catalog.states import Mode, Options, Scheduled, State, TableKey
from catalog.tables import batches, lanes, queue_place, runs, wants
from errors import Refusal

_BUSY_RETRY_SECONDS = 10


def _move(place: Any) -> Any:
    """Return what moves a batch, if it is as it was seen and may be scheduled, to this place in the queue."""
    is_dry_run_over = exists().where(
        runs.c.batch_id == batches.c.id,
        runs.c.number == batches.c.run,
        runs.c.mode == Mode.DRY_RUN,
        or_(runs.c.state == State.COMPLETED, runs.c.state == State.FAILED),
    )
    return (
        update(batches)
        .where(batches.c.id == bindparam("p_batch"), batches.c.run == bindparam("p_run"), batches.c.state == bindparam("p_state"))
        .where(or_(batches.c.state == State.UPLOADING, is_dry_run_over))
        .values(
            state=State.SCHEDULED,
            run=bindparam("p_next"),
            place=place,
            start_at=bindparam("p_start_at", type_=batches.c.start_at.type),
            is_cancel_wanted=False,
        )
        .returning(batches.c.place)
    )


# Made once, which takes longer than to execute them.
_SEEN = Prepared(select(batches.c.state, batches.c.run).where(batches.c.id == bindparam("p_batch")))
_MOVE = {
    True: Prepared(_move(queue_place.next_value())),  # PostgreSQL
    False: Prepared(_move(select(func.coalesce(func.max(batches.c.place), 0) + 1).scalar_subquery())),
}


def schedule(engine: Engine, batch_id: int, options: Options, tables: Collection[TableKey], *, refuse_if_busy: bool = False) -> Scheduled:
    """Put a batch into the queue, to be run as `options` say once all lanes of `tables` are free.

    A request equal to an earlier one of this batch answers as that did and changes nothing. Otherwise the batch must be `uploading`, or its
    last run an ended dry run. Refusal: 404 `batch_unknown`; 409 `already_scheduled`; 409 `blocked` (with Retry-After) where
    `refuse_if_busy` and one of the lanes is held, or waited for; 410 `files_expired` where a file was deleted after its time.
    """
    with writing(engine) as connection:
        return schedule_on(connection, batch_id, options, tables, refuse_if_busy=refuse_if_busy)


def schedule_on(
    connection: Connection, batch_id: int, options: Options, tables: Collection[TableKey], *, refuse_if_busy: bool = False
) -> Scheduled:
    """Do the same in a transaction that goes on."""
    while True:
        seen = _SEEN.run(connection, p_batch=batch_id).one_or_none()
        if seen is None:
            raise Refusal(404, "batch_unknown", f"there is no batch {batch_id}")
        if seen.run and (earlier := _earlier(connection, batch_id, seen, options)):
            return earlier
        if refuse_if_busy:
            lock_queue(connection)
            _refuse_busy(connection, tables)
        place = _schedule_if_still(connection, batch_id, seen, options)
        if place is not None:
            _add_run(connection, batch_id, seen.run + 1, options)
            want(connection, place, options.start_at, tables)
            keep_for_run(connection, batch_id)
            return Scheduled(batch_id, seen.run + 1, is_repeat=False)
        # Somebody else scheduled or cancelled it since we looked: look again.


def _earlier(connection: Connection, batch_id: int, seen: Any, options: Options) -> Scheduled | None:
    same = select(runs.c.number).where(
        runs.c.batch_id == batch_id, *(runs.c[name].is_not_distinct_from(v) for name, v in _columns(options))
    )
    number = connection.scalar(same.order_by(runs.c.number.desc()).limit(1))
    return None if number is None else Scheduled(batch_id, number, is_repeat=True)


def _schedule_if_still(connection: Connection, batch_id: int, seen: Any, options: Options) -> int | None:
    """Move the batch to `scheduled` if it still is as `seen` and may be; return its place, or None where it has changed since."""
    said = {"p_batch": batch_id, "p_run": seen.run, "p_next": seen.run + 1, "p_state": seen.state, "p_start_at": options.start_at}
    place = _MOVE[connection.dialect.name == "postgresql"].run(connection, **said).scalar()
    if place is None:
        now = _SEEN.run(connection, p_batch=batch_id).one()
        if tuple(now) == tuple(seen):
            raise Refusal(409, "already_scheduled", f"batch {batch_id} is {now.state} and was scheduled in another way")
    return place


def _add_run(connection: Connection, batch_id: int, number: int, options: Options) -> None:
    row: dict[str, Any] = dict.fromkeys(("input", "created", "updated", "deleted", "skipped", "errors", "unprocessed", "attempts"), 0)
    row |= {"batch_id": batch_id, "number": number, "state": State.SCHEDULED, "status_msg": "", "code": "", "progress": 0.0}
    connection.execute(runs.insert(), row | dict(_columns(options)) | {"scheduled_at": clock.now()})


def _columns(options: Options) -> list[tuple[str, Any]]:
    return [
        ("mode", options.mode),
        ("execution", options.execution),
        ("is_ordered", options.is_ordered),
        ("has_event_handlers", options.has_event_handlers),
        ("start_at", options.start_at),
    ]


def lane_keys(tables: Collection[TableKey]) -> list[tuple[str, str]]:
    """Return the lanes of tables, as they are stored. A batch that writes no table waits in a lane of its own kind, so that it is found."""
    # Sorted, so that two transactions that make the same lanes meet them in the same order and cannot deadlock.
    return sorted({(schema or "", name) for schema, name in tables} or {("", "")})


def make_lanes(connection: Connection, keys: Collection[tuple[str, str]]) -> None:
    """Make the lanes that are met for the first time."""
    rows = [{"table_schema": schema, "table_name": name} for schema, name in keys]
    connection.execute(insert(connection, lanes).on_conflict_do_nothing(), rows)


def want(connection: Connection, place: int, start_at: datetime | None, tables: Collection[TableKey]) -> None:
    """Note which lanes the batch at `place` waits for, from `start_at` on."""
    keys = lane_keys(tables)
    make_lanes(connection, keys)
    rows = [{"place": place, "start_at": start_at, "table_schema": schema, "table_name": name} for schema, name in keys]
    connection.execute(insert(connection, wants).on_conflict_do_nothing(), rows)


def _refuse_busy(connection: Connection, tables: Collection[TableKey]) -> None:
    for schema, name in lane_keys(tables):
        held = exists().where(lanes.c.table_schema == schema, lanes.c.table_name == name, lanes.c.batch_id.is_not(None))
        wanted = exists().where(wants.c.table_schema == schema, wants.c.table_name == name)
        if connection.scalar(select(or_(held, wanted))):
            detail = f"another batch is importing, or waits to import, into {name}"
            raise Refusal(409, "blocked", detail, headers={"Retry-After": str(_BUSY_RETRY_SECONDS)})
