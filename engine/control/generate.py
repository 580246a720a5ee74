"""The control file that a user would start from, made from one table: all columns that can be written, its key, its references."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from engine.control.lookups import CODE
from engine.control.scope import reference_name, table_text
from engine.tables import Column, ForeignKey, Kind, Table, Tables, fold, matches
from errors import Problem, Refusal

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_WORDS = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})


def generated_control(tables: Tables, name: str) -> str:
    """Return a control file for the table that is meant by a name; Refusal 404 where there is none, 400 where it may mean several."""
    table, is_alone = _meant(tables, name)
    return "".join(f"{line}\n" for line in _lines(tables, table, is_alone, {}))


def generated_schema(tables: Tables, name: str) -> str:
    """Return the same for files whose rows name their entity, with the names that other systems give: `CostElement`, `costElementCode`.

    Its name would be that of its one entity.
    """
    table, _ = _meant(tables, name)
    references = {fk.columns[0] for fk in table.foreign_keys if fk.columns[0] not in (_key(table) or ()) and _code(tables, fk)}
    called = {column: f"{_camel(reference_name(column))}Code" if column in references else _camel(column) for column in table.columns}
    # Where two columns would have one name, all keep their own.
    return "".join(f"{line}\n" for line in _lines(tables, table, False, called if len(set(called.values())) == len(called) else {}, True))


def schema_name(table: str) -> str:
    """Return what the generated schema of a table is called.

    >>> schema_name("cost_element")
    'CostElement'
    """
    camel = _camel(table)
    return camel[:1].upper() + camel[1:]


def _camel(name: str) -> str:
    first, *rest = [part for part in name.split("_") if part] or [name]
    return first + "".join(part[:1].upper() + part[1:] for part in rest)


def _meant(tables: Tables, name: str) -> tuple[Table, bool]:
    """Return the table that is meant by a name, and whether that name means it alone."""
    found = matches(tables, name)
    if not found:
        raise Refusal(404, "table_unknown", f"There is no table {name[:80]!r}.")
    if len(found) > 1:
        problem = Problem("Say which.", "table", allowed=tuple(map(table_text, found)))
        raise Refusal(400, "table_ambiguous", f"{name[:80]!r} may mean several tables.", [problem])
    try:
        table = tables.get(*found[0])
    except KeyError:
        raise Refusal(404, "table_unknown", f"There is no table {name[:80]!r}.") from None
    return table, len(matches(tables, found[0][1])) == 1


def _lines(tables: Tables, table: Table, is_alone: bool, called: dict[str, str], names_rows: bool = False) -> Iterator[str]:
    """Yield the lines; `called` are the inputs that are named otherwise than their columns, `names_rows`: each row names its entity."""
    entity = schema_name(table.name) if names_rows else table.name
    key = _key(table)
    inputs = [column.name for column in table.columns.values() if _is_input(table, column, key)]
    references = {fk.columns[0]: code for fk in table.foreign_keys if fk.columns[0] not in (key or ()) and (code := _code(tables, fk))}
    yield f"# Made from the table {table_text(table.key)}. Take out what your files do not have."
    if key is None:
        yield "# It has no unique key by which a row could be found again, so rows are only inserted: what is sent twice is there twice."
    if not names_rows:
        yield "files:"
        yield f"  {_text(table.name + '.csv')}: {{entity: {_text(entity)}, action: {'Merge' if key else 'Insert'}}}"
    yield "entities:"
    yield f"- entity: {_text(entity)}"
    if not is_alone:
        yield f"  table: {_text(table_text(table.key))}"
    yield f"  input: [{', '.join(_text(called.get(name, name)) for name in inputs)}]"
    yield "  mappings:"
    if key is not None and key != table.primary_key:
        yield f"  - id: {_identity(table, key, called)}"
    for name in inputs:
        yield f"  - {_text(name)}:{_converter(table.columns[name], references.get(name), called.get(name, name))}"


def _key(table: Table) -> tuple[str, ...] | None:
    """Return the columns by which people know a row: the primary key, unless the database numbers the rows itself; else a unique key."""
    primary = table.primary_key
    uniques = [u.columns for u in table.uniques if u.columns and not (u.is_primary or u.is_partial or u.has_expressions)]
    if primary and not (len(primary) == 1 and _is_numbered(table, table.columns[primary[0]])):
        return primary
    return min(uniques, key=len, default=primary or None)


def _is_numbered(table: Table, column: Column) -> bool:
    """Tell whether the database gives the column a number of its own where none is sent."""
    return column.identity is not None or table.rowid_alias == column.name or (column.kind is Kind.INTEGER and column.default is not None)


def _is_input(table: Table, column: Column, key: tuple[str, ...] | None) -> bool:
    """Tell whether a file would have the column: not what the database computes, nor a number that it gives."""
    if column.is_generated or column.identity == "always":
        return False
    return not (table.primary_key == (column.name,) and _is_numbered(table, column) and key != table.primary_key)


def _code(tables: Tables, fk: ForeignKey) -> str | None:
    """Return the column by which people name what a foreign key refers to, where that is not the column that it refers to itself."""
    if len(fk.columns) != 1:
        return None
    try:
        table = tables.get(fk.schema, fk.table)
    except KeyError:
        return None
    referred = fk.referenced_columns or table.primary_key
    codes = {
        u.columns[0] for u in table.uniques
        if len(u.columns) == 1 and not (u.is_partial or u.has_expressions) and table.columns[u.columns[0]].kind is Kind.TEXT
    }  # fmt: skip
    chosen = sorted(codes, key=lambda name: (fold(name) != "code", name))
    return chosen[0] if chosen and chosen[0] not in referred else None


def _identity(table: Table, key: tuple[str, ...], called: dict[str, str]) -> str:
    if len(key) == 1:
        return f"{{converter: {{type: {CODE}, input: {_text(called.get(key[0], key[0]))}, column: {_text(key[0])}}}}}"
    labels = {name: json.dumps(f"{table.name}->{name}", ensure_ascii=False) for name in key}
    properties = ", ".join(f"{label}: {_text(called.get(name, name))}" for name, label in labels.items())
    return f"{{converter: {{type: ReferenceLookup, properties: {{{properties}}}}}}}"


def _converter(column: Column, code: str | None, called: str) -> str:
    """Return what a column needs besides its input: the code by which it refers, or the zone that files rarely say."""
    if code is not None:
        return f" {{converter: {{type: {CODE}, input: {_text(called)}, column: {_text(code)}}}}}"
    if column.kind is Kind.TIMESTAMP_TZ:
        return f" {{converter: {{type: DateTime, input: {_text(called)}, timezone: UTC}}}}"
    return f" {{input: {_text(called)}}}" if called != column.name else ""


def _text(name: str) -> str:
    """Write a name as YAML reads it back."""
    return name if _PLAIN.fullmatch(name) and name.lower() not in _WORDS else json.dumps(name, ensure_ascii=False)
