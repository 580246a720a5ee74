"""Carrying one claimed batch out: its attempts, and its end in the catalog."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

import observe
from catalog import batches
from catalog.batches import Claim, Counts, Ending, State, TableKey
from engine import results, run as engine
from engine.allowed import Allowed
from engine.plan import POSITIONAL, Plan
from engine.run import RunOrder, Stop
from engine.target import Target
from errors import (
    ControlFileInvalid,
    DigestMismatch,
    DigestUnknown,
    LadingError,
    LeaseLost,
    SpoolFull,
    SpoolUnavailable,
    TargetLocked,
    TargetUnavailable,
)
from jobs import events
from jobs.hold import Hold
from jobs.key_limits import KeyLimits
from jobs.lease import Heart
from jobs.order import order_of
from jobs.plans import Plans
from observe import Span
from settings import Settings
from spool import Spool

PAUSES_SECONDS = (0.2, 3.0)  # before the next attempts, with jitter: a deadlock is over at once, a server's restart takes its time
MESSAGE_CHARS = 2000
CODES: dict[type[Exception], str] = {  # what ends a run for good, and the code that says so
    ControlFileInvalid: "control_invalid",  # it no longer fits the target's tables
    DigestMismatch: "digest_mismatch",
    DigestUnknown: "digest_unknown",
}
# What is said of a run that is tried again. A driver's own words may name hosts, users and statements: they are for the log alone.
TROUBLES: dict[type[Exception], str] = {
    TargetLocked: "another session keeps the target locked",
    TargetUnavailable: "the target fails",
    SpoolFull: "there is no room for the results",
    SpoolUnavailable: "the spool cannot be reached",
}
OUTAGES = (TargetUnavailable, SpoolFull, SpoolUnavailable)
AGAIN = "; the run is tried again"
GIVEN_UP = {
    "target_unavailable",
    "spool_unavailable",
    "disk_full",
}  # codes of runs that failed for reasons that are not the data's, again and again

log = logging.getLogger(__name__)
_carried: dict[str, int | str] = {}


def about() -> dict[str, int | str]:
    """Return what this process carries out just now, for its log: nothing, or `batch_id`, `run` and the `key_id` that made it."""
    return _carried


class LanesWanted(LadingError):
    """A `!Name` row, or a record that names its entity, brought in tables whose lanes other batches hold: this batch waits for them."""

    def __init__(self, tables: set[TableKey]) -> None:
        self.tables = tables
        super().__init__(f"waits for the lanes of {sorted(map(str, tables))}")


@dataclass(frozen=True, slots=True)
class Means:
    """What a drain carries batches out with."""

    settings: Settings
    catalog: Engine
    spool: Spool
    target: Target
    plans: Plans
    heart: Heart
    worker: str  # its name
    scratch: Path  # a folder for temporary files
    is_stopping: Callable[[], bool]
    hold: Hold
    limits: KeyLimits
    invite: Callable[[int, int, float], None] | None = None  # told the batch, how many help, and how many seconds seem left; asks for more
    is_draining: bool = True  # the next batch is claimed as one ends


def carry(means: Means, claim: Claim) -> Claim | None:
    """Carry a claimed batch out to its end, and claim the next; or hand it back, and return None.

    Raises one of OUTAGES after it was handed back for that reason, and SQLAlchemyError where the catalog fails: the lease
    then runs out, and the next worker goes on from the ledger.
    """
    _carried.update(batch_id=claim.batch_id, run=claim.run, key_id=claim.key_id)
    try:
        with observe.spanning("batch") as span:
            return _Carrier(means, claim, span).carry()
    except LeaseLost as lost:
        log.warning("batch %d: stopped, it goes on elsewhere: %s", claim.batch_id, lost)
        return None
    finally:
        _carried.clear()
        means.heart.release()


class _Carrier:
    def __init__(self, means: Means, claim: Claim, span: Span) -> None:
        self._means, self._claim, self._lease = means, claim, means.heart.hold(claim)
        self._span = span
        span.name = f"batch {claim.options.mode}"
        span.attributes |= {"lading.batch_id": claim.batch_id, "lading.run": claim.run, "lading.attempt": claim.attempts}
        self._order: RunOrder | None = None
        self._held: set[TableKey] = set()
        self._allowed = Allowed()
        self._began = time.monotonic()  # never by a clock that somebody may set
        self._seen_first: tuple[float, float] | None = None  # when its progress was seen first, and what it was

    def carry(self) -> Claim | None:
        try:
            ending = self._outcome()
        except LanesWanted as wanted:
            self._hand_back(wanted.tables, is_counted=False)
            return None
        except OUTAGES as error:
            self._hand_back(trouble=_trouble(error))
            raise
        if ending is None:
            # A run of one transaction starts over each time, so its stops are counted; one that stops at a chunk border loses nothing.
            self._hand_back(is_counted=self._order is not None and self._order.is_one_transaction)
            return None
        return self._end(ending)

    # Attempts -------------------------------------------------------------------------------------------------------
    def _outcome(self) -> Ending | None:
        """Carry the run out; None where it is to be handed back. Nothing that goes wrong for good leaves a batch running."""
        broken_off = self._claim.attempts - 1
        if broken_off >= self._means.settings.run_attempts:
            return self._failed("attempts_exhausted", f"the run was broken off {broken_off} times")
        try:
            return self._attempts()
        except tuple(CODES) as error:
            code = next(code for kind, code in CODES.items() if isinstance(error, kind))
            log.warning("batch %d: %s: %s", self._claim.batch_id, code, error)
            return self._failed(code, str(error))
        except (LanesWanted, LeaseLost, *OUTAGES, SQLAlchemyError):
            raise
        except Exception:
            log.exception("batch %d: internal error", self._claim.batch_id)
            return self._failed("internal_error", f"batch {self._claim.batch_id} met an internal error; the worker's log tells more")

    def _attempts(self) -> Ending | None:
        """Carry the run out, and again where the target, or the disk of the spool, failed for reasons that are not the data's."""
        attempts = self._means.settings.run_attempts
        for attempt in range(1, attempts):
            try:
                return self._attempt(self._should_stop)
            except OUTAGES as error:
                log.warning("batch %d: attempt %d of %d failed: %s", self._claim.batch_id, attempt, attempts, error)
                self._lease.status_msg = _trouble(error) + AGAIN
                self._pause(PAUSES_SECONDS[min(attempt, len(PAUSES_SECONDS)) - 1])
        try:
            return self._attempt(self._should_stop)
        except SpoolFull as error:
            if self._claim.attempts < attempts:
                raise
            return self._failed("disk_full", str(error))
        except (TargetUnavailable, SpoolUnavailable) as error:
            if self._claim.attempts < attempts:
                raise
            log.error("batch %d: failed for the last time: %s", self._claim.batch_id, error)
            code = "target_unavailable" if isinstance(error, TargetUnavailable) else "spool_unavailable"
            return self._failed(code, f"{_trouble(error)}, again and again; the worker's log tells more")

    def _attempt(self, should_stop: Callable[[], Stop | None]) -> Ending | None:
        means, claim = self._means, self._claim
        plan = means.plans.get(claim.control)
        self._span.attributes |= {"lading.control": plan.name or claim.control}
        self._held = set(plan.tables)
        self._allowed = means.limits.of(claim.key_id)
        invite = self._invite if means.invite else None
        self._order, progress = order_of(
            means.settings, means.spool, claim, plan, means.scratch, self._waits_for_webhooks, self._allowed, invite
        )
        if self._order.outbox is not None:
            events.note_use(means.catalog)

        def note(counts: results.Counts) -> None:
            self._lease.counts, self._lease.progress, self._lease.status_msg = _counts(counts), progress(), ""

        result = engine.carry_out(self._order, means.target, means.spool, self._plan_named, note, should_stop, self._take_lanes)
        if result.state == "handed-back":
            return None
        said = result.status_msg or "; ".join(result.warnings)
        digest, size = self._stored(result.results)
        ending = Ending(State(result.state), _counts(result.counts), said[:MESSAGE_CHARS], result.code, digest, size)
        ending.check()
        return ending

    def _waits_for_webhooks(self) -> None:
        self._lease.status_msg = "waits until webhooks have taken the events of earlier records"

    def _invite(self, present: int, progress: float) -> None:
        """Have others asked for help, from the second time on: by then it is known how fast the run goes."""
        now = time.monotonic()
        self._seen_first = first_at, first = self._seen_first or (now, progress)
        if self._means.invite is not None and progress > first:
            self._means.invite(self._claim.batch_id, present, (now - first_at) * (1 - progress) / (progress - first))

    def _should_stop(self) -> Stop | None:
        is_cancel_wanted = self._lease.is_cancel_wanted()
        if self._means.is_stopping():
            return "hand-back"
        if is_cancel_wanted:
            return "cancel"
        limit = self._means.settings.run_seconds
        return "time-out" if limit is not None and time.monotonic() - self._began > limit else None

    def _plan_named(self, name: str) -> Plan | None:
        """Return the plan that a `!Name` row means, once the lanes of its tables are held too; None where none can be used."""
        digest = batches.control_pin(self._means.catalog, self._claim.batch_id, name)
        if digest is None and all(file.format != POSITIONAL for file in self._claim.files):
            return None
        try:
            plan = self._means.plans.generated(name) if digest is None else self._means.plans.get(digest)
        except (ControlFileInvalid, DigestUnknown) as error:
            log.warning("batch %d: the control file %s cannot be used: %s", self._claim.batch_id, name, error)
            return None
        if plan is not None:
            self._take_lanes(self._allowed.only(plan.tables))
        return plan

    def _take_lanes(self, tables: Collection[TableKey]) -> None:
        """Take the lanes of more tables; LanesWanted where they cannot be had."""
        more = set(tables) - self._held
        if more and not batches.add_tables(self._means.catalog, self._claim.batch_id, self._claim.fence, more):
            raise LanesWanted(more)
        self._held |= more

    def _stored(self, parts: Iterable[bytes]) -> tuple[str, int]:
        """Put the results into the spool; return their digest and size."""
        with self._means.spool.receive() as receiver:
            for part in parts:
                receiver.write(part)
            return receiver.commit()

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds * random.uniform(0.5, 1.5)  # noqa: S311 - jitter
        while time.monotonic() < until and not self._means.is_stopping():
            time.sleep(0.05)

    # Ends -----------------------------------------------------------------------------------------------------------
    def _failed(self, code: str, message: str) -> Ending:
        """Give a run up. What it has committed stays; the rest gets its results if the files can be read and the target answers."""
        message = message[:MESSAGE_CHARS]
        # A run that has been broken off once too often, even on its way here, is not read again: reading may be what broke it off.
        if code not in (*CODES.values(), *GIVEN_UP) and self._claim.attempts <= self._means.settings.run_attempts + 1:
            try:
                ending = self._attempt(lambda: "give-up")
            except (SQLAlchemyError, LeaseLost):
                raise
            except Exception:
                log.exception("batch %d: no results could be made", self._claim.batch_id)
            else:
                if ending is not None:
                    return replace(ending, state=State.FAILED, code=code, status_msg=message)
        batch = batches.get(self._means.catalog, self._claim.batch_id)
        counts = self._lease.counts or (batch.counts if batch else Counts())
        return Ending(State.FAILED, counts, message, code)

    def _hand_back(self, tables: Iterable[TableKey] = (), is_counted: bool = True, trouble: str = "") -> None:
        means, claim = self._means, self._claim
        self._span.attributes["lading.state"] = "handed back"
        if batches.hand_back(
            means.catalog, claim.batch_id, claim.fence, tables=tuple(tables), is_counted=is_counted, status_msg=trouble and trouble + AGAIN
        ):
            log.info("batch %d: handed back", claim.batch_id)

    def _end(self, ending: Ending) -> Claim | None:
        """Say how the run ended, only now that its rows and its results are durable, and claim the next batch in the same breath."""
        means, claim, following = self._means, self._claim, None
        self._tell_of(ending)
        if means.is_stopping() or not means.is_draining:
            is_ended = batches.finish(
                means.catalog, claim.batch_id, claim.fence, **{f.name: getattr(ending, f.name) for f in fields(ending)}
            )
        else:
            is_ended, following = batches.finish_and_claim(
                means.catalog, claim.batch_id, claim.fence, ending, means.worker, means.settings.lease_seconds
            )
        if is_ended:
            log.info("batch %d: %s%s %s", claim.batch_id, ending.state, ending.code and f" ({ending.code})", ending.counts)
            if ending.results_digest is not None:  # else the ledger is all that still tells what became of the records
                self._clear()
        else:
            log.warning("batch %d: its lease (fence %d) was lost before its end", claim.batch_id, claim.fence)
        return following

    def _tell_of(self, ending: Ending) -> None:
        counts = {f"lading.{name}": value for name, value in asdict(ending.counts).items()}
        self._span.attributes |= {"lading.state": ending.state.value, **counts}
        if ending.code:
            self._span.attributes["lading.code"] = ending.code
        self._span.is_failed = ending.state is State.FAILED

    def _clear(self) -> None:
        # Where a backup is being made, it stays until a later worker clears up: the catalog's copy may say that the run goes on.
        if self._order is not None and not self._means.hold.is_on():
            try:
                engine.clear(self._order, self._means.target, self._means.spool)
            except (TargetUnavailable, OSError) as error:
                log.warning("batch %d: its ledger stays: %s", self._claim.batch_id, error)


def _trouble(error: TargetUnavailable | SpoolFull | SpoolUnavailable) -> str:
    return next(said for kind, said in TROUBLES.items() if isinstance(error, kind))


def _counts(counts: results.Counts) -> Counts:
    return Counts(
        input=counts.records,
        created=counts.created,
        updated=counts.updated,
        deleted=counts.deleted,
        skipped=counts.skipped,
        errors=counts.errors,
        unprocessed=counts.unprocessed,
    )
