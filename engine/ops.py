"""What passes between the engine's apply step and a target: which rows to find, what to write, what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from engine.faults import Fault
from engine.ledger import LedgerEntry
from engine.plan import Action, EntityPlan, Lookup, Text
from engine.tables import Column

if TYPE_CHECKING:
    from engine.offers import Offer

INSERT, UPDATE, DELETE, LOOK_UP = "I", "U", "D", "L"  # kinds of Ops.kinds, as is UNCHANGED; LOOK_UP: find its row at its turn, then decide
CREATED, UPDATED, UNCHANGED, DELETED, SKIPPED, REFUSED = "c", "u", "=", "d", "s", "!"  # kinds of Outcomes.kinds


class Found(NamedTuple):
    """What a look-up found: by row of its keys the result's columns as text, and the rows for which there were several."""

    rows: dict[int, tuple[str | bytes | None, ...]]
    ambiguous: set[int]


@dataclass(slots=True)
class Written:
    """One column to be written. `values` has one entry an op; None is null."""

    column: Column
    values: Text
    empties: frozenset[int] = frozenset()  # ops whose cell was empty, for which the two rules below count instead of the value
    on_insert: Literal["null", "default"] = "null"
    on_update: Literal["null", "keep", "default"] = "null"
    is_masked: bool = False
    is_key: bool = False  # part of the identity and equal by its text: a row that was found holds this very value already


@dataclass(slots=True)
class Late:
    """A look-up into the very table that is written, so that it must be made when each op's turn comes."""

    lookup: Lookup
    keys: list[Text]  # one column a part, one entry an op; a row with a None is not looked up: its columns stay null
    written: tuple[int, ...]  # the numbers, in Ops.written, of the columns that get its results


@dataclass(slots=True)
class Ops:
    """What is to be done to one table, in file order. Every sequence has one entry an op."""

    entity: EntityPlan
    action: Action
    kinds: list[str]
    keys: list[Text]  # the identity's key, one column a part; [] where the entity has none
    found: list[tuple[str | bytes | None, ...] | None]  # the locator of the row to update or delete
    written: list[Written]
    late: list[Late] = field(default_factory=list)
    is_strict: bool = False  # take them one by one: an op may depend on what an earlier one did
    waits_for_commit: bool = False  # deferred constraints are left to the end (AllOrNone); else they count for each record
    tells_changes: bool = False  # of rows that are updated, what changes in them is told too

    def __len__(self) -> int:
        return len(self.kinds)


@dataclass(slots=True)
class Outcomes:
    """What came of each op: its kind, the row's id for the receipt, and the faults of those that were refused or skipped."""

    kinds: list[str]
    ids: list[str]
    faults: dict[int, list[Fault]] = field(default_factory=dict)
    changes: dict[int, str] = field(default_factory=dict)  # of those that were updated, where they are to be told; see engine.changes


class Session(Protocol):
    """One connection to the target, as the engine uses it. Errors not about the data are raised as errors.TargetUnavailable."""

    def begin(self, run: str, fence: int, is_strict_constraints: bool = True) -> None:
        """Begin a transaction and check the fence (LeaseLost). With strict constraints deferrable ones are checked at once."""

    def begin_reading(self, statement_seconds: float) -> None:
        """Begin a transaction in which nothing is written; where a server runs the statements, none of them for longer than this."""

    def add_ledger(self, entry: LedgerEntry) -> None:
        """Write a chunk's ledger row, in the transaction of its rows."""

    def add_events(self, run: str, chunk: int, pages: Iterator[tuple[int, str]]) -> None:
        """Write what a chunk has done to its records into the outbox, in the transaction of its rows; see engine.outbox."""

    def settle(self) -> Fault | None:
        """Try every constraint that waits for the commit; say which one fails."""

    def commit(self) -> None:
        """Commit; on return the rows and the ledger row are durable."""

    def rollback(self) -> None:
        """Undo the transaction."""

    def find(self, lookup: Lookup, keys: list[Text]) -> Found:
        """Find the rows that the keys name, as the target compares them. No key entry is None."""

    def same(self, lookup: Lookup, keys: list[Text]) -> list[int]:
        """Return for each key row the number of the first row that has an equal key, as the target compares them."""

    def nearest(self, lookup: Lookup, value: str) -> str | None:
        """Return the existing key most like this one, for the message of a missing reference; None for keys that are not one text."""

    def unchanged(self, ops: Ops) -> dict[int, tuple[str | bytes | None, ...]]:
        """Return by op the locators of rows that are seen to hold already what their records say; not necessarily of all such rows.

        Of `ops` the keys and what is to be written are known. An op whose row is returned has the kind UNCHANGED.
        """

    def write(self, ops: Ops) -> Outcomes:
        """Carry out the ops with the result that they would have had one by one, in order."""

    def is_idle(self) -> bool:
        """Say whether it can serve another run: connected, and in no transaction."""

    def renew(self) -> None:
        """Forget what was true of an earlier run only."""

    def close(self) -> None:
        """Close the connection."""


class SharedSession(Session, Protocol):
    """A session that may be one of many that write a run; see engine.offers."""

    def join(self, run: str, name: str) -> tuple[int, int] | None:
        """Become a hand of a run: its number, and the run's fence; None where the run is over."""

    def take(self, run: str, fence: int) -> Offer | None:
        """Take a free offer within the transaction that writes its chunk."""


def plain(value: object) -> str:
    r"""Return a value as receipts show it: bytes as PostgreSQL writes them.

    >>> plain(7), plain(b"\x0a\xff"), plain(None)
    ('7', '\\x0aff', '')
    """
    return "" if value is None else "\\x" + value.hex() if isinstance(value, bytes) else str(value)


def shown(entity: EntityPlan, text: str) -> str:
    """Return what results may show of the database's own words: nothing where they might hold a masked value, as it is or changed."""
    return "its words are withheld, since the entity has masked columns" if any(m.is_masked for m in entity.mappings) else text


def decide(action: Action, is_found: bool) -> str | None:
    """Return the kind of op for a record whose identity was looked up; None where the action forbids it.

    >>> decide(Action.MERGE, True), decide(Action.INSERT, True), decide(Action.DELETE, True)
    ('U', None, 'D')
    """
    match action:
        case Action.INSERT:
            return None if is_found else INSERT
        case Action.MERGE:
            return UPDATE if is_found else INSERT
        case Action.UPDATE:
            return UPDATE if is_found else None
        case Action.DELETE:
            return DELETE if is_found else None
