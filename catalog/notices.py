"""What somebody is to be told: the ends of batches, and the deliveries of that and of records' events, by mail and to webhooks.

The end of a batch is noted in the transaction that ends it; what is to be delivered to whom is worked out later, by those who deliver. A
delivery is claimed by one conditional UPDATE that puts its next try off: whoever dies with it loses it, and it is tried again.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Insert,
    Select,
    and_,
    delete,
    exists,
    func,
    insert,
    literal,
    not_,
    or_,
    select,
    update,
)

import clock
from catalog.database import UtcDateTime, insert as insert_of, reading, writing
from catalog.tables import batches, default_addresses, deliveries, notices, webhooks

_AT_ONCE = 100
_OTHERS = deliveries.alias("others")


class Kind(StrEnum):
    """How something is delivered."""

    MAIL = "mail"
    WEBHOOK = "webhook"


class Progress(StrEnum):
    """Where a delivery stands."""

    WAITING = "waiting"  # for its first try, or the next
    DELIVERED = "delivered"
    FAILED = "failed"  # given up after its last try, or because the receiver will never take it
    DROPPED = "dropped"  # its webhook was disabled or deleted before it was delivered


@dataclass(frozen=True, slots=True)
class Notice:
    """The end of a run that somebody is to be told."""

    batch_id: int
    run: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDelivery:
    """What is to be told to one receiver."""

    id: str
    kind: Kind
    recipient: str  # a mail address, or a webhook's id
    event: str
    batch_id: int
    run: int
    body: str | None = None  # of a request
    events: int = 0  # of records, in the body
    is_ordered: bool = False


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery and what became of it."""

    place: int  # in the order of their making
    id: str
    kind: Kind
    recipient: str
    event: str
    batch_id: int
    run: int
    body: str | None
    events: int
    is_ordered: bool
    state: Progress
    tries: int  # begun so far
    next_at: datetime
    status: int | None
    message: str
    created_at: datetime
    done_at: datetime | None


def id_of(*parts: object) -> str:
    """Return the id of a delivery: the same for the same parts, so that one made twice is one.

    >>> id_of("mail", 7, 1, "a@example.org")
    'msg_d21980f30cb06eb71ad3098b0b056bbd'
    """
    return "msg_" + hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()[:32]


# The ends of batches ----------------------------------------------------------------------------------------------------
def noted(ended: Select[Any], addresses: ColumnElement[Any]) -> Insert:
    """Return the statement that notes an end, where somebody is to be told.

    `ended` selects batch, run and time; `addresses` is the column of the batch's mail addresses, which it has at hand.
    """
    by_default = exists(select(default_addresses.c.control))
    is_of_interest = or_(func.json_array_length(addresses) > 0, exists().where(webhooks.c.is_enabled), by_default)
    return insert(notices).from_select(["batch_id", "run", "created_at"], ended.where(is_of_interest))


def note_end(connection: Connection, batch_id: int, at: datetime) -> None:
    """Note the end of a batch's last run in the transaction that ends it."""
    ended = select(batches.c.id, batches.c.run, literal(at, UtcDateTime())).where(batches.c.id == batch_id)
    connection.execute(noted(ended, batches.c.addresses))


def ended(engine: Engine) -> list[Notice]:
    """Return ends that are noted, oldest first, at most some hundred."""
    query = select(notices.c.batch_id, notices.c.run).order_by(notices.c.created_at).limit(_AT_ONCE)
    with reading(engine) as connection:
        return [Notice(*row) for row in connection.execute(query)]


def settle(engine: Engine, notice: Notice, new: Sequence[NewDelivery]) -> None:
    """Put what a notice comes to among the deliveries, in its stead. Twice does no harm: a delivery is known by its id."""
    with writing(engine) as connection:
        add(connection, new)
        connection.execute(delete(notices).where(notices.c.batch_id == notice.batch_id, notices.c.run == notice.run))


def add(connection: Connection, new: Sequence[NewDelivery]) -> None:
    """Add deliveries, in this order; those that are known already are left as they are."""
    now = clock.now()
    rows = [
        {
            "id": one.id, "kind": one.kind, "recipient": one.recipient, "event": one.event, "batch_id": one.batch_id, "run": one.run,
            "body": one.body, "events": one.events, "is_ordered": one.is_ordered, "state": Progress.WAITING, "tries": 0, "next_at": now,
            "message": "", "created_at": now,
        }
        for one in new
    ]  # fmt: skip
    for row in rows:  # one by one, so that their places are in order
        connection.execute(insert_of(connection, deliveries).on_conflict_do_nothing(index_elements=["id"]), row)


# Delivering -------------------------------------------------------------------------------------------------------------
def claim(engine: Engine, kind: Kind, hold_seconds: float) -> Delivery | None:
    """Take the delivery of this kind that has waited longest for its try, for so many seconds; None where none is due.

    Of the ordered ones to one recipient only the first can be taken: the others wait until it is over.
    """
    now = clock.now()
    is_first = ~exists().where(
        _OTHERS.c.recipient == deliveries.c.recipient,
        _OTHERS.c.state == Progress.WAITING,
        _OTHERS.c.is_ordered,
        _OTHERS.c.place < deliveries.c.place,
    )
    due = (
        select(deliveries.c.place, deliveries.c.tries)
        .where(deliveries.c.state == Progress.WAITING, deliveries.c.kind == kind, deliveries.c.next_at <= now)
        .where(or_(not_(deliveries.c.is_ordered), is_first))
        .order_by(deliveries.c.next_at, deliveries.c.place)
        .limit(1)
    )
    while True:
        with reading(engine) as connection:
            seen = connection.execute(due).one_or_none()
        if seen is None:
            return None
        held = {"tries": seen.tries + 1, "next_at": now + timedelta(seconds=hold_seconds)}
        with writing(engine) as connection:
            taken = update(deliveries).where(_is(seen.place, seen.tries)).values(held).returning(*deliveries.c)
            row = connection.execute(taken).one_or_none()
        if row is not None:
            return _delivery(row)
        # Somebody else took it since we looked: look again.


