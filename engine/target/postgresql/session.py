"""One connection to a PostgreSQL target, as the engine uses it (engine.ops.Session).

Blocks are written set by set where that cannot be told apart from one by one: new rows by COPY straight into the table, known rows
from a staging table by one UPDATE of those that differ. What is refused so goes, as a whole, through the row loop inside the server.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from typing import Any

import psycopg

from engine.ops import CREATED, DELETE, DELETED, INSERT, LOOK_UP, REFUSED, UNCHANGED, UPDATE, UPDATED, Late, Ops, Outcomes, Written
from engine.plan import EntityPlan, Text
from engine.tables import quote
from engine.target.postgresql import sql
from engine.target.postgresql.comparing import Comparing
from engine.target.postgresql.copytext import encode
from engine.target.postgresql.shape import Shape
from engine.target.postgresql.transaction import NotAsASet


class PostgresSession(Comparing):
    """See engine.ops.Session."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        """See Transaction."""
        super().__init__(connection)
        self._shapes: dict[tuple[Any, ...], tuple[EntityPlan, Shape]] = {}
        self._was_changed = False  # most rows of the last update differed: update first, look only at the rest

    def write(self, ops: Ops) -> Outcomes:
        """See Session.write."""
        self._all_keys.clear()  # those of this table are about to change
        if set(ops.kinds) == {UNCHANGED}:
            return Outcomes(list(ops.kinds), self._ids(ops))
        shape = self._shape(ops)
        if ops.is_strict or not shape.can_be_a_set:
            return self._loop(ops)
        with self._unless_about_data():
            self._prepare(ops, shape)
        while True:
            try:
                with self._savepoint():
                    outcomes = self._write_as_set(ops, shape)
                if not outcomes.faults:
                    self._refusing.discard(shape.table.key)
                return outcomes
            except (psycopg.Error, NotAsASet) as error:
                # Frames of a failed chunk hold all its rows; without this they live until the collector runs.
                error.__traceback__ = None
                if not self._turns_to_checks(error, shape.table):
                    return self._loop(ops)

    def unchanged(self, ops: Ops) -> dict[int, tuple[str | bytes | None, ...]]:
        """See Session.unchanged."""
        # Where rows are not written as a set, one of them may change another that was seen before.
        return self._compared(ops) if not ops.is_strict and self._shape(ops).can_be_a_set else {}

    def renew(self) -> None:
        """See Session.renew."""
        super().renew()
        self._shapes.clear()

    def _shape(self, ops: Ops) -> Shape:
        # Rules for empty cells may differ from file to file.
        key = (id(ops.entity), ops.action, tuple((w.column.name, w.on_insert, w.on_update, w.is_key) for w in ops.written))
        if key not in self._shapes:
            # The entity itself is kept beside its shape, lest its id be given to another one.
            self._shapes[key] = (ops.entity, Shape.of(ops))
        return self._shapes[key][1]

    def _prepare(self, ops: Ops, shape: Shape) -> None:
        """Make the temporary tables before the savepoint, so that they outlive a refusal."""
        kinds = set(ops.kinds)
        if UPDATE in kinds:
            for columns in {tuple(shape.columns_to_update(p)) for p in self._patterns(ops, UPDATE)}:
                self._stage(ops, columns)
        if DELETE in kinds:
            self._stage(ops, ())

    def _write_as_set(self, ops: Ops, shape: Shape) -> Outcomes:
        outcomes = Outcomes([REFUSED] * len(ops), [""] * len(ops))
        kinds = set(ops.kinds)
        if UNCHANGED in kinds:
            same = [op for op, kind in enumerate(ops.kinds) if kind == UNCHANGED]
            _put(outcomes, same, UNCHANGED, self._ids(_only(ops, same)))
        if DELETE in kinds:
            self._delete(ops, outcomes)
        if INSERT in kinds:
            for pattern, rows in self._grouped(ops, INSERT).items():
                self._insert(_only(ops, rows), pattern, shape, rows, outcomes)
        if kinds != {DELETE}:
            self._refuse_own_references(ops, shape, outcomes)
        if UPDATE in kinds:
            for pattern, rows in self._grouped(ops, UPDATE).items():
                self._update(_only(ops, rows), shape.columns_to_update(pattern), shape, rows, outcomes)
        if LOOK_UP in kinds:
            self._write_repeated(ops, outcomes)
        return outcomes

    @staticmethod
    def _patterns(ops: Ops, kind: str) -> set[tuple[bool, ...]]:
        return set(PostgresSession._grouped(ops, kind))

    @staticmethod
    def _grouped(ops: Ops, kind: str) -> dict[tuple[bool, ...], list[int] | None]:
        """Group the ops of one kind by which cells take the default (insert) or keep the value (update); a None group is all ops."""
        if kind == INSERT:
            ruled = [w for w in ops.written if w.empties and w.on_insert == "default" and w.column.default is not None]
        else:
            ruled = [w for w in ops.written if w.empties and w.on_update == "keep"]
        width = len(ops.written)
        if not ruled:
            rows = None if ops.kinds.count(kind) == len(ops) else [op for op, k in enumerate(ops.kinds) if k == kind]
            return {(False,) * width: rows}
        groups: dict[tuple[bool, ...], list[int]] = {}
        for op, k in enumerate(ops.kinds):
            if k == kind:
                groups.setdefault(tuple(w in ruled and op in w.empties for w in ops.written), []).append(op)
        return dict(groups)

    @staticmethod
    def _refuse_own_references(ops: Ops, shape: Shape, outcomes: Outcomes) -> None:
        """A set of rows may refer to one another in any order, records one by one only to earlier ones."""
        by_name = {w.column.name: w for w in ops.written}
        table = ops.entity.table
        for ours, theirs in shape.own_references:
            referring, referred = by_name[ours].values, by_name.get(theirs)
            if referred is None:
                # A key that no column of the data gives was drawn for the new rows: it is their id.
                texts, can_tell = {*outcomes.ids}, table.primary_key == (theirs,)
            else:
                texts, can_tell = {v for v in referred.values if v is not None}, not referred.empties
            can_tell = can_tell and table.columns[theirs].is_text_identity
            if not (texts - {""}).isdisjoint(referring) or (not can_tell and any(v is not None for v in referring)):
                raise NotAsASet

    # New rows -------------------------------------------------------------------------------------------------------
    def _insert(self, ops: Ops, pattern: tuple[bool, ...], shape: Shape, rows: list[int] | None, outcomes: Outcomes) -> None:
        """COPY new rows straight into the table, with ids drawn beforehand for their receipts."""
        size = len(ops)
        written = [w for w, is_default in zip(ops.written, pattern, strict=True) if not is_default]
        names = [w.column.name for w in written]
        texts: dict[str, Sequence[Any]] = {w.column.name: w.values for w in written}
        for column in ops.entity.table.primary_key:
            if column not in texts:
                texts[column] = self._draw(shape.default_of(column), size)
                names.append(column)
        key = ops.entity.table.primary_key
        ids = texts[key[0]] if len(key) == 1 else list(map(",".join, zip(*(texts[k] for k in key), strict=True))) if key else [""] * size
        _put(outcomes, rows, CREATED, ids)
        columns = [texts[name] for name in names]
        checks = self._checks_of(ops.entity.table, names)
        if checks is not None:
            for op, fault in self._insert_checked(ops, names, columns, checks).items():
                position = op if rows is None else rows[op]
                outcomes.kinds[position], outcomes.ids[position], outcomes.faults[position] = REFUSED, "", [fault]
            return
        copy = f"COPY {ops.entity.table.quoted} ({', '.join(map(quote, names))}) FROM STDIN"
        with self._cursor.copy(copy) as stream:
            stream.write(encode(columns))
        if self._cursor.rowcount != size:
            raise NotAsASet

    def _draw(self, default: str | None, size: int) -> list[str]:
        """Evaluate a column's default once for each of some rows."""
        if default is None:
            raise NotAsASet
        # One text for all of them: a row for each would cost the client more than the sequence costs the server.
        self._cursor.execute(f"SELECT string_agg(({default})::text, E'\\n') FROM generate_series(1, %s)", (size,))
        drawn = (self._cursor.fetchone()[0] or "").split("\n")
        if len(drawn) != size:
            raise NotAsASet
        return drawn

    # Known rows -----------------------------------------------------------------------------------------------------
    def _update(self, ops: Ops, columns: Sequence[str], shape: Shape, rows: list[int] | None, outcomes: Outcomes) -> None:
        """Write those of the known rows that differ; a row that is not there any more sends all to the row loop."""
        size = len(ops)
        ids = self._ids(ops)
        _put(outcomes, rows, UNCHANGED, ids)
        stage = self._fill(ops, tuple(columns))
        table = ops.entity.table
        reflected = [table.columns[name] for name in columns]
        changed: list[int] = []
        if not columns:
            found = self._cursor.execute(f"SELECT count(*) FROM {stage} s JOIN {table.quoted} t ON {sql.on_locator(table)}").fetchone()
            if found[0] != size:
                raise NotAsASet
            return
        touchy = shape.touchy(columns)
        update = sql.update(stage, table, reflected)
        if self._was_changed and not touchy and not ops.tells_changes:
            changed = [r[0] for r in self._cursor.execute(update).fetchall()]
            if len(changed) != size:
                self._look(stage, ops, columns, [], size, expected=[])
        else:
            changed = self._look(stage, ops, columns, touchy, size, expected=None)
            if changed:
                self._tell_changes(stage, ops, columns, rows, outcomes)
                returned = [r[0] for r in self._cursor.execute(update).fetchall()]
                if set(returned) != set(changed):
                    raise NotAsASet
        self._was_changed = 2 * len(changed) > size
        self._expect(ops, len(changed), size)
        for op in changed:
            outcomes.kinds[op if rows is None else rows[op]] = UPDATED

    def _tell_changes(self, stage: str, ops: Ops, columns: Sequence[str], rows: list[int] | None, outcomes: Outcomes) -> None:
        """Tell what is about to change in the staged rows, where that is wanted."""
        if not ops.tells_changes:
            return
        by_name = {w.column.name: w for w in ops.written}
        written = [by_name[name] for name in columns]
        self._cursor.execute(sql.changing(stage, ops.entity.table, [w.column for w in written]))
        for op, said in self._cursor:
            outcomes.changes[op if rows is None else rows[op]] = self._told(ops, written, said)

    def _look(
        self, stage: str, ops: Ops, columns: Sequence[str], touchy: Sequence[str], size: int, expected: list[int] | None
    ) -> list[int]:
        """See which staged rows differ. All must be there, and those that differ must be the expected ones, if any are expected."""
        table = ops.entity.table
        look = sql.look(stage, table, [table.columns[c] for c in columns], [table.columns[c] for c in touchy])
        there, differing, touches = self._cursor.execute(look).fetchone()
        if there != size or touches or (expected is not None and (differing or []) != expected):
            raise NotAsASet
        return differing or []

    def _delete(self, ops: Ops, outcomes: Outcomes) -> None:
        rows = [op for op, kind in enumerate(ops.kinds) if kind == DELETE]
        doomed = _only(ops, rows)
        stage = self._fill(doomed, ())
        gone = self._cursor.execute(sql.delete(stage, ops.entity.table)).fetchall()
        if len(gone) != len(rows):
            raise NotAsASet
        _put(outcomes, rows, DELETED, self._ids(doomed))

    @staticmethod
    def _ids(ops: Ops) -> list[str]:
        key = ops.entity.table.primary_key
        if not key:
            return [""] * len(ops)
        if len(key) == 1:
            return [str(found[0]) for found in ops.found if found is not None]
        return [",".join(map(str, found)) for found in ops.found if found is not None]

    def _stage(self, ops: Ops, columns: tuple[str, ...]) -> str:
        table = ops.entity.table
        return self._make("stage", lambda name: sql.stage_table(name, table, [table.columns[c] for c in columns]))

    def _fill(self, ops: Ops, columns: tuple[str, ...]) -> str:
        """Stage the ops' locators and these columns' values."""
        stage = self._stage(ops, columns)
        by_name = {w.column.name: w for w in ops.written}
        texts: list[Sequence[Any]] = [list(map(str, range(len(ops))))]
        texts += [list(part) for part in zip(*ops.found, strict=True)]
        texts += [self._staged(by_name[c]) for c in columns]
        self._copy_into(stage, texts)
        return stage

    def _staged(self, written: Written) -> Text:
        """Return a column's values as an update is to have them: evaluated defaults where the rule says so."""
        if written.on_update != "default" or not written.empties or written.column.default is None:
            return written.values
        values = list(written.values)
        drawn = self._draw(written.column.default, len(written.empties))
        for op, value in zip(sorted(written.empties), drawn, strict=True):
            values[op] = value
        return values

    def _write_repeated(self, ops: Ops, outcomes: Outcomes) -> None:
        """Take the ops whose identity came before in the block, after the others: they can be told apart from nobody else's."""
        rows = [op for op, kind in enumerate(ops.kinds) if kind == LOOK_UP]
        later = self._loop(_only(ops, rows))
        if any(kind == REFUSED for kind in later.kinds):
            raise NotAsASet
        for op, kind, row_id in zip(rows, later.kinds, later.ids, strict=True):
            outcomes.kinds[op], outcomes.ids[op] = kind, row_id
        outcomes.changes.update({rows[op]: told for op, told in later.changes.items()})


