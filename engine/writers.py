"""The writers of a PerRecord run: one in the caller's thread, or several in threads of their own, each with a connection.

Two chunks are in flight together only if nothing one of them does can be seen by the other: they touch different tables, or the
same table under different keys where that key is all that its rows could collide by.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from engine.chunk import Block, Chunk
from engine.convert import Converted
from engine.identity import is_steady, keys_of
from engine.lookup import is_text_identity, tables_of
from engine.ops import Session
from engine.plan import Action, EntityPlan
from engine.target import Target

WORTH_A_THREAD = 1_000  # records; before the first chunk of this size all is written in the caller's own thread

Key = tuple[str | None, str]
Write = Callable[[Session, Chunk, list[Converted]], None]


@dataclass(slots=True)
class Footprint:
    """What a chunk touches."""

    writes: set[Key] = field(default_factory=set)
    reads: set[Key] = field(default_factory=set)
    keys: dict[tuple[Key, tuple[str, ...]], set] = field(default_factory=dict)  # of shared tables, by key columns: the identities written
    is_shareable: bool = True
    is_alone: bool = False  # triggers, rules or cascades may touch any table

    @classmethod
    def of(cls, chunk: Chunk, converted: list[Converted]) -> Footprint:
        """Work out what a chunk will touch."""
        footprint = cls()
        for block, ready in zip(chunk.blocks, converted, strict=True):
            table = block.entity.table
            footprint.writes.add(table.key)
            footprint.reads |= _reads(block.entity)
            footprint.is_alone |= table.has_triggers or table.has_rewrites or (block.action is Action.DELETE and bool(table.referenced_by))
            footprint.is_shareable &= _is_shareable(block, ready)
            identity = keys_of(ready)
            if footprint.is_shareable and identity is not None:
                names = tuple(part.column.name for part in identity.lookup.parts)
                texts = set(identity.keys[0]) if len(identity.keys) == 1 else set(zip(*identity.keys, strict=True))
                footprint.keys.setdefault((table.key, names), set()).update(texts)
        return footprint

    def can_go_beside(self, other: Footprint) -> bool:
        """Say whether the two chunks cannot see each other."""
        if self.is_alone or other.is_alone:
            return False
        if not self.reads.isdisjoint(other.writes) or not other.reads.isdisjoint(self.writes):
            return False
        shared = self.writes & other.writes
        if not shared:
            return True
        if not (self.is_shareable and other.is_shareable):
            return False
        ours, theirs = ({k for k in f.keys if k[0] in shared} for f in (self, other))
        # Rows found by the one's key columns may be those that the other finds by others.
        if any(a[0] == b[0] and a != b for a in ours for b in theirs):
            return False
        return all((self.keys[k] - {None}).isdisjoint(other.keys[k]) for k in ours & theirs)


def _reads(entity: EntityPlan) -> set[Key]:
    """Return the tables whose content decides what becomes of an entity's records, its own left out (see _is_shareable)."""
    lookups = [m.lookup for m in entity.mappings if m.lookup] + ([entity.identity] if entity.identity else [])
    reads = {key for lookup in lookups for key in tables_of(lookup)}
    reads |= {(f.schema, f.table) for f in entity.table.foreign_keys} | set(entity.table.referenced_by)
    return reads - {entity.table.key}


def _is_shareable(block: Block, ready: Converted) -> bool:
    """Say whether a block's table may be written by two writers at once, under different keys."""
    entity, table = block.entity, block.entity.table
    if table.has_triggers or table.has_rewrites or table.has_exclusion:
        return False
    if table.key in table.referenced_by or any((f.schema, f.table) == table.key for f in table.foreign_keys):
        return False
    if any(m.lookup and table.key in tables_of(m.lookup) for m in entity.mappings):
        return False
    if not is_steady(entity, block.action, ready):
        return False
    written = {c.name for m in entity.mappings for c in m.columns}
    drawn = set(table.primary_key) - written
    key: set[str] = set()
    if entity.identity is not None and keys_of(ready) is not None:
        if not is_text_identity(entity.identity) or any(p.path for p in entity.identity.parts):
            return False
        key = {p.column.name for p in entity.identity.parts}
    # A primary key drawn from a sequence never collides.
    return all(set(u.columns) == key or (u.is_primary and drawn) for u in table.uniques) and not any(
        u.is_partial or u.has_expressions for u in table.uniques
    )


class Writers:
    """Writes chunks, several at a time where they may go beside each other. Use from one thread only."""

    def __init__(self, target: Target, write: Write, number: int) -> None:
        """`write` is called with a session, a chunk and its converted blocks; what it raises comes out of submit() or wait()."""
        self._target, self._write = target, write
        self._number = number if target.can_share_writing else 0
        self._session: Session | None = None  # of the caller's own thread
        self._condition = threading.Condition()
        self._in_flight: dict[int, Footprint] = {}
        self._errors: list[BaseException] = []
        self._inboxes: list[SimpleQueue[Any]] = []
        self._threads: list[threading.Thread] = []

    def _start(self) -> None:
        for number in range(self._number):
            inbox: SimpleQueue[Any] = SimpleQueue()
            self._inboxes.append(inbox)
            self._threads.append(threading.Thread(target=self._work, args=(number, inbox), name=f"writer-{number}", daemon=True))
            self._threads[-1].start()

    def submit(self, chunk: Chunk, converted: list[Converted]) -> None:
        """Write the chunk, now or beside others; waits until it may begin."""
        if not self._threads:
            if not self._number or len(chunk) < WORTH_A_THREAD:
                self._session = self._session or self._target.session()
                self._write(self._session, chunk, converted)
                return
            self._start()
        footprint = Footprint.of(chunk, converted)
        with self._condition:
            while (writer := self._free(footprint)) is None and not self._errors:
                self._condition.wait()
            self._raise()
            self._in_flight[writer] = footprint  # type: ignore[index]
        self._inboxes[writer].put((chunk, converted))  # type: ignore[index]

    def _free(self, footprint: Footprint) -> int | None:
        if not all(footprint.can_go_beside(other) for other in self._in_flight.values()):
            return None
        return next((n for n in range(len(self._threads)) if n not in self._in_flight), None)

    def wait(self) -> None:
        """Wait until all that was submitted is written."""
        with self._condition:
            self._condition.wait_for(lambda: not self._in_flight)
            self._raise()

    def close(self) -> None:
        """End the threads and give their connections back."""
        for inbox in self._inboxes:
            inbox.put(None)
        for thread in self._threads:
            thread.join()
        if self._session is not None:
            self._target.give_back(self._session)

    def _raise(self) -> None:
        if self._errors:
            raise self._errors[0]

    def _work(self, number: int, inbox: SimpleQueue[Any]) -> None:
        session: Session | None = None
        while (work := inbox.get()) is not None:
            try:
                if self._errors:
                    # An earlier chunk failed: what was under way behind it ends here, unwritten.
                    continue
                session = session or self._target.session()
                self._write(session, *work)
            except BaseException as error:
                with self._condition:
                    self._errors.append(error)
            finally:
                work = None
                with self._condition:
                    self._in_flight.pop(number, None)
                    self._condition.notify_all()
        if session is not None:
            self._target.give_back(session)
