"""What is no longer kept: files and results after their time, and what nothing refers to any more. For the sweep.

A file's time begins when it was last sent or given to a batch, and again when a run of a batch with it ends. Its row in `files` is locked
by whoever gives it to a batch or schedules one, and by the sweep before it looks: the one who comes second knows what the first did. A file
that is gone has no row in `uploads`; that in `files` stays while batches tell of it.
"""

from collections.abc import Collection, Iterator
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Engine, Select, bindparam, delete, exists, or_, select, update

import clock
from catalog.database import reading, writing
from catalog.states import State
from catalog.tables import batch_files, batches, controls, files, handles, run_samples, runs, uploads
from errors import Problem, Refusal

_OF_BATCH = batch_files.c.batch_id == bindparam("p_batch")
_LOCK_OF_BATCH = (
    select(files.c.digest)
    .where(files.c.digest.in_(select(batch_files.c.digest).where(_OF_BATCH)))
    .order_by(files.c.digest)
    .with_for_update(read=True, key_share=True)
)
_IS_THERE = exists().where(uploads.c.digest == batch_files.c.digest)
_GONE_OF_BATCH = select(batch_files.c.name).where(_OF_BATCH, ~_IS_THERE).order_by(batch_files.c.name)
_AT_ONCE = 500
_STILL_TO_COME = (State.SCHEDULED, State.RUNNING, State.HELD)


def expire_files(engine: Engine, unused_since: datetime) -> list[str]:
    """Give up the files that nothing has used since then; return their digests, at most some hundred."""
    old = select(files.c.digest).where(exists().where(uploads.c.digest == files.c.digest), _is_unused(unused_since)).limit(_AT_ONCE)
    with reading(engine) as connection:
        found = list(connection.scalars(old))
    return [digest for digest in found if _expire(engine, digest, unused_since)]


def _expire(engine: Engine, digest: str, unused_since: datetime) -> bool:
    this = files.c.digest == digest
    with writing(engine) as connection:
        connection.execute(select(files.c.digest).where(this).with_for_update())
        # Only a statement that begins after the lock was given sees what its last holder did.
        if connection.scalar(select(files.c.digest).where(this, _is_unused(unused_since))) is None:
            return False
        connection.execute(delete(uploads).where(uploads.c.digest == digest))
        connection.execute(delete(files).where(this, ~exists().where(batch_files.c.digest == digest)))
    return True


def _is_unused(since: datetime) -> ColumnElement[bool]:
    used = batch_files.join(batches, batches.c.id == batch_files.c.batch_id).outerjoin(runs, runs.c.batch_id == batches.c.id)
    recent: Select[tuple[int]] = (
        select(batches.c.id)
        .select_from(used)
        .where(batch_files.c.digest == files.c.digest, or_(batches.c.state.in_(_STILL_TO_COME), runs.c.completed_at > since))
    )
    return (files.c.used_at <= since) & ~recent.correlate(files).exists()


def use(connection: Connection, digest: str) -> None:
    """Note that a file is used now; the sweep leaves it alone from here on. Refusal 404 where it is not there (any more)."""
    connection.execute(update(files).where(files.c.digest == digest).values(used_at=clock.now()))
    if connection.scalar(select(uploads.c.digest).where(uploads.c.digest == digest).limit(1)) is None:
        raise Refusal(404, "file_unknown", f"File not found: {digest}")


def keep_for_run(connection: Connection, batch_id: int) -> None:
    """Keep the sweep from a batch's files while it is being scheduled; Refusal 410 where one is gone already."""
    connection.execute(_LOCK_OF_BATCH, {"p_batch": batch_id}).all()
    gone = connection.scalars(_GONE_OF_BATCH, {"p_batch": batch_id})
    problems = [Problem("This file is no longer kept; send it again.", name) for name in gone]
    if problems:
        raise Refusal(410, "files_expired", f"Files of batch {batch_id} were deleted after their time.", problems)


def expire_results(engine: Engine, ended_before: datetime) -> int:
    """Give up the results of the runs that ended before then; return how many. Their counts stay, and the size of what is gone."""
    with writing(engine) as connection:
        old = update(runs).where(runs.c.completed_at <= ended_before, runs.c.results_digest.is_not(None))
        connection.execute(delete(run_samples).where(run_samples.c.at <= ended_before))
        return connection.execute(old.values(results_digest=None)).rowcount


def expire_handles(engine: Engine) -> list[str]:
    """Give up the handles whose time is over; return the digests that they had, which something else may still name."""
    with writing(engine) as connection:
        old = delete(handles).where(handles.c.expires_at <= clock.now()).returning(handles.c.digest)
        return sorted(set(connection.scalars(old)))


def named(engine: Engine) -> Iterator[tuple[str, str]]:
    """Yield (digest, what it is) of all that the spool must hold: files, control files, results. A digest may come more than once."""
    kinds = {
        "file": uploads.c.digest,
        "control file": controls.c.digest,
        "results": runs.c.results_digest,
        "temporary file": handles.c.digest,
    }
    for what, column in kinds.items():
        with reading(engine) as connection:
            found = connection.execution_options(yield_per=_AT_ONCE).scalars(select(column).where(column.is_not(None)).distinct())
            yield from ((digest, what) for digest in found)


def unnamed(engine: Engine, digests: Collection[str]) -> set[str]:
    """Return those of these digests that nothing refers to: no file, no handle, no control file, no results."""
    named: set[str] = set()
    with reading(engine) as connection:
        for column in (uploads.c.digest, handles.c.digest, controls.c.digest, runs.c.results_digest):
            named.update(connection.scalars(select(column).where(column.in_(digests))))
    return set(digests) - named