def _put(outcomes: Outcomes, rows: list[int] | None, kind: str, ids: Sequence[str]) -> None:
    """Enter one kind of outcome for these ops (None: all)."""
    if rows is None:
        outcomes.kinds, outcomes.ids = [kind] * len(ids), list(ids)
        return
    for op, row_id in zip(rows, ids, strict=True):
        outcomes.kinds[op], outcomes.ids[op] = kind, row_id


def _only(ops: Ops, rows: list[int] | None) -> Ops:
    """Narrow ops to some of them; None: all."""
    if rows is None or len(rows) == len(ops):
        return ops
    chosen = set(rows)
    keep = [op in chosen for op in range(len(ops))]
    new = {old: now for now, old in enumerate(rows)}

    def narrow(column: Sequence[Any]) -> list[Any]:
        return list(compress(column, keep))

    written = [
        Written(
            w.column, narrow(w.values), frozenset(new[op] for op in w.empties if op in new), w.on_insert, w.on_update, w.is_masked, w.is_key
        )
        for w in ops.written
    ]
    late = [Late(x.lookup, [narrow(k) for k in x.keys], x.written) for x in ops.late]
    return Ops(
        ops.entity, ops.action, narrow(ops.kinds), [narrow(k) for k in ops.keys], narrow(ops.found), written, late, ops.is_strict,
        ops.waits_for_commit, ops.tells_changes,
    )  # fmt: skip
