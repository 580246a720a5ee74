"""Batches: made, given files, looked at, cancelled. Their way through the queue is in catalog/schedule.py and catalog/queue.py.

All that other packages need of batches can be reached from here.
"""

import secrets
from collections.abc import Collection, Sequence
from typing import Any, Required, TypedDict, Unpack

from sqlalchemy import ColumnElement, Connection, Engine, Row, Select, bindparam, delete, func, select, tuple_, update

import clock
from catalog import import_schemas, keys, retention
from catalog.database import insert, lock_queue, reading, writing
from catalog.idempotency import Held, made_once
from catalog.notices import note_end
from catalog.prepared import Prepared
from catalog.queue import (
    HeldLease,
    add_tables,
    claim,
    finish,
    finish_and_claim,
    hand_back,
    hand_back_expired,
    heartbeat,
    held_leases,
    running,
    waiting,
)
from catalog.schedule import schedule
from catalog.states import (
    Attached,
    Batch,
    BatchFile,
    Beat,
    Claim,
    CountLawBroken,
    Counts,
    Ending,
    Execution,
    Mode,
    Options,
    Run,
    Scheduled,
    State,
    TableKey,
)
from catalog.tables import batch_files, batches, control_names, control_pins, files as stored_files, keys as stored_keys, runs, wants
from errors import Refusal

__all__ = [
    "Attached",
    "Batch",
    "BatchFile",
    "Beat",
    "Claim",
    "CountLawBroken",
    "Counts",
    "Ending",
    "Execution",
    "HeldLease",
    "Mode",
    "Options",
    "Run",
    "Scheduled",
    "State",
    "TableKey",
    "add_tables",
    "attach",
    "cancel",
    "claim",
    "control_pin",
    "control_pins_of",
    "create",
    "files",
    "finish",
    "finish_and_claim",
    "get",
    "hand_back",
    "hand_back_expired",
    "heartbeat",
    "held_leases",
    "insert_batch",
    "is_moving",
    "receipted",
    "running",
    "runs_of",
    "schedule",
    "waiting",
]


def _with_run(number: ColumnElement[int]) -> Select[Any]:
    """Return the query for a batch, `p_batch`, with its run of this number."""
    joined = batches.outerjoin(runs, (runs.c.batch_id == batches.c.id) & (runs.c.number == number))
    columns = (*batches.c, *(c.label(f"run_{c.name}") for c in runs.c))
    return select(*columns).select_from(joined).where(batches.c.id == bindparam("p_batch"))


def _last_of_mode() -> ColumnElement[int]:
    of_mode = runs.alias("of_mode")
    last = select(func.max(of_mode.c.number)).where(of_mode.c.batch_id == batches.c.id, of_mode.c.mode == bindparam("p_mode"))
    return last.correlate(batches).scalar_subquery()


# Made once: to make them takes longer than to execute them, and whoever waits for a batch executes them twice.
_WITH_LAST_RUN = _with_run(batches.c.run)
_WITH_LAST_OF_MODE = _with_run(_last_of_mode())
_STATE = Prepared(select(batches.c.state).where(batches.c.id == bindparam("p_batch")))
_MOVING = (State.UPLOADING, State.SCHEDULED, State.RUNNING)
_MAX_ID = 2**53  # every JSON reader keeps integers below this exact


class Said(TypedDict, total=False):
    """What is said of a batch when it is made."""

    control: Required[str]  # digest
    key_id: Required[str]
    comment: str
    file_name: str
    creation_path: str
    addresses: Sequence[str]
    schema_id: int | None


def create(engine: Engine, *, held: Held | None = None, **said: Unpack[Said]) -> int:
    """Make an empty batch, once under an Idempotency-Key that is held; return its id: random, from 1 to below 2^53."""
    with writing(engine) as connection:
        return made_once(connection, held, lambda: insert_batch(connection, **said))


def insert_batch(connection: Connection, **said: Unpack[Said]) -> int:
    """Do the same in a transaction that goes on."""
    row: dict[str, Any] = {"comment": "", "file_name": "", "creation_path": "", **said, "addresses": list(said.get("addresses", ()))}
    row |= {"created_at": clock.now(), "state": State.UPLOADING, "run": 0, "fence": 0, "is_cancel_wanted": False}
    while True:
        row["id"] = secrets.randbelow(_MAX_ID - 1) + 1
        made = connection.execute(insert(connection, batches).on_conflict_do_nothing(index_elements=["id"]), row)
        if made.rowcount:
            return int(row["id"])


