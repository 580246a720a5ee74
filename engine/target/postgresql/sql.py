"""The SQL that the PostgreSQL session sends, made once for each shape of ops. Every name in it comes from reflection and is quoted."""

from __future__ import annotations

from collections.abc import Sequence

from engine.changes import RECORD_CHARS, VALUE_CHARS
from engine.plan import Lookup
from engine.tables import Column, Kind, Table, quote

_ADDRESS = [("ctid", "tid")]  # names a row of a table without a primary key, within one transaction
_ADDRESS_AMONG_CHILDREN = [("tableoid", "oid"), *_ADDRESS]


def locator(table: Table) -> list[tuple[str, str]]:
    """Return (column as SQL, its type) of what names one row: the primary key, else the row's address (its content, in a view)."""
    if table.is_view:
        # Nothing else names a row of a view than all that it holds.
        return [(quote(name), column.sql_type) for name, column in table.columns.items() if column.is_exact]
    if not table.primary_key:
        return _ADDRESS_AMONG_CHILDREN if table.has_children else _ADDRESS
    return [(quote(name), table.columns[name].sql_type) for name in table.primary_key]


def is_indexed(lookup: Lookup) -> bool:
    """Say whether a unique index serves the look-up's own columns, so that probing it key by key is the way."""
    own = {part.column.name for part in lookup.parts if not part.path}
    own |= {name for part in lookup.parts if part.path for name in part.path[0].foreign_key.columns}
    return any(u.columns and not u.is_partial and set(u.columns) <= own for u in lookup.table.uniques)


def results_of(lookup: Lookup) -> list[str]:
    """Return the select list of a look-up: its results as text."""
    columns = [quote(c.name) for c in lookup.results] or [name for name, _ in locator(lookup.table)]
    return [f"t.{c}::text" for c in columns]


def find_by_any(lookup: Lookup) -> str:
    """Find rows of a single-column key whose text is its identity: (key, results...) of those that exist."""
    column = lookup.parts[0].column
    name = f"t.{quote(column.name)}"
    results = ", ".join(results_of(lookup))
    return f"SELECT {name}::text, {results} FROM {lookup.table.quoted} t WHERE {name} = ANY (%s::text[]::{column.cast_type}[])"


def is_by_any(lookup: Lookup) -> bool:
    """Say whether rows can be found by an array of keys: one column, whose text is its identity."""
    return len(lookup.parts) == 1 and not lookup.parts[0].path and lookup.parts[0].column.is_text_identity


def find_whole(lookup: Lookup, columns: Sequence[Column]) -> str:
    """Find rows as find_by_any does: (results..., key, columns...), all as text."""
    column = lookup.parts[0].column
    name = f"t.{quote(column.name)}"
    listed = ", ".join([*results_of(lookup), *(f"t.{quote(c.name)}::text" for c in (column, *columns))])
    return f"SELECT {listed} FROM {lookup.table.quoted} t WHERE {name} = ANY (%s::text[]::{column.cast_type}[])"


def joined(lookup: Lookup, value: str) -> tuple[str, str]:
    """Return the joins along the parts' paths and the condition that the key is equal; `value` formats the n-th part's text."""
    joins, conditions = [], []
    for n, part in enumerate(lookup.parts, 1):
        alias = "t"
        for depth, step in enumerate(part.path, 1):
            to = f"j{n}_{depth}"
            on = [
                f"{to}.{quote(theirs)} = {alias}.{quote(ours)}"
                for ours, theirs in zip(step.foreign_key.columns, step.foreign_key.referenced_columns, strict=True)
            ]
            joins.append(f" JOIN {step.table.quoted} {to} ON {' AND '.join(on)}")
            alias = to
        conditions.append(f"{alias}.{quote(part.column.name)} = {value.format(n)}::{part.column.cast_type}")
    return "".join(joins), " AND ".join(conditions)


def find_by_ordinal(lookup: Lookup) -> str:
    """Find rows of any key by the database's own equality: (ordinal from 1, results...)."""
    names = [f"a{n}" for n in range(1, len(lookup.parts) + 1)]
    joins, conditions = joined(lookup, "k.a{}")
    arrays = ", ".join(["%s::text[]"] * len(names))
    return (
        f"SELECT k.o, {', '.join(results_of(lookup))} FROM unnest({arrays}) WITH ORDINALITY AS k({', '.join(names)}, o), "
        f"{lookup.table.quoted} t{joins} WHERE {conditions}"
    )


