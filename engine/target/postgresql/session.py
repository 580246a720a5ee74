"""One connection to a PostgreSQL target, as the engine uses it (engine.ops.Session).

Blocks are written set by set where that cannot be told apart from one by one: new rows by COPY straight into the table, known rows from a staging table by
one UPDATE of those that differ. Whatever it refuses goes, as a whole, through the row loop inside the server.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import compress
from typing import Any

import psycopg

from engine import ledger
from engine.faults import Fault
from engine.ops import (
    CREATED,
    DELETE,
    DELETED,
    INSERT,
    LOOK_UP,
    MAX_NEAREST,
    REFUSED,
    SKIPPED,
    UNCHANGED,
    UPDATE,
    UPDATED,
    Found,
    Ops,
    Outcomes,
    Written,
)
from engine.plan import Lookup, Text
from engine.tables import Kind, quote
from engine.target.postgresql import refusals, rowloop, sql
from engine.target.postgresql.copytext import encode, literal
from engine.target.postgresql.shape import Shape
from errors import LeaseLost, TargetUnavailable

_BEGIN = "BEGIN; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off"
# Kinds whose converters leave the last word to the database: a key of theirs may fail to be cast.
_UNSURE = {Kind.OTHER, Kind.ARRAY, Kind.INTERVAL, Kind.JSON, Kind.TIME_TZ}
_SMALL_TABLE = 2_000  # rows; up to here the nearest key is sought among all of them


class NotAsASet(Exception):
    """These ops must be taken one by one after all."""


class PostgresSession:
    """See engine.ops.Session."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        """`connection`: in autocommit mode; this session begins and ends transactions itself."""
        self._connection = connection
        self._cursor = connection.cursor()
        self._made: dict[str, str] = {}  # what our temporary tables and functions were made from -> their name
        self._new: list[str] = []  # those made in this transaction, gone if it is rolled back
        self._number = 0  # of the last one made
        self._used: set[str] = set()  # staging tables that hold rows in this transaction
        self._shapes: dict[tuple[int, tuple[str, ...]], Shape] = {}
        self._nearest: dict[tuple[int, str], str | None] = {}
        self._all_keys: dict[int, list[str] | None] = {}
        self._was_changed = False  # most rows of the last update differed: update first, look only at the rest

    # Transactions ---------------------------------------------------------------------------------------------------
    def begin(self, run: str, fence: int, is_strict_constraints: bool = True) -> None:
        """Begin, and check the fence; deferrable constraints are checked at once if strict."""
        constraints = "; SET CONSTRAINTS ALL IMMEDIATE" if is_strict_constraints else ""
        with self._unless_about_data():
            self._cursor.execute(_BEGIN + constraints)  # type: ignore[arg-type]
            ledger.check_fence(self._cursor, run, fence, dialect="postgresql")

    def add_ledger(self, entry: ledger.LedgerEntry) -> None:
        """Write the chunk's ledger row."""
        with self._unless_about_data():
            ledger.add(self._cursor, entry, dialect="postgresql")

    def settle(self) -> Fault | None:
        """Try the deferred constraints now."""
        try:
            with self._unless_about_data(passes_refusals=True):
                self._cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        except psycopg.Error as refused:
            return refusals.of_constraint(_refused(refused))
        return None

    def commit(self) -> None:
        """Commit. A connection lost meanwhile is TargetUnavailable: the ledger then knows what became of it."""
        with self._unless_about_data():
            self._cursor.execute("COMMIT")
        self._new.clear()
        self._used.clear()

    def rollback(self) -> None:
        """Undo, and forget what was made in this transaction."""
        if not self._connection.closed:
            with self._unless_about_data():
                self._cursor.execute("ROLLBACK")
        for made in self._new:
            self._made.pop(made, None)
        self._new.clear()
        self._used.clear()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    @contextmanager
    def _unless_about_data(self, passes_refusals: bool = False) -> Iterator[None]:
        """Turn an error that is not about a record into TargetUnavailable."""
        try:
            yield
        except LeaseLost:
            raise
        except psycopg.Error as error:
            if passes_refusals and error.sqlstate and rowloop.is_about_data(error.sqlstate) and not self._connection.closed:
                raise
            raise TargetUnavailable(f"PostgreSQL: {str(error).splitlines()[0] if str(error) else type(error).__name__}") from error

    # Finding --------------------------------------------------------------------------------------------------------
    def find(self, lookup: Lookup, keys: list[Text]) -> Found:
        """See Session.find."""
        if not keys or not len(keys[0]):
            return Found({}, set())
        is_direct = len(keys) == 1 and not lookup.parts[0].path and lookup.parts[0].column.is_text_identity
        is_unsure = any(part.column.kind in _UNSURE for part in lookup.parts)
        with self._free_planner(sql.is_indexed(lookup)):
            if not is_unsure:
                with self._unless_about_data():
                    return self._find_by_any(lookup, keys[0]) if is_direct else self._find_by_ordinal(lookup, keys)
            try:
                with self._savepoint():
                    return self._find_by_ordinal(lookup, keys)
            except psycopg.Error:
                return self._find_one_by_one(lookup, keys)

    def _find_by_any(self, lookup: Lookup, keys: Text) -> Found:
        self._cursor.execute(sql.find_by_any(lookup), (literal(keys),))  # type: ignore[arg-type]
        hits: dict[str, tuple] = {}
        several: set[str] = set()
        for key, *results in self._cursor:
            if key in hits:
                several.add(key)
            hits[key] = tuple(results)
        if not hits:
            return Found({}, set())
        rows = {row: hits[key] for row, key in enumerate(keys) if key in hits}  # type: ignore[index]
        return Found(rows, {row for row, key in enumerate(keys) if key in several} if several else set())

    def _find_by_ordinal(self, lookup: Lookup, keys: list[Text]) -> Found:
        self._cursor.execute(sql.find_by_ordinal(lookup), [literal(part) for part in keys])  # type: ignore[arg-type]
        rows: dict[int, tuple] = {}
        several = set()
        for ordinal, *results in self._cursor:
            if ordinal - 1 in rows:
                several.add(ordinal - 1)
            rows[ordinal - 1] = tuple(results)
        return Found(rows, several)

    def _find_one_by_one(self, lookup: Lookup, keys: list[Text]) -> Found:
        """Find by keys of which some cannot be cast: such a key names no row."""
        rows: dict[int, tuple] = {}
        several = set()
        for row, key in enumerate(zip(*keys, strict=True)):
            try:
                with self._savepoint():
                    found = self._find_by_ordinal(lookup, [[part] for part in key])
            except psycopg.Error:
                continue
            if found.rows:
                rows[row] = found.rows[0]
            if found.ambiguous:
                several.add(row)
        return Found(rows, several)

    def same(self, lookup: Lookup, keys: list[Text]) -> list[int]:
        """See Session.same."""
        with self._unless_about_data():
            self._cursor.execute(sql.same(lookup), [literal(part) for part in keys])  # type: ignore[arg-type]
            first = dict(self._cursor.fetchall())
        return [first[n] for n in range(1, len(keys[0]) + 1)]

    def nearest(self, lookup: Lookup, value: str) -> str | None:
        """See Session.nearest."""
        if len(lookup.parts) > 1 or lookup.parts[0].path or lookup.parts[0].column.kind is not Kind.TEXT:
            return None
        asked = (id(lookup), value)
        if asked not in self._nearest:
            if len(self._nearest) >= MAX_NEAREST:
                return None
            close = difflib.get_close_matches(value, self._candidates(lookup, value), n=1)
            self._nearest[asked] = close[0] if close else None
        return self._nearest[asked]

    def _candidates(self, lookup: Lookup, value: str) -> list[str]:
        """Return the keys among which the nearest is sought: all of a small table, else the neighbours in the index's order."""
        column, table = quote(lookup.parts[0].column.name), lookup.table.quoted
        with self._unless_about_data():
            if id(lookup) not in self._all_keys:
                rows = self._cursor.execute(f"SELECT {column}::text FROM {table} LIMIT {_SMALL_TABLE + 1}").fetchall()  # type: ignore[arg-type]  # noqa: S608
                self._all_keys[id(lookup)] = [r[0] for r in rows if r[0] is not None] if len(rows) <= _SMALL_TABLE else None
            all_keys = self._all_keys[id(lookup)]
            if all_keys is not None:
                return all_keys
            if not sql.is_indexed(lookup):
                return []
            near = (
                f"(SELECT {column}::text FROM {table} WHERE {column} >= %(v)s ORDER BY {column} LIMIT 5) UNION ALL "  # noqa: S608
                f"(SELECT {column}::text FROM {table} WHERE {column} < %(v)s ORDER BY {column} DESC LIMIT 5)"
            )
            return [r[0] for r in self._cursor.execute(near, {"v": value}).fetchall()]  # type: ignore[arg-type]

    @contextmanager
    def _free_planner(self, is_indexed: bool) -> Iterator[None]:
        """Let the planner choose its joins where no index serves the key: probing row by row would read the table each time."""
        if is_indexed:
            yield
            return
        self._cursor.execute("SET LOCAL enable_hashjoin = on; SET LOCAL enable_mergejoin = on")
        yield
        self._cursor.execute("SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off")

    @contextmanager
    def _savepoint(self) -> Iterator[None]:
        """Undo what is inside on a refusal, and pass that on; TargetUnavailable for anything else."""
        with self._unless_about_data(passes_refusals=True):
            self._cursor.execute("SAVEPOINT lading")
            made = len(self._new)
            try:
                yield
            except (psycopg.Error, NotAsASet):
                if not self._connection.closed:
                    self._cursor.execute("ROLLBACK TO SAVEPOINT lading")
                for gone in self._new[made:]:
                    self._made.pop(gone)
                del self._new[made:]
                raise
            self._cursor.execute("RELEASE SAVEPOINT lading")

    # Writing --------------------------------------------------------------------------------------------------------
    def write(self, ops: Ops) -> Outcomes:
        """See Session.write."""
        shape = self._shape(ops)
        if ops.is_strict or not shape.can_be_a_set:
            return self._loop(ops)
        self._prepare(ops, shape)
        try:
            with self._savepoint():
                return self._write_as_set(ops, shape)
        except (psycopg.Error, NotAsASet) as error:
            # Frames of a failed chunk hold all its rows; without this they live until the collector runs.
            error.__traceback__ = None
        return self._loop(ops)

    def _shape(self, ops: Ops) -> Shape:
        key = (id(ops.entity), ops.action, tuple(w.column.name for w in ops.written))
        if key not in self._shapes:
            self._shapes[key] = Shape.of(ops)  # type: ignore[index]
        return self._shapes[key]  # type: ignore[index]

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
        """Group the ops of one kind by which of their cells take the default (insert) or keep the value (update); a None group is all ops."""
        if kind == INSERT:
            ruled = [w for w in ops.written if w.empties and w.on_insert == "default" and w.column.default is not None]
        else:
            ruled = [w for w in ops.written if w.empties and w.on_update == "keep"]
        width = len(ops.written)
        if not ruled:
            rows = None if ops.kinds.count(kind) == len(ops) else [op for op, k in enumerate(ops.kinds) if k == kind]
            return {(False,) * width: rows}
        groups: dict[tuple[bool, ...], list[int] | None] = {}
        for op, k in enumerate(ops.kinds):
            if k == kind:
                pattern = tuple(w in ruled and op in w.empties for w in ops.written)
                groups.setdefault(pattern, []).append(op)  # type: ignore[union-attr]
        return groups

    @staticmethod
    def _refuse_own_references(ops: Ops, shape: Shape, outcomes: Outcomes) -> None:
        """A set of rows may refer to one another in any order, records one by one only to earlier ones."""
        by_name = {w.column.name: w.values for w in ops.written}
        for ours, theirs in shape.own_references:
            # A key that no column of the data gives was drawn for the new rows: it is their id.
            referred = set(by_name.get(theirs, outcomes.ids))
            if not (referred - {None, ""}).isdisjoint(by_name[ours]):
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
        copy = f"COPY {ops.entity.table.quoted} ({', '.join(map(quote, names))}) FROM STDIN"
        with self._cursor.copy(copy) as stream:  # type: ignore[arg-type]
            stream.write(encode([texts[name] for name in names]))
        if self._cursor.rowcount != size:
            raise NotAsASet
        key = ops.entity.table.primary_key
        ids = texts[key[0]] if len(key) == 1 else list(map(",".join, zip(*(texts[k] for k in key), strict=True))) if key else [""] * size
        _put(outcomes, rows, CREATED, ids)

    def _draw(self, default: str | None, size: int) -> list[str]:
        """Evaluate a key column's default once for each new row."""
        if default is None:
            raise NotAsASet
        self._cursor.execute(f"SELECT ({default})::text FROM generate_series(1, %s)", (size,))  # type: ignore[arg-type]  # noqa: S608
        return [row[0] for row in self._cursor.fetchall()]

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
            found = self._cursor.execute(f"SELECT count(*) FROM {stage} s JOIN {table.quoted} t ON {sql.on_locator(table)}").fetchone()  # type: ignore[arg-type]  # noqa: S608
            if found[0] != size:  # type: ignore[index]
                raise NotAsASet
            return
        touchy = shape.touchy(columns)
        update = sql.update(stage, table, reflected)
        if self._was_changed and not touchy:
            changed = [r[0] for r in self._cursor.execute(update).fetchall()]  # type: ignore[arg-type]
            if len(changed) != size:
                self._look(stage, ops, columns, [], size, expected=[])
        else:
            changed = self._look(stage, ops, columns, touchy, size, expected=None)
            if changed:
                returned = [r[0] for r in self._cursor.execute(update).fetchall()]  # type: ignore[arg-type]
                if set(returned) != set(changed):
                    raise NotAsASet
        self._was_changed = 2 * len(changed) > size
        for op in changed:
            outcomes.kinds[op if rows is None else rows[op]] = UPDATED

    def _look(self, stage: str, ops: Ops, columns: Sequence[str], touchy: Sequence[str], size: int, expected: list[int] | None) -> list[int]:
        """See which staged rows differ. All must be there, and those that differ must be the expected ones, if any are expected."""
        table = ops.entity.table
        look = sql.look(stage, table, [table.columns[c] for c in columns], [table.columns[c] for c in touchy])
        there, differing, touches = self._cursor.execute(look).fetchone()  # type: ignore[arg-type, misc]
        if there != size or touches or (expected is not None and (differing or []) != expected):
            raise NotAsASet
        return differing or []

    def _delete(self, ops: Ops, outcomes: Outcomes) -> None:
        rows = [op for op, kind in enumerate(ops.kinds) if kind == DELETE]
        doomed = _only(ops, rows)
        stage = self._fill(doomed, ())
        gone = self._cursor.execute(sql.delete(stage, ops.entity.table)).fetchall()  # type: ignore[arg-type]
        if len(gone) != len(rows):
            raise NotAsASet
        _put(outcomes, rows, DELETED, self._ids(doomed))

    @staticmethod
    def _ids(ops: Ops) -> list[str]:
        if not ops.entity.table.primary_key:
            return [""] * len(ops)
        return [",".join(found) if len(found) > 1 else found[0] for found in ops.found]  # type: ignore[arg-type, misc]

    def _stage(self, ops: Ops, columns: tuple[str, ...]) -> str:
        table = ops.entity.table
        return self._make("stage", lambda name: sql.stage_table(name, table, [table.columns[c] for c in columns]))

    def _fill(self, ops: Ops, columns: tuple[str, ...]) -> str:
        """Stage the ops' locators and these columns' values."""
        stage = self._stage(ops, columns)
        by_name = {w.column.name: w for w in ops.written}
        texts: list[Sequence[Any]] = [list(map(str, range(len(ops))))]
        texts += [list(part) for part in zip(*ops.found, strict=True)]  # type: ignore[arg-type]
        texts += [self._staged(by_name[c]) for c in columns]
        self._copy_into(stage, texts)
        return stage

    def _staged(self, written: Written) -> Text:
        """Return a column's values as an update is to have them: evaluated defaults where the rule says so."""
        if written.on_update != "default" or not written.empties:
            return written.values
        values = list(written.values)
        drawn = self._draw(written.column.default or "NULL", len(written.empties))
        for op, value in zip(sorted(written.empties), drawn, strict=True):
            values[op] = value
        return values

    def _copy_into(self, stage: str, columns: list[Sequence[Any]]) -> None:
        if stage in self._used:
            self._cursor.execute(f"TRUNCATE {stage}")  # type: ignore[arg-type]
        self._used.add(stage)
        with self._cursor.copy(f"COPY {stage} FROM STDIN") as stream:  # type: ignore[arg-type]
            stream.write(encode(columns))

    def _make(self, what: str, statement: Any) -> str:
        """Make a temporary table or function once for each distinct definition; return its name."""
        definition = statement("pg_temp.x")
        if definition not in self._made:
            self._number += 1
            name = f"pg_temp.lading_{what}_{self._number}"
            self._cursor.execute(statement(name).replace("CREATE TEMP TABLE pg_temp.", "CREATE TEMP TABLE "))
            self._made[definition] = name
            self._new.append(definition)
        return self._made[definition]

    # One by one -----------------------------------------------------------------------------------------------------
    def _write_repeated(self, ops: Ops, outcomes: Outcomes) -> None:
        """Take the ops whose identity came before in the block, after the others: they can be told apart from nobody else's."""
        rows = [op for op, kind in enumerate(ops.kinds) if kind == LOOK_UP]
        later = self._loop(_only(ops, rows))
        if any(kind == REFUSED for kind in later.kinds):
            raise NotAsASet
        for op, kind, row_id in zip(rows, later.kinds, later.ids, strict=True):
            outcomes.kinds[op], outcomes.ids[op] = kind, row_id  # type: ignore[index]

    def _loop(self, ops: Ops) -> Outcomes:
        """Take the ops one by one inside the server."""
        with self._unless_about_data():
            stage = self._make("stage", lambda name: rowloop.stage(name, ops))
            function = self._make("row_loop", lambda name: rowloop.function(name, stage, ops))
            self._copy_into(stage, rowloop.columns(ops))  # type: ignore[arg-type]
            self._cursor.execute(f"SELECT * FROM {function}() ORDER BY 1")  # type: ignore[arg-type]  # noqa: S608
            rows = self._cursor.fetchall()
        outcomes = Outcomes([REFUSED] * len(ops), [""] * len(ops))
        for op, outcome, row_id, state, message, constraint, column, detail in rows:
            if outcome == REFUSED:
                refused = refusals.Refused(state, message, constraint or "", column or "", detail or "")
                outcomes.faults[op] = [refusals.fault_of(ops, op, refused)]
            elif outcome in (CREATED, UPDATED, UNCHANGED, DELETED):
                outcomes.kinds[op], outcomes.ids[op] = outcome, row_id or ""  # type: ignore[index]
            else:
                outcomes.kinds[op] = SKIPPED if outcome[0] == rowloop.LATE_SKIPPED else REFUSED
                outcomes.faults[op] = [refusals.fault_of_outcome(self, ops, op, outcome)]
        return outcomes


