"""The row loop: ops one by one, in order, inside the server.

A function of ours (in pg_temp, so it lives as long as the connection) walks over the staged ops. Each runs in a block of its own, so
that one refused row undoes only itself. Values are staged as text and cast there: a cast that fails is that row's fault. Nothing goes
back and forth between the rows, which makes this several times faster than statements from the client.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.ops import UNCHANGED, UPDATE, Late, Ops, Written
from engine.plan import Action, Lookup, Missing
from engine.tables import Kind, Table, quote
from engine.target.postgresql.sql import changes, differs, joined, locator, results_of

# What the function returns as `outcome`, beside the kinds of engine.ops.
FORBIDDEN_FOUND, FORBIDDEN_ABSENT, AMBIGUOUS, NOT_WRITTEN, VANISHED = "F", "A", "2", "N", "V"
LATE_MISSING, LATE_AMBIGUOUS, LATE_SKIPPED = "M", "W", "S"  # followed by the number of the look-up

# Classes of SQLSTATE that say nothing of the row: the connection, the transaction, resources, the server itself.
FATAL = ("08", "25", "26", "28", "34", "3D", "40", "53", "55", "57", "58", "F0", "XX")


def is_about_data(state: str) -> bool:
    """Say whether an SQLSTATE is the record's fault, rather than the end of the attempt.

    >>> is_about_data("23505"), is_about_data("40001"), is_about_data("42501"), is_about_data("42P01")
    (True, False, True, False)
    """
    return state == "42501" or (state[:2] not in FATAL and state[:2] != "42")


def stage(name: str, ops: Ops) -> str:
    """Make the staging table: everything as text."""
    fields = ["o integer", "op text", *(f"l{n} text" for n in range(1, len(locator(ops.entity.table)) + 1))]
    fields += [f"q{n} text" for n in range(1, len(ops.keys) + 1)]
    for n in range(1, len(ops.written) + 1):
        fields += [f"v{n} text", f"e{n} boolean"]
    for n, late in enumerate(ops.late, 1):
        fields += [f"y{n}_{p} text" for p in range(1, len(late.keys) + 1)]
    return f"CREATE TEMP TABLE {name} ({', '.join(fields)}) ON COMMIT DELETE ROWS"


def columns(ops: Ops) -> list[Sequence[Any]]:
    """Return the ops as the columns of the staging table."""
    size = len(ops)
    out: list[Sequence[Any]] = [list(map(str, range(size))), [UPDATE if kind == UNCHANGED else kind for kind in ops.kinds]]
    for n in range(len(locator(ops.entity.table))):
        out.append([None if f is None else f[n] for f in ops.found])
    out += [list(part) for part in ops.keys]
    for written in ops.written:
        out += [list(written.values), ["t" if op in written.empties else "f" for op in range(size)]]
    for late in ops.late:
        out += [list(part) for part in late.keys]
    return out


def _value(n: int, written: Written, how: str) -> str:
    """Return the n-th column's value as SQL; `how` is what an empty cell does here."""
    value = f"r.v{n}::{written.column.cast_type}"
    if how == "null":
        return value
    if how == "keep":
        return f"CASE WHEN r.e{n} THEN t.{quote(written.column.name)} ELSE {value} END"
    return f"CASE WHEN r.e{n} THEN ({written.column.default or 'NULL'}) ELSE {value} END"


def _find(lookup: Lookup, value: str, into: list[str], counter: str) -> str:
    """Count up to two rows that the key names, and take over the last one's results."""
    joins, conditions = joined(lookup, value)
    takes = " ".join(f"{name} := f.c{n};" for n, name in enumerate(into, 1))
    aliases = ", ".join(f"{column} AS c{n}" for n, column in enumerate(results_of(lookup), 1))
    return (
        f"{counter} := 0; FOR f IN SELECT {aliases} FROM {lookup.table.quoted} t{joins} WHERE {conditions} LIMIT 2 "
        f"LOOP {counter} := {counter} + 1; {takes} END LOOP;"
    )


