"""The SQL that the SQLite session sends. Every name in it comes from reflection and is quoted; every value is a parameter."""

from __future__ import annotations

from collections.abc import Sequence

from engine.plan import Lookup
from engine.tables import Column, Kind, Table, quote

KEYS = "temp.lading_keys"  # keys that JSON cannot carry: bytes


def locator(table: Table, identity: Lookup | None) -> list[str]:
    """Return the columns, as SQL, that name one row: the primary key, else the row id, else (a view) what the identity compares."""
    if table.primary_key:
        return [quote(name) for name in table.primary_key]
    if table.rowid_name:
        return [table.rowid_name]
    return [quote(part.column.name) for part in (identity.parts if identity else ()) if not part.path]


def results(lookup: Lookup) -> list[str]:
    """Return the select list of a look-up."""
    return [f"t.{c}" for c in ([quote(c.name) for c in lookup.results] or locator(lookup.table, lookup))]


def has_bytes(lookup: Lookup) -> bool:
    """Say whether some part of the key may be bytes."""
    return any(part.column.kind is Kind.BINARY for part in lookup.parts)


def find(lookup: Lookup) -> str:
    """Find rows of any key by the database's own equality: (ordinal from 0, results...).

    The keys are one parameter, a JSON array of texts or, for several parts, of arrays of texts; or, with bytes, the rows of KEYS.
    """
    size = len(lookup.parts)
    if has_bytes(lookup):
        source = f"SELECT o, {', '.join(f'v{n}' for n in range(size))} FROM {KEYS}"
    elif size == 1:
        source = "SELECT key, value FROM json_each(?)"
    else:
        source = f"SELECT key, {', '.join(f'json_extract(value, {_path(n)})' for n in range(size))} FROM json_each(?)"
    joins, conditions = _joined(lookup)
    # Where a unique index serves, the keys lead; else the planner may read the table once and probe the keys. They are
    # materialized, for otherwise it may read the JSON again for each row of the table.
    order = "CROSS JOIN" if is_indexed(lookup) else "JOIN"
    return (
        f"WITH k(o, {', '.join(f'v{n}' for n in range(size))}) AS MATERIALIZED ({source}) "
        f"SELECT k.o, {', '.join(results(lookup))} FROM k {order} {lookup.table.quoted} t{joins} WHERE {conditions}"
    )


def _path(number: int) -> str:
    return f"'$[{number}]'"


def is_indexed(lookup: Lookup) -> bool:
    """Say whether a unique index serves the look-up's own columns."""
    own = {part.column.name for part in lookup.parts if not part.path}
    return any(u.columns and not u.is_partial and set(u.columns) <= own for u in lookup.table.uniques)


def _joined(lookup: Lookup) -> tuple[str, str]:
    joins, conditions = [], []
    for n, part in enumerate(lookup.parts):
        alias = "t"
        for depth, step in enumerate(part.path):
            to = f"j{n}_{depth}"
            pairs = zip(step.foreign_key.columns, step.foreign_key.referenced_columns, strict=True)
            on = " AND ".join(f"{to}.{quote(theirs)} = {alias}.{quote(ours)}" for ours, theirs in pairs)
            joins.append(f" JOIN {step.table.quoted} {to} ON {on}")
            alias = to
        conditions.append(f"{alias}.{quote(part.column.name)} = k.v{n}")
    return "".join(joins), " AND ".join(conditions)


def typed(columns: Sequence[Column]) -> str:
    """Return column definitions that convert and compare as these columns do, named v0, v1..."""
    return ", ".join(f"v{n} {c.affinity or 'BLOB'}{_collate(c)}" for n, c in enumerate(columns))


def _collate(column: Column) -> str:
    return f" COLLATE {quote(column.collation)}" if column.collation else ""


def insert(table: Table, columns: Sequence[str], returning: Sequence[str] = (), rows: int = 1) -> str:
    """Insert rows, all or none. ABORT, although it is the default, is said: it overrides the ON CONFLICT clauses of the table itself."""
    names = ", ".join(quote(c) for c in columns)
    row = f"({', '.join('?' * len(columns))})"
    into = f"({names}) VALUES {', '.join([row] * rows)}" if columns else "DEFAULT VALUES"
    give = f" RETURNING {', '.join(returning)}" if returning else ""
    return f"INSERT OR ABORT INTO {table.quoted} {into}{give}"


def at(table: Table, identity: Lookup | None) -> str:
    """Return the condition that names one row; its values are the first parameters."""
    return " AND ".join(f"{column} = ?{n}" for n, column in enumerate(locator(table, identity), 1))


def differs(columns: Sequence[Column], values: Sequence[str]) -> str:
    """Return the condition that a row is not, byte for byte, what these values (SQL) say."""
    exact = [quote(c.name) + (" COLLATE BINARY" if c.collation and not c.is_exact else "") for c in columns]
    return " OR ".join(f"{column} IS NOT {value}" for column, value in zip(exact, values, strict=True)) or "0"


def compared(columns: Sequence[Column], values: Sequence[str]) -> list[str]:
    """Return for each column three expressions: whether it differs, what it holds, what it is to hold."""
    return [text for column, value in zip(columns, values, strict=True) for text in (differs([column], [value]), quote(column.name), value)]


def update(table: Table, identity: Lookup | None, columns: Sequence[Column], values: Sequence[str]) -> str:
    """Update one row, if it differs."""
    sets = ", ".join(f"{quote(c.name)} = {value}" for c, value in zip(columns, values, strict=True))
    return f"UPDATE OR ABORT {table.quoted} SET {sets} WHERE {at(table, identity)} AND ({differs(columns, values)})"


def delete(table: Table, identity: Lookup | None) -> str:
    """Delete one row."""
    return f"DELETE FROM {table.quoted} WHERE {at(table, identity)}"
