"""Apply a chunk: resolve its look-ups, find which rows exist already, decide what each record does, and have the target do it.

The result is that of the records taken one by one, in file order. What is taken together here is only what cannot be told apart from that;
the rest is marked strict and left to the target's row loop.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from itertools import compress, count

from engine.chunk import Block, Chunk
from engine.convert import Converted, LookupKeys
from engine.faults import LOOKUP_AMBIGUOUS, NO_IDENTITY, NOT_WRITTEN, RECORD_EXISTS, RECORD_NOT_FOUND, Fault, fault
from engine.identity import columns_as_sought, is_steady
from engine.lookup import Hints, Resolver, is_text_identity, said, tables_of
from engine.ops import INSERT, LOOK_UP, REFUSED, SKIPPED, UNCHANGED, UPDATE, Found, Late, Ops, Session, Written, decide
from engine.plan import Action, Lookup, Text


@dataclass(slots=True)
class Verdicts:
    """What became of each position of a chunk."""

    kinds: list[str]  # engine.ops' kinds of outcome
    ids: list[str]
    faults: dict[int, list[Fault]] = field(default_factory=dict)
    changes: dict[int, str] = field(default_factory=dict)  # what changes in rows that are updated; see engine.changes


def apply(
    session: Session,
    resolver: Resolver,
    chunk: Chunk,
    converted: Sequence[Converted],
    waits_for_commit: bool = False,
    tells_changes: bool = False,
) -> Verdicts:
    """Apply one chunk's blocks in order, within the session's transaction; `converted` holds one entry a block."""
    verdicts = Verdicts([REFUSED] * len(chunk), [""] * len(chunk), dict(chunk.faults))
    hints = Hints(session)
    for block, ready in zip(chunk.blocks, converted, strict=True):
        step = Step(session, resolver, hints, chunk.file, block, ready.faults)
        ops = step.prepare(ready)
        ops.waits_for_commit, ops.tells_changes = waits_for_commit, tells_changes
        _apply_block(step, ops, verdicts)
    return verdicts


def _apply_block(step: Step, ops: Ops, verdicts: Verdicts) -> None:
    outcomes = step.session.write(ops) if len(ops) else None
    positions = step.block.positions
    for row, faults in step.faults.items():
        verdicts.faults[positions[row]] = faults
    for row, skip in step.skipped.items():
        verdicts.kinds[positions[row]] = SKIPPED
        verdicts.faults[positions[row]] = [skip]
    if outcomes is None:
        return
    if step.rows is None and isinstance(positions, range) and positions == range(len(verdicts.kinds)):
        verdicts.kinds, verdicts.ids = list(outcomes.kinds), list(outcomes.ids)
        verdicts.faults.update({positions[op]: faults for op, faults in outcomes.faults.items()})
        verdicts.changes.update({positions[op]: told for op, told in outcomes.changes.items()})
        return
    rows = range(step.size) if step.rows is None else step.rows
    taken = [positions[row] for row in rows]
    for position, kind, row_id in zip(taken, outcomes.kinds, outcomes.ids, strict=True):
        verdicts.kinds[position], verdicts.ids[position] = kind, row_id
    verdicts.faults.update({taken[op]: faults for op, faults in outcomes.faults.items()})
    verdicts.changes.update({taken[op]: told for op, told in outcomes.changes.items()})


class Step:
    """One block on its way from converted columns to ops."""

    def __init__(self, session: Session, resolver: Resolver, hints: Hints, file: int, block: Block, faults: dict[int, list[Fault]]) -> None:
        self.session, self.resolver, self.hints, self.file = session, resolver, hints, file
        self.block, self.entity, self.action, self.size = block, block.entity, block.action, len(block)
        self.faults = {row: list(found) for row, found in faults.items()}
        self.skipped: dict[int, Fault] = {}
        self.rows: list[int] | None = None  # the rows that became ops; None: all of them

    def prepare(self, ready: Converted) -> Ops:
        """Resolve, leave out what is at fault, find, decide."""
        table = self.entity.table
        if table.has_triggers or table.has_rewrites or (self.action is Action.DELETE and table.referenced_by):
            self.resolver.distrust()
        identity: LookupKeys | None = None
        written: list[Written] = []
        late: list[Late] = []
        for cells in ready.cells if self.action is not Action.DELETE else ():
            written.append(Written(cells.column, cells.values, cells.empties, cells.on_insert, cells.on_update, cells.mapping.is_masked))
        references: list[LookupKeys] = []
        for lookup_keys in ready.lookups:
            if lookup_keys.mapping is None:
                identity = lookup_keys
            elif self.action is not Action.DELETE:
                references.append(lookup_keys)
        # Where one must wait for each record's turn, all do, so that whichever fails first does so in every chunk.
        as_sought = columns_as_sought(ready)
        waits = self._must_wait(references, self._written_texts(ready), as_sought)
        for reference in references:
            self._resolve(reference, waits, written, late)
        ops = Ops(self.entity, self.action, [], identity.keys if identity else [], [], written, late, is_strict=waits)
        self._leave_out_faulty(ops)
        self._identify(ops, as_sought, is_steady(self.entity, self.action, ready))
        return ops

    # Look-ups -------------------------------------------------------------------------------------------------------
    @staticmethod
    def _written_texts(ready: Converted) -> dict[str, Text]:
        return {cells.column.name: cells.values for cells in ready.cells}

    def _must_wait(self, references: Sequence[LookupKeys], own: dict[str, Text], as_sought: frozenset[str]) -> bool:
        """Say whether some look-up may find what an earlier record of the block did."""
        table = self.entity.table
        if table.has_triggers or table.has_rewrites:
            return bool(references)  # Nobody knows what else they write.
        return any(table.key in tables_of(r.lookup) and self._may_depend(r.lookup, r.keys, own, as_sought) for r in references)

    def _resolve(self, wanted: LookupKeys, waits: bool, written: list[Written], late: list[Late]) -> None:
        """Add the look-up's columns to `written`, now or, where it `waits`, at each record's turn."""
        lookup, mapping = wanted.lookup, wanted.mapping
        if mapping is None:
            return
        if waits:
            columns: list[list[str | bytes | None]] = [[None] * self.size for _ in mapping.columns]
            late.append(Late(lookup, wanted.keys, tuple(range(len(written), len(written) + len(columns)))))
        else:
            resolved = self.resolver.resolve(self.session, self.hints, lookup, wanted.keys, self.file, mapping.is_masked)
            columns = resolved.columns
            for row, fault in resolved.faults.items():
                self.faults.setdefault(row, []).append(fault)
            self.skipped.update(resolved.skipped)
        for column, values in zip(mapping.columns, columns, strict=True):
            written.append(Written(column, values, wanted.empties, wanted.on_insert, wanted.on_update, mapping.is_masked))  # type: ignore[arg-type]

    def _may_depend(self, lookup: Lookup, keys: list[Text], own: dict[str, Text], as_sought: frozenset[str]) -> bool:
        """Say whether a record's look-up into its own table may find what an earlier record of the block wrote."""
        part = lookup.parts[0]
        if len(lookup.parts) > 1 or part.path or not part.column.is_text_identity:
            return True
        texts = own.get(part.column.name)
        if texts is None:
            # The column gets its value from a default: no text here can tell whether it will be the one looked for.
            return self.action in (Action.INSERT, Action.MERGE)
        if part.column.name not in as_sought and self.action is not Action.INSERT:
            # A row that is changed loses the text that it had, which no text here tells.
            return True
        return not {t for t in texts if t is not None}.isdisjoint(keys[0])

    # Identity -------------------------------------------------------------------------------------------------------
    def _leave_out_faulty(self, ops: Ops) -> None:
        for row in self.faults:
            self.skipped.pop(row, None)
        if not self.faults and not self.skipped:
            return
        keep = [True] * self.size
        for row in (*self.faults, *self.skipped):
            keep[row] = False
        self._keep(ops, keep)

    def _keep(self, ops: Ops, keep: list[bool]) -> None:
        """Narrow every column of the ops to the rows to keep."""
        self.rows = list(compress(self.rows if self.rows is not None else range(len(keep)), keep))
        new = dict(zip(compress(range(len(keep)), keep), count(), strict=False))

        def narrowed(rows: frozenset[int]) -> frozenset[int]:
            return frozenset(map(new.__getitem__, rows & new.keys())) if rows else rows

        ops.keys = [list(compress(part, keep)) for part in ops.keys]
        ops.kinds = list(compress(ops.kinds, keep))
        ops.found = list(compress(ops.found, keep))
        for column in ops.written:
            column.values = list(compress(column.values, keep))
            column.empties = narrowed(column.empties)
        for late in ops.late:
            late.keys = [list(compress(part, keep)) for part in late.keys]

    def _identify(self, ops: Ops, as_sought: frozenset[str], is_steady: bool) -> None:
        """Find each record's row and decide its op; leave out those that the action forbids."""
        size = self.size if self.rows is None else len(self.rows)
        identity = self.entity.identity
        if identity is None and self.action is not Action.INSERT:
            nobody = fault(NO_IDENTITY, entity=self.entity.name, action=self.action.value)
            self._keep(ops, [self._refuse(op, nobody) for op in range(size)])
            return
        if identity is None or not ops.keys:
            ops.kinds, ops.found = [INSERT] * size, [None] * size
            return
        keyed = {p.column.name for p in identity.parts if not p.path and p.column.is_text_identity}
        for column in ops.written:
            column.is_key = column.column.name in keyed & as_sought
        if not is_steady or self.entity.table.key in {step.table.key for part in identity.parts for step in part.path}:
            ops.kinds, ops.found, ops.is_strict = [LOOK_UP] * size, [None] * size, True
            return
        same = self.session.unchanged(ops) if decide(self.action, True) == UPDATE else {}
        found = self.session.find(identity, ops.keys) if not same else _with_others(self.session, identity, ops.keys, same)
        self._decide(ops, identity, size, found, same.keys())

    def _decide(self, ops: Ops, identity: Lookup, size: int, found: Found, same: Set[int]) -> None:
        rows, ambiguous = found
        again = self._repeated(identity, ops.keys, size)
        if_found, if_new = decide(self.action, True), decide(self.action, False)
        if not ambiguous and not again:
            only = if_new if not rows else UNCHANGED if len(same) == size else if_found if len(rows) == size and not same else None
            if only is not None:
                ops.kinds, ops.found = [only] * size, list(map(rows.get, range(size)))
                return
        keep = [True] * size
        for op in range(size):
            locator = rows.get(op)
            kind = LOOK_UP if op in again else UNCHANGED if op in same else if_found if locator is not None else if_new
            if ops.late and (op in ambiguous or kind is None):
                kind = LOOK_UP  # Its references come first, as they do where they need not wait.
            elif op in ambiguous:
                keep[op] = self._refuse(op, said(LOOKUP_AMBIGUOUS, identity, ops.keys, op, self.entity.is_identity_masked))
            elif kind is None:
                keep[op] = self._refuse(op, forbidden(ops, op, locator is not None))
            ops.kinds.append(kind or REFUSED)
            ops.found.append(None if kind == LOOK_UP else locator)
        if not all(keep):
            self._keep(ops, keep)

    def _repeated(self, identity: Lookup, keys: list[Text], size: int) -> set[int]:
        """Return the ops whose identity an earlier op of the block has too."""
        if is_text_identity(identity):
            texts: Sequence = keys[0] if len(keys) == 1 else list(zip(*keys, strict=True))
            if len(set(texts)) == size:
                return set()
        else:
            texts = self.session.same(identity, keys)
        seen: set = set()
        again = set()
        for op, text in enumerate(texts):
            if text in seen:
                again.add(op)
            seen.add(text)
        return again

    def _refuse(self, op: int, fault: Fault) -> bool:
        row = op if self.rows is None else self.rows[op]
        self.faults.setdefault(row, []).append(fault)
        return False


def _with_others(session: Session, identity: Lookup, keys: list[Text], known: dict[int, tuple]) -> Found:
    """Find the rows of the ops that are not known yet; return them with the known ones."""
    others = [op for op in range(len(keys[0])) if op not in known]
    found = session.find(identity, [[part[op] for op in others] for part in keys])
    return Found(known | {others[row]: locator for row, locator in found.rows.items()}, {others[row] for row in found.ambiguous})


def forbidden(ops: Ops, op: int, is_found: bool) -> Fault:
    """Return the fault of an op that its action forbids: Insert of what exists, Update or Delete of what does not."""
    identity, masked = ops.entity.identity, ops.entity.is_identity_masked
    if identity is None:
        return fault(NOT_WRITTEN)
    if is_found:
        return said(RECORD_EXISTS, identity, ops.keys, op, masked)
    return said(RECORD_NOT_FOUND, identity, ops.keys, op, masked, action=ops.action.value.lower())
