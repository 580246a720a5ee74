"""The queue: which scheduled batch a worker may run next, and its lease on it.

A lane is the imports of one table of the target. A batch runs only while it holds all lanes of the tables it writes, so imports of one
table run one after another, in the order of their scheduling. A waiting batch has a row in `wants` for each of its lanes; a claim turns
them into `lanes.batch_id`, handing back turns those into `wants` again, at the old place.

A worker that drains the queue runs these transactions hundreds of times a second, so their statements are built once, here.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, NamedTuple

from sqlalchemy import BindParameter, Connection, Engine, bindparam, delete, func, insert, literal, null, or_, select, true, tuple_, update

import clock
from catalog import samples
from catalog.database import UtcDateTime, lock_queue, reading, writing
from catalog.notices import noted
from catalog.prepared import Prepared, moment
from catalog.schedule import lane_keys, make_lanes, want
from catalog.states import BatchFile, Beat, Claim, Counts, Ending, Execution, Mode, Options, State, TableKey
from catalog.tables import batch_files, batches, files as stored_files, lanes, runs, wants
from errors import LadingError

_NOW = bindparam("p_now", type_=UtcDateTime())
_BATCH: BindParameter[Any] = bindparam("p_batch")
_IS_DUE = or_(wants.c.start_at.is_(None), wants.c.start_at <= _NOW)
_LANE = tuple_(lanes.c.table_schema, lanes.c.table_name)

# The next batch is the oldest that comes first in all of its lanes, all of them free. Looking only at the first of each lane, by the index
# on (lane, place), keeps a claim fast however long the queue is.
_FIRST = (
    select(wants.c.place)
    .where(wants.c.table_schema == lanes.c.table_schema, wants.c.table_name == lanes.c.table_name, _IS_DUE)
    .order_by(wants.c.place)
    .limit(1)
    .correlate(lanes)
    .scalar_subquery()
)
_FIRSTS = select(_FIRST.label("place")).where(lanes.c.batch_id.is_(None)).subquery("firsts")
_WANTED = select(func.count()).select_from(wants).where(wants.c.place == _FIRSTS.c.place).correlate(_FIRSTS).scalar_subquery()
_NEXT = (
    select(_FIRSTS.c.place)
    .where(_FIRSTS.c.place.is_not(None))
    .group_by(_FIRSTS.c.place)
    .having(func.count() == _WANTED)
    .order_by(_FIRSTS.c.place)
    .limit(1)
    .scalar_subquery()
)

_CLAIM = (
    update(batches)
    .where(batches.c.place == _NEXT, batches.c.state == State.SCHEDULED)
    .values(
        state=State.RUNNING,
        fence=batches.c.fence + 1,
        worker=bindparam("p_worker"),
        lease_until=bindparam("p_lease_until", type_=UtcDateTime()),
    )
    .returning(*(batches.c[c] for c in ("id", "place", "run", "fence", "control", "key_id", "is_cancel_wanted")))
)
_RUN = (runs.c.batch_id == _BATCH) & (runs.c.number == bindparam("p_run"))
_STARTED = {"state": State.RUNNING, "attempts": runs.c.attempts + 1, "started_at": func.coalesce(runs.c.started_at, _NOW)}
_OF_RUN = [runs.c[c] for c in ("mode", "execution", "is_ordered", "has_event_handlers", "start_at", "started_at", "attempts")]
_FILE = batch_files.c
_OF_FILE = [_FILE.name, _FILE.digest, stored_files.c.size, _FILE.position, _FILE.created_at, _FILE.format, _FILE.separator]


def _lanes_of(place: Any) -> Any:
    return update(lanes).where(
        _LANE.in_(select(wants.c.table_schema, wants.c.table_name).where(wants.c.place == place)), lanes.c.batch_id.is_(None)
    )


def _claim_at_once() -> Prepared:
    """Return the whole claim as one statement, for PostgreSQL; a row for each file of the batch, or one that names no file."""
    claimed = _CLAIM.cte("claimed")
    batch, place = select(claimed.c.id).scalar_subquery(), select(claimed.c.place).scalar_subquery()
    taken = _lanes_of(place).values(batch_id=batch).returning(lanes.c.table_name).cte("taken")
    unwanted = delete(wants).where(wants.c.place == place).returning(wants.c.place).cte("unwanted")
    this_run = (runs.c.batch_id == claimed.c.id) & (runs.c.number == claimed.c.run)
    started = update(runs).where(this_run).values(_STARTED).returning(*_OF_RUN).cte("started")
    sizes = [select(func.count()).select_from(cte).scalar_subquery().label(cte.name) for cte in (taken, unwanted)]
    held = batch_files.join(stored_files)
    query = select(*claimed.c, *started.c, *sizes, *_OF_FILE).select_from(claimed).join(started, true())
    return Prepared(query.outerjoin(held, batch_files.c.batch_id == claimed.c.id).order_by(batch_files.c.position))


_CLAIM_AT_ONCE = _claim_at_once()
_CLAIM_FIRST = Prepared(_CLAIM)
_TAKE_LANES = Prepared(_lanes_of(bindparam("p_place")).values(batch_id=_BATCH))
_STOP_WANTING = Prepared(delete(wants).where(wants.c.place == bindparam("p_place")))
_START_RUN = Prepared(update(runs).where(_RUN).values(_STARTED).returning(*_OF_RUN))
_FILES = Prepared(
    select(*_OF_FILE).join_from(batch_files, stored_files).where(batch_files.c.batch_id == _BATCH).order_by(batch_files.c.position)
)

_IS_OURS = (batches.c.id == _BATCH) & (batches.c.fence == bindparam("p_fence")) & (batches.c.state == State.RUNNING)
_RENEW = (
    update(batches)
    .where(_IS_OURS)
    .values(lease_until=bindparam("p_lease_until", type_=UtcDateTime()))
    .returning(batches.c.run, batches.c.is_cancel_wanted)
)
_FREE_LANES = update(lanes).where(lanes.c.batch_id == _BATCH).values(batch_id=null())
_COUNTS = ("input", "created", "updated", "deleted", "skipped", "errors", "unprocessed")
_NOTE_COUNTS = update(runs).where(_RUN).values({name: bindparam(f"p_{name}") for name in _COUNTS})

_FINISH = (
    update(batches)
    .where(_IS_OURS)
    .values(state=bindparam("p_state"), worker=null(), lease_until=null())
    .returning(batches.c.run, batches.c.addresses)
)
_ENDED = {
    name: bindparam(f"p_{name}", type_=runs.c[name].type)
    for name in (*_COUNTS, "state", "status_msg", "code", "results_digest", "results_size")
} | {"completed_at": _NOW, "progress": 1.0}


def _finish_at_once() -> Prepared:
    """Return the whole end as one statement, for PostgreSQL; no row where the lease is lost."""
    finished = _FINISH.cte("finished")
    ended = update(runs).where(runs.c.batch_id == _BATCH, runs.c.number == finished.c.run).values(_ENDED).cte("ended")
    freed = _FREE_LANES.where(select(finished.c.run).exists()).cte("freed")
    told = noted(select(_BATCH, finished.c.run, _NOW), finished.c.addresses).cte("told")
    return Prepared(select(finished.c.run).add_cte(ended, freed, told))


_FINISH_AT_ONCE = _finish_at_once()
_FINISH_FIRST = Prepared(_FINISH)
_FINISH_RUN = Prepared(update(runs).where(_RUN).values(_ENDED))
_FREE_LANES_OF = Prepared(_FREE_LANES)
_NOTE_END = Prepared(noted(select(batches.c.id, batches.c.run, _NOW).where(batches.c.id == _BATCH), batches.c.addresses))


class LanesAstray(LadingError):
    """The lanes a claim found free were not: the catalog contradicts itself. Nothing was claimed."""


def claim(engine: Engine, worker: str, lease_seconds: float) -> Claim | None:
    """Take the oldest batch that can run now, with all its lanes, for `lease_seconds`; None where none can.

    `worker` says who holds the lease, for people to read. The fence is one higher than that of any earlier holder.
    """
    with writing(engine) as connection:
        lock_queue(connection)
        return _claim(connection, worker, lease_seconds)


def finish_and_claim(
    engine: Engine, batch_id: int, fence: int, ending: Ending, worker: str, lease_seconds: float
) -> tuple[bool, Claim | None]:
    """Do as `finish` and then `claim` do, in one transaction: a worker that drains the queue waits for the disk once a batch, not twice."""
    ending.check()
    with writing(engine) as connection:
        lock_queue(connection)
        is_ended = _finish(connection, batch_id, fence, ending)
        return is_ended, _claim(connection, worker, lease_seconds)


def _claim(connection: Connection, worker: str, lease_seconds: float) -> Claim | None:
    now = clock.now()
    holder = {"p_now": now, "p_worker": worker, "p_lease_until": now + timedelta(seconds=lease_seconds)}
    is_postgresql = connection.dialect.name == "postgresql"
    found, files = _taken_at_once(connection, holder) if is_postgresql else _taken_in_steps(connection, holder)
    if found is None:
        return None
    if found.taken != found.unwanted:
        raise LanesAstray(f"batch {found.id} could take {found.taken} lanes only")
    return _claim_of(found, files)


def _claim_of(found: Any, files: Sequence[Any]) -> Claim:
    start_at = None if found.start_at is None else moment(found.start_at)
    options = Options(Mode(found.mode), Execution(found.execution), bool(found.is_ordered), bool(found.has_event_handlers), start_at)
    return Claim(
        found.id, found.fence, found.run, options, found.control, found.key_id, moment(found.started_at), found.attempts,
        bool(found.is_cancel_wanted),
        tuple(BatchFile(f.name, f.digest, f.size, f.position, moment(f.created_at), f.format, f.separator) for f in files),
    )  # fmt: skip


def running(engine: Engine, batch_id: int) -> Claim | None:
    """Return what the holder of a running batch was given, for somebody who helps; None where the batch does not run."""
    this_run = (runs.c.batch_id == batches.c.id) & (runs.c.number == batches.c.run)
    of_batch = [batches.c[c] for c in ("id", "run", "fence", "control", "key_id", "is_cancel_wanted")]
    query = select(*of_batch, *_OF_RUN).join(runs, this_run).where(batches.c.id == batch_id, batches.c.state == State.RUNNING)
    with reading(engine) as connection:
        found = connection.execute(query).one_or_none()
        return None if found is None else _claim_of(found, _FILES.run(connection, p_batch=batch_id).all())


def _taken_at_once(connection: Connection, holder: dict[str, Any]) -> tuple[Any, Sequence[Any]]:
    rows = _CLAIM_AT_ONCE.run(connection, **holder).all()
    return (rows[0] if rows else None), [row for row in rows if row.name is not None]


def _taken_in_steps(connection: Connection, holder: dict[str, Any]) -> tuple[Any, Sequence[Any]]:
    row = _CLAIM_FIRST.run(connection, **holder).one_or_none()
    if row is None:
        return None, []
    sizes = {
        "taken": _TAKE_LANES.run(connection, p_place=row.place, p_batch=row.id).rowcount,
        "unwanted": _STOP_WANTING.run(connection, p_place=row.place).rowcount,
    }
    run = _START_RUN.run(connection, p_batch=row.id, p_run=row.run, p_now=holder["p_now"]).one()
    return SimpleNamespace(**row._mapping, **run._mapping, **sizes), _FILES.run(connection, p_batch=row.id).all()


def heartbeat(
    engine: Engine,
    batch_id: int,
    fence: int,
    lease_seconds: float,
    progress: float | None = None,
    counts: Counts | None = None,
    status_msg: str | None = None,
) -> Beat:
    """Renew the lease; note how the run fares where that is given (`progress` from 0 to 1, `counts` so far); tell whether to go on."""
    until = clock.now() + timedelta(seconds=lease_seconds)
    with writing(engine) as connection:
        row = connection.execute(_RENEW, {"p_batch": batch_id, "p_fence": fence, "p_lease_until": until}).one_or_none()
        if row is None:
            return Beat.LOST
        which = {"p_batch": batch_id, "p_run": row.run}
        if counts is not None:
            connection.execute(_NOTE_COUNTS, which | _parameters(counts))
            samples.note(connection, batch_id, row.run, counts)
        if noted := {k: v for k, v in (("progress", progress), ("status_msg", status_msg)) if v is not None}:
            connection.execute(update(runs).where(_RUN).values(noted), which)
    return Beat.CANCEL if row.is_cancel_wanted else Beat.OK


def _parameters(counts: Counts) -> dict[str, int]:
    return {f"p_{name}": getattr(counts, name) for name in _COUNTS}


def finish(engine: Engine, batch_id: int, fence: int, *, state: State, counts: Counts, **reasons: Any) -> bool:
    """End a run for good and free its lanes; `reasons` are the other fields of Ending. False: the lease was lost, nothing has changed.

    Raises CountLawBroken where the counts do not add up, ValueError for a state that is no end.
    """
    ending = Ending(state, counts, **reasons)
    ending.check()
    with writing(engine) as connection:
        return _finish(connection, batch_id, fence, ending)


def _finish(connection: Connection, batch_id: int, fence: int, ending: Ending) -> bool:
    this: dict[str, Any] = {"p_batch": batch_id, "p_fence": fence, "p_state": ending.state}
    ended: dict[str, Any] = {
        "p_status_msg": _storable(ending.status_msg), "p_code": ending.code, "p_results_digest": ending.results_digest,
        "p_results_size": ending.results_size, "p_now": clock.now(), **_parameters(ending.counts),
    }  # fmt: skip
    if connection.dialect.name == "postgresql":
        return _FINISH_AT_ONCE.run(connection, **this, **ended).one_or_none() is not None
    row = _FINISH_FIRST.run(connection, **this).one_or_none()
    if row is None:
        return False
    _FINISH_RUN.run(connection, p_batch=batch_id, p_run=row.run, p_state=ending.state, **ended)
    _FREE_LANES_OF.run(connection, p_batch=batch_id)
    _NOTE_END.run(connection, p_batch=batch_id, p_now=ended["p_now"])
    return True


def _storable(message: str) -> str:
    """Return a message without what PostgreSQL does not keep: it may quote the data, and an end that cannot be told would never come.

    >>> _storable("a" + chr(0) + "b" + chr(0xD800))
    'a?b?'
    """
    return message.replace("\0", "?").encode(errors="replace").decode()


def add_tables(engine: Engine, batch_id: int, fence: int, tables: Collection[TableKey]) -> bool:
    """Take more lanes for a running batch, all or none, without waiting.

    False: one of them is held, or an older batch waits for it, or the lease is lost. Nothing has changed; stop, and `hand_back` with these
    tables, so that the next claim has all lanes at once. (Waiting here while holding lanes could wait for ever.)
    """
    keys = lane_keys(tables)
    of_lanes = _LANE.in_(keys)
    with writing(engine) as connection:
        lock_queue(connection)
        place = connection.scalar(select(batches.c.place).where(_IS_OURS), {"p_batch": batch_id, "p_fence": fence})
        if place is None:
            return False
        make_lanes(connection, keys)
        is_held = select(lanes.c.batch_id).where(of_lanes, lanes.c.batch_id != batch_id)
        is_older = tuple_(wants.c.table_schema, wants.c.table_name).in_(keys) & (wants.c.place < place) & _IS_DUE
        if connection.scalar(select(is_held.exists())) or connection.scalar(
            select(select(wants.c.place).where(is_older).exists()), {"p_now": clock.now()}
        ):
            return False
        connection.execute(update(lanes).where(of_lanes).values(batch_id=batch_id))
    return True


def hand_back(
    engine: Engine, batch_id: int, fence: int, *, tables: Collection[TableKey] = (), is_counted: bool = True, status_msg: str = ""
) -> bool:
    """Put a running batch back into the queue, at its old place, its lanes free. False: the lease was lost, nothing has changed.

    `tables` are wanted from now on, too. `is_counted` False takes the attempt out of the run's count: it was stopped, it did not fail.
    `status_msg` says what was in the way, if anything was.
    """
    with writing(engine) as connection:
        place = _put_back(connection, batch_id, fence, is_counted, status_msg)
        if place is None:
            return False
        if tables:
            want(connection, place, None, tables)
    return True


def _put_back(connection: Connection, batch_id: int, fence: int, is_counted: bool, status_msg: str, *conditions: Any) -> int | None:
    row = connection.execute(
        update(batches)
        .where(_IS_OURS, *conditions)
        # It has begun, so its start time is past, whatever becomes of the clock.
        .values(state=State.SCHEDULED, worker=null(), lease_until=null(), start_at=null())
        .returning(batches.c.place, batches.c.run),
        {"p_batch": batch_id, "p_fence": fence},
    ).one_or_none()
    if row is None:
        return None
    held = select(literal(row.place), lanes.c.table_schema, lanes.c.table_name).where(lanes.c.batch_id == batch_id)
    connection.execute(insert(wants).from_select(["place", "table_schema", "table_name"], held))
    connection.execute(_FREE_LANES, {"p_batch": batch_id})
    attempts = runs.c.attempts - (0 if is_counted else 1)
    back = {"state": State.SCHEDULED, "attempts": attempts, "status_msg": status_msg}
    connection.execute(update(runs).where(_RUN).values(back), {"p_batch": batch_id, "p_run": row.run})
    return int(row.place)


class HeldLease(NamedTuple):
    """A running batch's lease: it was renewed, or is another holder's, as soon as anything here differs."""

    batch_id: int
    fence: int
    until: datetime


def held_leases(engine: Engine) -> list[HeldLease]:
    """Return the leases of all running batches, in the order of their scheduling."""
    held = select(batches.c.id, batches.c.fence, batches.c.lease_until).where(batches.c.state == State.RUNNING).order_by(batches.c.place)
    with reading(engine) as connection:
        return [HeldLease(*row) for row in connection.execute(held)]


def hand_back_expired(engine: Engine, silent: Collection[HeldLease] = ()) -> list[int]:
    """Put every running batch whose lease is over back into the queue, at its old place; return their ids, to be announced again.

    Over are those of which the clock says so, and those in `silent`, of which the caller knows.
    """
    now, back = clock.now(), []
    for lease in held_leases(engine):
        if lease.until >= now and lease not in silent:
            continue
        with writing(engine) as connection:  # one by one: each looks again, for a lease renewed or taken over since
            if _put_back(connection, lease.batch_id, lease.fence, True, "", batches.c.lease_until == lease.until) is not None:
                number = select(batches.c.run).where(batches.c.id == lease.batch_id).scalar_subquery()
                taken = update(runs).where(runs.c.batch_id == lease.batch_id, runs.c.number == number)
                connection.execute(taken.values(takeovers=runs.c.takeovers + 1))
                back.append(lease.batch_id)
    return back


def waiting(engine: Engine, limit: int = 1000) -> list[int]:
    """Return the ids of the scheduled batches whose start time has come, in the order of their scheduling."""
    is_due = or_(batches.c.start_at.is_(None), batches.c.start_at <= clock.now())
    query = select(batches.c.id).where(batches.c.state == State.SCHEDULED, is_due).order_by(batches.c.place).limit(limit)
    with reading(engine) as connection:
        return [int(found) for found in connection.scalars(query)]