def same(lookup: Lookup) -> str:
    """Number each key row by the first one that is equal to it: (ordinal, first ordinal)."""
    names = [f"a{n}" for n in range(1, len(lookup.parts) + 1)]
    arrays = ", ".join(["%s::text[]"] * len(names))
    parts = []
    for name, part in zip(names, lookup.parts, strict=True):
        collate = f" COLLATE {part.column.collation}" if part.column.collation else ""
        parts.append(f"(k.{name}::{part.column.cast_type}){collate}")
    return f"SELECT k.o, min(k.o) OVER (PARTITION BY {', '.join(parts)}) FROM unnest({arrays}) WITH ORDINALITY AS k({', '.join(names)}, o)"


def comparable(column: Column, alias: str) -> str:
    """Return a column for a byte-exact comparison: as text where the type's own equality is loose or absent."""
    name = f"{alias}.{quote(column.name)}"
    return name if column.is_exact else f'{name}::text COLLATE "C"'


def differs(columns: Sequence[Column], stage: str = "s") -> str:
    """Return the condition that a row of `t` is not what the stage says."""
    ours = ", ".join(comparable(c, "t") for c in columns)
    staged = ", ".join(comparable(c, stage) for c in columns)
    return f"(({ours}) IS DISTINCT FROM ({staged}))" if len(columns) == 1 else f"(ROW({ours}) IS DISTINCT FROM ROW({staged}))"


def stage_table(name: str, table: Table, columns: Sequence[Column]) -> str:
    """Make the typed staging table of an UPDATE or DELETE."""
    fields = ["o integer", *(f"l{n} {kind}" for n, (_, kind) in enumerate(locator(table), 1))]
    fields += [f"{quote(c.name)} {c.sql_type}{collate(c)}" for c in columns]
    return f"CREATE TEMP TABLE {name} ({', '.join(fields)}) ON COMMIT DELETE ROWS"


def collate(column: Column) -> str:
    """Return the collation of a column of a temporary table, as it must be declared."""
    return f" COLLATE {column.collation}" if column.collation and column.kind is Kind.TEXT else ""


def on_locator(table: Table) -> str:
    """Return the condition that joins the stage `s` to the table `t`."""
    return " AND ".join(f"t.{name} = s.l{n}" for n, (name, _) in enumerate(locator(table), 1))


def look(stage: str, table: Table, columns: Sequence[Column], touchy: Sequence[Column]) -> str:
    """Look at the rows to update: how many there are, which differ, and whether a column of another unique constraint would change."""
    touches = f"coalesce(bool_or({differs(touchy)}), false)" if touchy else "false"
    return (
        f"SELECT count(*), array_agg(s.o) FILTER (WHERE {differs(columns)}), {touches} "
        f"FROM {stage} s JOIN {table.quoted} t ON {on_locator(table)}"
    )


def update(stage: str, table: Table, columns: Sequence[Column]) -> str:
    """Update the rows that differ, returning the numbers of their ops."""
    sets = ", ".join(f"{quote(c.name)} = s.{quote(c.name)}" for c in columns)
    return f"UPDATE {table.quoted} t SET {sets} FROM {stage} s WHERE {on_locator(table)} AND {differs(columns)} RETURNING s.o"


def changing(stage: str, table: Table, columns: Sequence[Column]) -> str:
    """Tell what an update is about to change: (number of the op, its changes) of the rows that differ."""
    held, given = (f"ARRAY[{', '.join(f'{alias}.{quote(c.name)}::text' for c in columns)}]" for alias in "ts")
    return f"SELECT s.o, {changes(held, given)} FROM {stage} s JOIN {table.quoted} t ON {on_locator(table)} WHERE {differs(columns)}"


def changes(held: str, given: str) -> str:
    """Return what differs between two arrays of texts: JSON, how many do, and of the first ones [number from 1, old, new], texts cut."""
    a, b = (f"left(u.{name}, {VALUE_CHARS + 1})" for name in "ab")
    return (
        "(SELECT json_build_array(count(*), "
        f"coalesce(json_agg(json_build_array(x.i, x.a, x.b) ORDER BY x.i) FILTER (WHERE x.size <= {RECORD_CHARS}), '[]'))::text "
        f"FROM (SELECT u.i, {a} AS a, {b} AS b, sum(coalesce(length({a}), 0) + coalesce(length({b}), 0)) OVER (ORDER BY u.i) AS size "
        f"FROM unnest({held}, {given}) WITH ORDINALITY AS u(a, b, i) WHERE u.a IS DISTINCT FROM u.b) x)"
    )


def delete(stage: str, table: Table) -> str:
    """Delete the staged rows, returning the numbers of their ops."""
    return f"DELETE FROM {table.quoted} t USING {stage} s WHERE {on_locator(table)} RETURNING s.o"