def _late(n: int, late: Late) -> str:
    """Make one late look-up: fill its columns, or end the row as `missing` says."""
    keys_given = " AND ".join(f"r.y{n}_{p} IS NOT NULL" for p in range(1, len(late.keys) + 1))
    into = [f"r.v{w + 1}" for w in late.written]
    if late.lookup.missing is Missing.CLEAR:
        absent = "NULL;"
    else:
        is_skip = late.lookup.missing is Missing.SKIP
        absent = f"outcome := coalesce(outcome, '{LATE_SKIPPED}{n}');" if is_skip else f"outcome := '{LATE_MISSING}{n}';"
    # A record that is to be skipped is at fault all the same where another look-up fails.
    return f"""
   IF (outcome IS NULL OR left(outcome, 1) = '{LATE_SKIPPED}') AND {keys_given} THEN
    {_find(late.lookup, f"r.y{n}_{{}}", into, "n")}
    IF n > 1 THEN outcome := '{LATE_AMBIGUOUS}{n}'; ELSIF n = 0 THEN {absent} END IF;
   END IF;"""


def _identify(ops: Ops) -> str:
    """Look an op up at its turn, and decide as engine.ops.decide does."""
    if not ops.keys or ops.entity.identity is None:
        return ""
    into = [f"r.l{n}" for n in range(1, len(locator(ops.entity.table)) + 1)]
    found = {Action.INSERT: f"outcome := '{FORBIDDEN_FOUND}'", Action.DELETE: "r.op := 'D'"}.get(ops.action, "r.op := 'U'")
    absent = f"outcome := '{FORBIDDEN_ABSENT}'" if ops.action in (Action.UPDATE, Action.DELETE) else "r.op := 'I'"
    return f"""
   IF outcome IS NULL AND r.op = 'L' THEN
    {_find(ops.entity.identity, "r.q{}", into, "n")}
    IF n > 1 THEN outcome := '{AMBIGUOUS}'; ELSIF n = 1 THEN {found}; ELSE {absent}; END IF;
   END IF;"""


def _id(table: Table, alias: str = "") -> str:
    parts = [f"{alias}{name}::text" for name, _ in locator(table)]
    if not table.primary_key:
        return "''"
    return parts[0] if len(parts) == 1 else f"concat_ws(',', {', '.join(parts)})"


def _at(table: Table) -> str:
    equals = "IS NOT DISTINCT FROM" if table.is_view else "="
    return " AND ".join(f"t.{name} {equals} r.l{n}::{_cast(table, name, kind)}" for n, (name, kind) in enumerate(locator(table), 1))


def _cast(table: Table, name: str, kind: str) -> str:
    return table.columns[name[1:-1].replace('""', '"')].cast_type if name.startswith('"') else kind


def _insert(ops: Ops) -> str:
    table = ops.entity.table
    names = ", ".join(quote(w.column.name) for w in ops.written)
    overriding = "OVERRIDING SYSTEM VALUE " if any(c.identity for c in table.columns.values()) else ""
    values = ", ".join(_value(n, w, w.on_insert) for n, w in enumerate(ops.written, 1))
    into = f"({names}) {overriding}VALUES ({values})" if ops.written else "DEFAULT VALUES"
    returning = f"RETURNING {_id(table)} INTO row_id" if table.primary_key else ""
    return f"""
     INSERT INTO {table.quoted} {into} {returning};
     GET DIAGNOSTICS n = ROW_COUNT;
     outcome := CASE WHEN n = 1 THEN 'c' ELSE '{NOT_WRITTEN}' END;"""


def _vanished(ops: Ops) -> str:
    """A row that somebody deleted since it was looked up: look again, once."""
    again = "IF attempt = 1 THEN r.op := 'L'; CONTINUE; END IF; " if ops.keys else ""
    return f"{again}outcome := '{VANISHED}';"


def _update(ops: Ops) -> str:
    table = ops.entity.table
    at = _at(table)
    if not ops.written:
        return f"PERFORM 1 FROM {table.quoted} t WHERE {at}; outcome := CASE WHEN FOUND THEN '=' ELSE '{VANISHED}' END;"
    new = ", ".join(f"{_value(n, w, w.on_update)} AS {quote(w.column.name)}" for n, w in enumerate(ops.written, 1))
    sets = ", ".join(f"{quote(w.column.name)} = {_value(n, w, w.on_update)}" for n, w in enumerate(ops.written, 1))
    is_other = differs([w.column for w in ops.written])
    # The values go through the columns' own types before they are compared, as they would when assigned; texts
    # do not, for there an explicit cast would cut what an assignment refuses.
    typed = ", ".join(
        f"s0.{quote(w.column.name)}{'' if w.column.kind is Kind.TEXT else '::' + w.column.sql_type} AS {quote(w.column.name)}"
        for w in ops.written
    )
    seen, into, returning, tell = _telling(ops) if ops.tells_changes else ("", "", "", "")
    return f"""
     SELECT {is_other}{seen} INTO is_other{into} FROM {table.quoted} t, LATERAL (SELECT {typed} FROM (SELECT {new}) s0) s WHERE {at};
     IF NOT FOUND THEN {_vanished(ops)}
     ELSIF NOT is_other THEN outcome := '=';
     ELSE
      UPDATE {table.quoted} t SET {sets} WHERE {at}{returning};
      GET DIAGNOSTICS n = ROW_COUNT;
      outcome := CASE WHEN n = 1 THEN 'u' ELSE '{NOT_WRITTEN}' END;{tell}
     END IF;"""


