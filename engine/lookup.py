"""Look-ups: from the keys in the data to the values that references hold.

The database compares, never Python. What is found in a table that the run writes no more is remembered for the rest of it;
what is found in one that it may still write is asked again for each block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass, field
from typing import cast

from engine.faults import LOOKUP_AMBIGUOUS, REFERENCE_NOT_FOUND, SKIPPED_MISSING, Fault, fault
from engine.ops import Session, plain
from engine.plan import Lookup, Missing, Text

MAX_HINTS = 20  # nearest keys sought for one chunk
MAX_REMEMBERED = 200_000  # keys of one look-up; beyond it the memory starts anew, so that a worker's stays flat

MAX_LOOKUPS = 2_000  # remembered at once: the records of a collection may bring in ever new ones


def tables_of(lookup: Lookup) -> set[tuple[str | None, str]]:
    """Return the keys of all tables that a look-up reads."""
    return {lookup.table.key, *(step.table.key for part in lookup.parts for step in part.path)}


def is_text_identity(lookup: Lookup) -> bool:
    """Say whether two keys of this look-up are equal if and only if their texts are."""
    return all(part.column.is_text_identity for part in lookup.parts)


def label_of(lookup: Lookup) -> str:
    """Return how messages call the key: its inputs, else its columns."""
    return ", ".join(part.source.input or part.column.name for part in lookup.parts)


def text_of(keys: Sequence[Text], row: int) -> str:
    """Return one row's key as messages and Properties show it."""
    return ", ".join(plain(part[row]) for part in keys)


@dataclass(slots=True)
class _Memory:
    """What one look-up has found so far, by key: a text for a single part, else a tuple."""

    values: dict = field(default_factory=dict)  # key -> the result, or the tuple of several; nulls where there is none
    missing: set = field(default_factory=set)
    ambiguous: set = field(default_factory=set)


@dataclass(slots=True)
class Resolved:
    """A look-up's results for each row of a block."""

    columns: list[list[str | bytes | None]]
    faults: dict[int, Fault]
    skipped: dict[int, Fault]


class Hints:
    """The nearest existing keys, for the messages of one chunk: few, so that a chunk full of misses costs little more than its misses.

    They are counted anew in each chunk, so that a run that was broken off says the same as one that was not.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._known: dict[tuple[int, str], str | None] = {}

    def nearest(self, lookup: Lookup, key: str) -> str | None:
        """Return the existing key most like this one; None if there is none, or too many were sought."""
        asked = (id(lookup), key)
        if asked not in self._known:
            if len(self._known) >= MAX_HINTS:
                return None
            self._known[asked] = self._session.nearest(lookup, key)
        return self._known[asked]


class Resolver:
    """Resolves the look-ups of one run; shared by its writers."""

    def __init__(self, written_from: Callable[[int], Set[tuple[str | None, str]]]) -> None:
        """`written_from` gives the keys of the tables that the run writes from a file of it on; they may grow while it goes on."""
        self._written_from = written_from
        self._memories: dict[int, tuple[Lookup, _Memory]] = {}
        self._is_trusting = True

    def distrust(self) -> None:
        """Remember nothing from now on: triggers or cascades may write any table."""
        self._is_trusting = False

    def resolve(self, session: Session, hints: Hints, lookup: Lookup, keys: list[Text], file: int, is_masked: bool = False) -> Resolved:
        """Find what the keys, of records of a file, refer to. A row with an empty part is not looked up and gets nulls."""
        memory = self._memory(lookup, file)
        wanted: Sequence = keys[0] if len(keys) == 1 else list(zip(*keys, strict=True))
        try:
            found = list(map(memory.values.__getitem__, wanted))
        except KeyError:
            self._fill(session, lookup, memory, wanted)
            found = list(map(memory.values.__getitem__, wanted))
        columns = [found] if len(lookup.results) == 1 else [list(c) for c in zip(*found, strict=True)] or [[] for _ in lookup.results]
        faults: dict[int, Fault] = {}
        skipped: dict[int, Fault] = {}
        for wrong, is_ambiguous in ((memory.missing, False), (memory.ambiguous, True)):
            for row in [row for row, key in enumerate(wanted) if key in wrong] if wrong else ():
                if is_ambiguous:
                    faults[row] = _said(LOOKUP_AMBIGUOUS, lookup, keys, row, is_masked)
                else:
                    self._missed(hints, lookup, keys, row, is_masked, faults, skipped)
        return Resolved(columns, faults, skipped)

    def _memory(self, lookup: Lookup, file: int) -> _Memory:
        # No chunk of an earlier file that writes what this one reads is under way beside it.
        if not self._is_trusting or not tables_of(lookup).isdisjoint(self._written_from(file)):
            return _Memory()
        kept = self._memories.get(id(lookup))
        if kept is None:
            if len(self._memories) >= MAX_LOOKUPS:
                self._memories = {}
            # The look-up itself is kept beside its memory, lest its id be given to another one.
            kept = self._memories[id(lookup)] = (lookup, _Memory())
        if len(kept[1].values) > MAX_REMEMBERED:
            # A new memory, not an emptied one: another writer may be reading the old one.
            kept = self._memories[id(lookup)] = (lookup, _Memory())
        return kept[1]

    def _fill(self, session: Session, lookup: Lookup, memory: _Memory, wanted: Iterable) -> None:
        unknown = [key for key in dict.fromkeys(wanted) if key not in memory.values]
        is_one = len(lookup.results) == 1
        nothing = None if is_one else (None,) * len(lookup.results)
        is_single = len(lookup.parts) == 1
        asked = []
        for key in unknown:
            if (key is None) if is_single else (None in key):
                memory.values[key] = nothing
            else:
                asked.append(key)
        if not asked:
            return
        found = session.find(lookup, [asked] if is_single else [list(part) for part in zip(*asked, strict=True)])
        for row, key in enumerate(asked):
            results = found.rows.get(row)
            # Another writer takes what stands in the values as it is: what is wrong with a key is entered before.
            if row in found.ambiguous:
                memory.ambiguous.add(key)
            elif results is None:
                memory.missing.add(key)
            memory.values[key] = nothing if results is None else results[0] if is_one else results

    @staticmethod
    def _missed(
        hints: Hints, lookup: Lookup, keys: list[Text], row: int, is_masked: bool, faults: dict[int, Fault], skipped: dict[int, Fault]
    ) -> None:
        match lookup.missing:
            case Missing.ERROR:
                nearest = None if is_masked or len(keys) > 1 else hints.nearest(lookup, cast(str, keys[0][row]))
                hint = f"; the nearest is '{nearest}'" if nearest is not None else ""
                faults[row] = _said(REFERENCE_NOT_FOUND, lookup, keys, row, is_masked, nearest=hint)
            case Missing.SKIP:
                skipped[row] = _said(SKIPPED_MISSING, lookup, keys, row, is_masked)


def _said(kind, lookup: Lookup, keys: Sequence[Text], row: int, is_masked: bool, **details: object) -> Fault:  # type: ignore[no-untyped-def]
    value = "***" if is_masked else text_of(keys, row)
    return fault(kind, label_of(lookup), value, entity=lookup.entity, **details)


said = _said