def get(engine: Engine, batch_id: int, *, key: keys.Key | None = None, mode: Mode | None = None) -> Batch | None:
    """Return a batch with its last run, or, with `mode`, as its last run of that mode left it.

    None where there is no such batch, or `key` may not see it: the caller cannot tell which, so that nothing leaks.
    """
    with reading(engine) as connection:
        if mode is None:
            row = connection.execute(_WITH_LAST_RUN, {"p_batch": batch_id}).one_or_none()
        else:
            row = connection.execute(_WITH_LAST_OF_MODE, {"p_batch": batch_id, "p_mode": mode}).one_or_none()
    if row is None or (key is not None and not key.can_see(row.key_id)):
        return None
    return _batch(row, mode)


def is_moving(engine: Engine, batch_id: int) -> bool:
    """Tell whether a batch has not ended, nor is held; cheap enough to be asked every few milliseconds."""
    with reading(engine) as connection:
        return _STATE.run(connection, p_batch=batch_id).scalar() in _MOVING


def runs_of(engine: Engine, batch_id: int) -> list[Run]:
    """Return all runs of a batch, oldest first."""
    query = select(*(c.label(f"run_{c.name}") for c in runs.c)).where(runs.c.batch_id == batch_id).order_by(runs.c.number)
    with reading(engine) as connection:
        return [_run(row) for row in connection.execute(query)]


def _batch(row: Row[Any], mode: Mode | None) -> Batch:
    run = _run(row) if row.run_number is not None else None
    return Batch(
        id=row.id,
        control=row.control,
        comment=row.comment,
        file_name=row.file_name,
        creation_path=row.creation_path,
        addresses=tuple(row.addresses),
        key_id=row.key_id,
        created_at=row.created_at,
        state=run.state if run and mode else State(row.state),
        fence=row.fence,
        worker=row.worker,
        lease_until=row.lease_until,
        is_cancel_wanted=row.is_cancel_wanted,
        schema_id=row.schema_id,
        run=run,
    )


def _run(row: Row[Any]) -> Run:
    return Run(
        batch_id=row.run_batch_id,
        number=row.run_number,
        options=Options(Mode(row.run_mode), Execution(row.run_execution), row.run_is_ordered, row.run_has_event_handlers, row.run_start_at),
        state=State(row.run_state),
        status_msg=row.run_status_msg,
        code=row.run_code,
        counts=Counts(
            row.run_input, row.run_created, row.run_updated, row.run_deleted, row.run_skipped, row.run_errors, row.run_unprocessed
        ),
        progress=row.run_progress,
        results_digest=row.run_results_digest,
        results_size=row.run_results_size,
        scheduled_at=row.run_scheduled_at,
        started_at=row.run_started_at,
        completed_at=row.run_completed_at,
        attempts=row.run_attempts,
    )


def files(engine: Engine, batch_id: int) -> list[BatchFile]:
    """Return the files of a batch in the order of their upload."""
    of = batch_files.c
    query = (
        select(of.name, of.digest, stored_files.c.size, of.position, of.created_at, of.format, of.separator)
        .join_from(batch_files, stored_files)
        .where(batch_files.c.batch_id == batch_id)
        .order_by(batch_files.c.position)
    )
    with reading(engine) as connection:
        return [BatchFile(*row) for row in connection.execute(query)]


def attach(engine: Engine, batch_id: int, name: str, digest: str, *, replace: bool = False) -> Attached:
    """Give a batch the stored file `digest` under `name`; a replaced file keeps its position.

    The same digest under the same name changes nothing, whatever the state. Refusal: 404 `batch_unknown`; 409 `name_taken` where the name
    holds another digest and `replace` is false; 409 `not_uploading` where the batch has been scheduled; 404 `file_unknown` where the
    file has just been deleted after its time.
    """
    with writing(engine) as connection:
        # The lock makes uploads to one batch take turns, and keeps it from being scheduled half-way through one.
        state = connection.scalar(select(batches.c.state).where(batches.c.id == batch_id).with_for_update())
        if state is None:
            raise Refusal(404, "batch_unknown", f"there is no batch {batch_id}")
        of_batch = batch_files.c.batch_id == batch_id
        held = connection.scalar(select(batch_files.c.digest).where(of_batch, batch_files.c.name == name))
        if held == digest:
            return Attached.REPEATED
        if state != State.UPLOADING:
            raise Refusal(409, "not_uploading", f"batch {batch_id} is {state}: its files can no longer change")
        retention.use(connection, digest)
        if held is None:
            last = connection.scalar(select(func.max(batch_files.c.position)).where(of_batch)) or 0
            row = {"batch_id": batch_id, "name": name, "digest": digest, "position": last + 1, "created_at": clock.now()}
            connection.execute(batch_files.insert(), row)
            return Attached.ADDED
        if not replace:
            raise Refusal(409, "name_taken", f"batch {batch_id} already has another file named {name!r}; replace=true replaces it")
        changed = {"digest": digest, "created_at": clock.now()}
        connection.execute(batch_files.update().where(of_batch, batch_files.c.name == name), changed)
        return Attached.REPLACED