def _telling(ops: Ops) -> tuple[str, str, str, str]:
    """Return what an update must do besides to tell what it changes: see both values, take them, take what was written, and say it.

    What was written is what a trigger before the update has made of it; where one record may write several rows, or a rule forbids to
    ask, it is what the record says.
    """
    table = ops.entity.table
    held, given = (f"ARRAY[{', '.join(f'{alias}.{quote(w.column.name)}::text' for w in ops.written)}]" for alias in "ts")
    returning = "" if table.has_rewrites or table.has_children else f" RETURNING {held} INTO given"
    return f", {held}, {given}", ", held, given", returning, f" told := {changes('held', 'given')};"


def _delete(ops: Ops) -> str:
    table = ops.entity.table
    return f"""
     DELETE FROM {table.quoted} t WHERE {_at(table)};
     GET DIAGNOSTICS n = ROW_COUNT;
     outcome := CASE WHEN n = 1 THEN 'd' WHEN EXISTS (SELECT FROM {table.quoted} t WHERE {_at(table)}) THEN '{NOT_WRITTEN}'
      ELSE '{VANISHED}' END;"""


def function(name: str, stage_name: str, ops: Ops) -> str:
    """Return the statement that makes the row loop for ops of this shape."""
    id_of_found = " || ',' || ".join(f"r.l{n}" for n in range(1, len(ops.entity.table.primary_key) + 1)) or "''"
    late = "".join(_late(n, late) for n, late in enumerate(ops.late, 1))
    again = "state = '23505' AND r.op = 'I' AND attempt = 1" if ops.keys else "false"
    told = ", told text" if ops.tells_changes else ""
    fatal = ", ".join(f"'{c}'" for c in (*FATAL, "42"))
    can_insert = ops.action in (Action.INSERT, Action.MERGE)
    return f"""CREATE FUNCTION {name}() RETURNS TABLE(
 o integer, outcome text, row_id text, state text, message text, constraint_name text, column_name text, detail text{told})
LANGUAGE plpgsql AS $lading$
#variable_conflict use_column
DECLARE r record; f record; n integer; is_other boolean; attempt integer; held text[]; given text[];
BEGIN
 FOR r IN SELECT * FROM {stage_name} x ORDER BY x.o LOOP
  o := r.o; row_id := NULL; state := NULL; message := NULL; constraint_name := NULL; column_name := NULL; detail := NULL;
  attempt := 0;
  LOOP
   attempt := attempt + 1;
   outcome := NULL;
   BEGIN{late}{_identify(ops)}
    IF outcome IS NULL THEN
     IF r.op = 'I' THEN {_insert(ops) if can_insert else "NULL;"}
     ELSIF r.op = 'U' THEN row_id := {id_of_found}; {_update(ops)}
     ELSIF r.op = 'D' THEN row_id := {id_of_found}; {_delete(ops)}
     END IF;
    END IF;
    EXIT;
   EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, constraint_name = CONSTRAINT_NAME,
     column_name = COLUMN_NAME, detail = PG_EXCEPTION_DETAIL;
    IF state <> '42501' AND left(state, 2) IN ({fatal}) THEN RAISE; END IF;
    IF {again} THEN
     -- Somebody else may have made this very row since it was looked up: look again, once.
     r.op := 'L';
    ELSE
     outcome := '!'; row_id := NULL;
     EXIT;
    END IF;
   END;
  END LOOP;
  IF outcome <> '!' THEN state := NULL; END IF;
  RETURN NEXT;
 END LOOP;
END $lading$"""
