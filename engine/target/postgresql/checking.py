"""New rows of which the table's CHECKs refuse some: these are told by evaluating the CHECKs over all of them at once.

A CHECK over a row's own columns comes to the same whatever other rows there are, so that the rows which it refuses can be left out and
all others written as a set: the result is that of the rows one by one, at a fraction of its cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from engine.faults import Fault
from engine.ops import Ops
from engine.tables import Column, Table, quote
from engine.target.postgresql import refusals, sql
from engine.target.postgresql.one_by_one import OneByOne
from engine.target.postgresql.transaction import NotAsASet


@dataclass(frozen=True, slots=True)
class Checks:
    """A table's CHECKs in the order in which the server tries them, as (name, condition), and the columns that they read."""

    conditions: tuple[tuple[str, str], ...]
    columns: frozenset[str]


_CHECK_VIOLATION = "23514"

# Functions and operators of the user's may read what they like: these alone are recorded, the server's own are not.
_READ = """
SELECT c.conname, pg_get_expr(c.conbin, c.conrelid),
  ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)),
  EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_constraint'::regclass AND d.objid = c.oid
    AND d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass))
FROM pg_constraint c
WHERE c.conrelid = %s::regclass AND c.contype = 'c' AND to_jsonb(c) ->> 'conenforced' IS DISTINCT FROM 'false' ORDER BY c.conname"""


class Checking(OneByOne):
    """The part of a session that writes new rows of which CHECKs refuse some."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        """See Transaction."""
        super().__init__(connection)
        self._checks: dict[tuple[str | None, str], Checks | None] = {}  # None: they cannot be told beforehand
        self._refusing: set[tuple[str | None, str]] = set()  # tables whose CHECKs refused some of the last new rows

    def renew(self) -> None:
        """See Session.renew."""
        self._checks.clear()
        self._refusing.clear()

    def _turns_to_checks(self, error: Exception, table: Table) -> bool:
        """Say, after a refusal, whether the rows at fault can be told beforehand; from now on they are."""
        if not isinstance(error, psycopg.errors.CheckViolation) or table.has_children:
            return False
        if table.key in self._refusing:
            # Not told by the CHECKs that were tried: a changed row's, say, or a domain's.
            self._checks[table.key] = None
            self._refusing.discard(table.key)
        elif table.key not in self._checks:
            self._checks[table.key] = self._read_checks(table)
        if self._checks[table.key] is None:
            return False
        self._refusing.add(table.key)
        return True

    def _read_checks(self, table: Table) -> Checks | None:
        with self._unless_about_data():
            found = self._cursor.execute(_READ, (table.quoted,)).fetchall()
        if not found or any(calls_user for *_, calls_user in found):
            return None
        return Checks(tuple((name, condition) for name, condition, *_ in found), frozenset(c for f in found for c in f[2]))

    def _checks_of(self, table: Table, names: Sequence[str]) -> Checks | None:
        """Return the CHECKs by which new rows with these columns are to be told; None where they are likely to be accepted."""
        checks = self._checks[table.key] if table.key in self._refusing else None
        # What the database fills in itself is not known before: such rows, if refused, are taken one by one.
        return checks if checks is not None and checks.columns <= set(names) else None

    def _insert_checked(self, ops: Ops, names: Sequence[str], texts: Sequence[Sequence[Any]], checks: Checks) -> dict[int, Fault]:
        """Insert rows, given as columns of text, but for those that a CHECK refuses; return these by their numbers."""
        table = ops.entity.table
        columns = [table.columns[name] for name in names]
        stage = self._make("new", lambda name: _stage(name, columns))
        self._copy_into(stage, [list(map(str, range(len(ops)))), *texts])
        refused = self._cursor.execute(_sort_out(stage, checks)).fetchall()
        listed = ", ".join(map(quote, names))
        self._cursor.execute(f"INSERT INTO {table.quoted} ({listed}) OVERRIDING SYSTEM VALUE SELECT {listed} FROM {stage}")
        if self._cursor.rowcount != len(ops) - len(refused):
            raise NotAsASet
        names_of_checks = [name for name, _ in checks.conditions]
        return {op: refusals.fault_of(ops, op, refusals.Refused(_CHECK_VIOLATION, "", names_of_checks[n])) for op, n in refused}


_NUMBER = quote("lading number")  # as no column of the user's is called


def _stage(name: str, columns: Sequence[Column]) -> str:
    """Make the staging table: of the very types, so that a value which the table would not take is refused here as it is there."""
    fields = [f"{quote(c.name)} {c.sql_type}{sql.collate(c)}{'' if c.is_nullable else ' NOT NULL'}" for c in columns]
    return f"CREATE TEMP TABLE {name} ({_NUMBER} integer, {', '.join(fields)}) ON COMMIT DELETE ROWS"


def _sort_out(stage: str, checks: Checks) -> str:
    """Take out the rows that a CHECK refuses, returning each one's number and that of the first such CHECK."""
    first = " ".join(f"WHEN NOT ({condition}) THEN {n}" for n, (_, condition) in enumerate(checks.conditions))
    return f"DELETE FROM {stage} WHERE CASE {first} END IS NOT NULL RETURNING {_NUMBER}, CASE {first} END"