def delivered(engine: Engine, held: Delivery, status: int | None) -> None:
    """Note that the receiver has it. Of records' events the body goes, since nobody knows how many there will be."""
    body = None if held.is_ordered else held.body
    done = {"state": Progress.DELIVERED, "status": status, "message": "", "done_at": clock.now(), "body": body}
    _note(engine, held, done)


def put_off(engine: Engine, held: Delivery, pause_seconds: float, status: int | None, message: str) -> None:
    """Note what went wrong, and try again after a pause."""
    _note(engine, held, {"status": status, "message": message, "next_at": clock.now() + timedelta(seconds=pause_seconds)})


def hold_back(engine: Engine, recipient: str, pause_seconds: float) -> None:
    """Put off all that waits for a receiver, and is not just being tried, for so long at least."""
    until = clock.now() + timedelta(seconds=pause_seconds)
    waiting = and_(deliveries.c.recipient == recipient, deliveries.c.state == Progress.WAITING, deliveries.c.next_at < until)
    with writing(engine) as connection:
        connection.execute(update(deliveries).where(waiting).values(next_at=until))


def again(engine: Engine, delivery_id: str) -> bool:
    """Deliver anew, under the same id, what was delivered, given up or dropped; False where it waits, or its body is no longer kept."""
    is_kept = or_(deliveries.c.kind == Kind.MAIL, deliveries.c.body.is_not(None))
    is_over = and_(deliveries.c.id == delivery_id, deliveries.c.state != Progress.WAITING, is_kept)
    anew = {"state": Progress.WAITING, "tries": 0, "next_at": clock.now(), "message": "", "status": None, "done_at": None}
    with writing(engine) as connection:
        return bool(connection.execute(update(deliveries).where(is_over).values(anew)).rowcount)


def give_up(engine: Engine, held: Delivery, status: int | None, message: str) -> None:
    """Note what went wrong for good."""
    _note(engine, held, {"state": Progress.FAILED, "status": status, "message": message, "done_at": clock.now()})


def _note(engine: Engine, held: Delivery, values: dict[str, Any]) -> None:
    with writing(engine) as connection:
        connection.execute(update(deliveries).where(_is(held.place, held.tries)).values(values))


def _is(place: int, tries: int) -> ColumnElement[bool]:
    """Return the condition that a delivery still is in the hands of whoever saw it at this try."""
    return and_(deliveries.c.place == place, deliveries.c.tries == tries, deliveries.c.state == Progress.WAITING)


# Looking ----------------------------------------------------------------------------------------------------------------
def get(engine: Engine, delivery_id: str) -> Delivery | None:
    """Return a delivery by its id."""
    with reading(engine) as connection:
        row = connection.execute(select(deliveries).where(deliveries.c.id == delivery_id)).one_or_none()
    return None if row is None else _delivery(row)


def listed(
    engine: Engine, *, recipient: str | None = None, batch_id: int | None = None, kind: Kind | None = None,
    state: Progress | None = None, before: int | None = None, limit: int = 50,
) -> list[Delivery]:  # fmt: skip
    """Return deliveries, newest first; `before` is the place of the last one of the page before. Who may see them, the caller knows."""
    wanted = {"recipient": recipient, "batch_id": batch_id, "kind": kind, "state": state}
    query = select(deliveries).where(*(deliveries.c[name] == value for name, value in wanted.items() if value is not None))
    if before is not None:
        query = query.where(deliveries.c.place < before)
    with reading(engine) as connection:
        return [_delivery(row) for row in connection.execute(query.order_by(deliveries.c.place.desc()).limit(limit))]


def counts(engine: Engine) -> dict[tuple[Kind, Progress], int]:
    """Return how many deliveries there are, by kind and state."""
    query = select(deliveries.c.kind, deliveries.c.state, func.count()).group_by(deliveries.c.kind, deliveries.c.state)
    with reading(engine) as connection:
        return {(Kind(kind), Progress(state)): number for kind, state, number in connection.execute(query)}


def waiting_events(engine: Engine) -> int:
    """Return how many events of records wait to be delivered."""
    waiting = (deliveries.c.state == Progress.WAITING) & deliveries.c.is_ordered
    with reading(engine) as connection:
        return int(connection.scalar(select(func.coalesce(func.sum(deliveries.c.events), 0)).where(waiting)) or 0)


def forget_old(engine: Engine, before: datetime) -> int:
    """Delete the deliveries that were over before then; return how many."""
    with writing(engine) as connection:
        return connection.execute(delete(deliveries).where(deliveries.c.done_at <= before)).rowcount


def _delivery(row: Any) -> Delivery:
    values = dict(row._mapping)
    return Delivery(**values | {"kind": Kind(row.kind), "state": Progress(row.state)})