def cancel(engine: Engine, batch_id: int) -> State | None:
    """Stop a batch: at once if no worker has begun it, else at the next chunk border, not at all if it is over.

    Return its state, None where there is no such batch. One that was begun stays RUNNING (or SCHEDULED, if it was handed back) until a
    worker has seen the wish and given every record its result.
    """
    with writing(engine) as connection:
        lock_queue(connection)  # else a claim could pick this batch, find it gone, and leave without looking at the next
        row = connection.execute(select(batches.c.state, batches.c.place, batches.c.run).where(batches.c.id == batch_id)).one_or_none()
        if row is None:
            return None
        if State(row.state).is_over:
            return State(row.state)
        this_run = (runs.c.batch_id == batch_id) & (runs.c.number == row.run)
        if row.run and connection.scalar(select(runs.c.started_at).where(this_run)):
            wanted = update(batches).where(batches.c.id == batch_id, batches.c.state == row.state).values(is_cancel_wanted=True)
            connection.execute(wanted)
            return State(str(connection.scalar(select(batches.c.state).where(batches.c.id == batch_id))))
        stopped = update(batches).where(batches.c.id == batch_id, batches.c.run == row.run, batches.c.state == row.state)
        if not connection.execute(stopped.values(state=State.CANCELLED)).rowcount:
            return State.SCHEDULED
        connection.execute(delete(wants).where(wants.c.place == row.place))
        ended: dict[str, Any] = {"state": State.CANCELLED, "status_msg": "cancelled before it was run", "code": "cancelled"}
        ended["completed_at"] = clock.now()
        connection.execute(update(runs).where(this_run), ended)
        if row.run:
            note_end(connection, batch_id, ended["completed_at"])
    return State.CANCELLED


def receipted(engine: Engine, which: Collection[tuple[int, int]]) -> set[tuple[int, int]]:
    """Return those of these runs, each a batch's id and the run's number, that have ended, with their results stored."""
    key = tuple_(runs.c.batch_id, runs.c.number)
    ends = [state for state in State if state.is_over]
    with reading(engine) as connection:
        is_stored = runs.c.state.in_(ends) & runs.c.results_digest.is_not(None)
        found = connection.execute(select(runs.c.batch_id, runs.c.number).where(key.in_(list(which)), is_stored))
        return {(row.batch_id, row.number) for row in found}


def control_pin(engine: Engine, batch_id: int, name: str) -> str | None:
    """Return the digest that `name` had when this batch first asked for it, so that later moves of the name never change the batch.

    None where no control file has that name, or the batch's key is limited to others; that is not remembered.
    """
    if "\0" in name or any("\ud800" <= c <= "\udfff" for c in name):
        return None  # PostgreSQL keeps neither, so asking it would be an error and not an answer
    pin = select(control_pins.c.digest).where(control_pins.c.batch_id == batch_id, control_pins.c.name == name)
    with writing(engine) as connection:
        pinned = connection.scalar(pin)
        if pinned is not None:
            return str(pinned)
        if not _may_use(connection, batch_id, name):
            return None
        named = connection.scalar(select(control_names.c.digest).where(control_names.c.name == name))
        digest = named or _of_schema(connection, batch_id, name)
        if digest is None:
            return None
        row = {"batch_id": batch_id, "name": name, "digest": digest}
        connection.execute(insert(connection, control_pins).on_conflict_do_nothing(), row)
        return str(connection.scalar(pin))


def control_pins_of(engine: Engine, batch_id: int) -> list[str]:
    """Return the digests of the control files that a batch's rows have named."""
    with reading(engine) as connection:
        return list(connection.scalars(select(control_pins.c.digest).where(control_pins.c.batch_id == batch_id)))


def _of_schema(connection: Connection, batch_id: int, name: str) -> str | None:
    key_id = connection.scalar(select(batches.c.key_id).where(batches.c.id == batch_id))
    return import_schemas.digest_named(connection, name, str(key_id))


def _may_use(connection: Connection, batch_id: int, name: str) -> bool:
    """Tell whether the key that made the batch may use the control file of this name: a limited key's files may not reach beyond it."""
    of_batch = select(stored_keys.c.limits).join_from(batches, stored_keys, stored_keys.c.id == batches.c.key_id)
    names = (connection.scalar(of_batch.where(batches.c.id == batch_id)) or {}).get("controls")
    return names is None or name in names