def _refused(error: psycopg.Error) -> refusals.Refused:
    diag = error.diag
    return refusals.Refused(
        error.sqlstate or "", diag.message_primary or str(error), diag.constraint_name or "", diag.column_name or "", diag.message_detail or ""
    )


def _put(outcomes: Outcomes, rows: list[int] | None, kind: str, ids: Sequence[str]) -> None:
    """Enter one kind of outcome for these ops (None: all)."""
    if rows is None:
        outcomes.kinds, outcomes.ids = [kind] * len(ids), list(ids)
        return
    for op, row_id in zip(rows, ids, strict=True):
        outcomes.kinds[op], outcomes.ids[op] = kind, row_id  # type: ignore[index]


def _only(ops: Ops, rows: list[int] | None) -> Ops:
    """Narrow ops to some of them; None: all."""
    if rows is None or len(rows) == len(ops):
        return ops
    chosen = set(rows)
    keep = [op in chosen for op in range(len(ops))]
    new = {old: now for now, old in enumerate(rows)}

    def narrow(column: Text) -> list:
        return list(compress(column, keep))

    written = [
        Written(
            w.column, narrow(w.values), frozenset(new[op] for op in w.empties if op in new), w.on_insert, w.on_update, w.is_masked, w.is_key
        )
        for w in ops.written
    ]
    late = [type(x)(x.lookup, [narrow(k) for k in x.keys], x.written) for x in ops.late]
    return Ops(
        ops.entity, ops.action, narrow(ops.kinds), [narrow(k) for k in ops.keys], narrow(ops.found), written, late, ops.is_strict,
        ops.waits_for_commit,
    )  # fmt: skip
