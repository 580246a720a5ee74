"""What has changed in the target's tables since a control file was checked against them.

A *shape* is what a control file needs to know of the tables that it writes or looks into, as JSON can hold it. It is kept beside the
control file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from engine.plan import EntityPlan, Lookup, Plan
from engine.tables import Column, Table, Tables
from errors import ControlFileInvalid, DigestUnknown, Problem

MOST_SECONDS = 5.0  # that all control files are looked at for; those left over are not told of
MOST = 200  # control files

Shape = Mapping[str, Any]


class Seen(Protocol):
    """A control file that is in use, as the catalog knows it."""

    @property
    def name(self) -> str:
        """The name that points to it."""

    @property
    def digest(self) -> str:
        """Its digest."""

    @property
    def shape(self) -> Shape | None:
        """The tables as it was last checked against them; None where that is not known."""

    @property
    def checked_at(self) -> datetime | None:
        """When that was."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is not as it was."""

    table: str
    column: str  # empty where it is the whole table
    what: str  # table_gone, column_gone, type_changed, column_required (which was not, or was not there)
    was: str = ""
    now: str = ""

    def __str__(self) -> str:
        said = {
            "table_gone": f"the table {self.table} is gone",
            "column_gone": f"{self.table}.{self.column} is gone",
            "type_changed": f"{self.table}.{self.column} was {self.was} and is {self.now}",
            "column_required": f"{self.table}.{self.column} must have a value now",
        }
        return said[self.what]


@dataclass(frozen=True, slots=True)
class Standing:
    """How a control file stands to the target as it is."""

    name: str
    digest: str
    checked_at: datetime | None
    faults: tuple[Problem, ...]  # with which it would be refused now
    changes: tuple[Change, ...]


def standings(
    seen: Iterable[Seen], text_of: Callable[[str], bytes], compiled: Callable[[bytes], Plan], tables: Tables
) -> tuple[list[Standing], bool]:
    """Look at control files one after another; also return whether there was time for all of them."""
    found: list[Standing] = []
    until = time.monotonic() + MOST_SECONDS
    for one in seen:
        if time.monotonic() > until:
            return found, False
        faults: tuple[Problem, ...] = ()
        try:
            compiled(text_of(one.digest))
        except ControlFileInvalid as invalid:
            faults = tuple(invalid.problems)
        except DigestUnknown:
            faults = (Problem("its bytes are no longer there"),)
        found.append(Standing(one.name, one.digest, one.checked_at, faults, tuple(changes(one.shape, tables) if one.shape else ())))
    return found, True


def shape_of(plan: Plan) -> dict[str, Any]:
    """Return the tables that a plan writes, with all their columns, and those that it looks into, with the columns by which it does.

    [{"schema", "table", "is_written", "columns": {name: [type, whether it must be given]}}, ...]
    """
    entities = {id(entity): entity for entity in plan.entities.values()}.values()
    written = {entity.table.key: entity.table for entity in entities}
    shapes = [_shape(table, table.columns, is_written=True) for table in written.values()]
    looked_into: dict[tuple[str | None, str], tuple[Table, set[str]]] = {}
    for lookup in (lookup for entity in entities for lookup in _lookups(entity)):
        for table, column in _read_by(lookup):
            if table.key not in written:
                looked_into.setdefault(table.key, (table, set()))[1].add(column)
    shapes += [_shape(table, sorted(names), is_written=False) for table, names in looked_into.values()]
    return {"tables": shapes}


def _lookups(entity: EntityPlan) -> Iterator[Lookup]:
    yield from ([entity.identity] if entity.identity else [])
    yield from (mapping.lookup for mapping in entity.mappings if mapping.lookup)


def _read_by(lookup: Lookup) -> Iterator[tuple[Table, str]]:
    yield from ((lookup.table, column.name) for column in lookup.results)
    for part in lookup.parts:
        tables = [lookup.table, *(step.table for step in part.path)]
        yield tables[-1], part.column.name
        for table, step in zip(tables, part.path, strict=False):
            yield from ((table, column) for column in step.foreign_key.columns)


def _shape(table: Table, names: Any, is_written: bool) -> dict[str, Any]:
    columns = {name: [table.columns[name].sql_type, _must_be_given(table, table.columns[name])] for name in names if name in table.columns}
    return {"schema": table.schema, "table": table.name, "is_written": is_written, "columns": columns}


def _must_be_given(table: Table, column: Column) -> bool:
    may_be_left_out = column.is_nullable or column.default is not None or column.identity is not None or column.is_generated
    return not may_be_left_out and column.name != table.rowid_alias


def changes(shape: Shape, tables: Tables) -> list[Change]:
    """Return what has changed since, as far as an import may fail of it; new columns that may be left out are none."""
    found: list[Change] = []
    for was in shape["tables"]:
        name = f"{was['schema']}.{was['table']}" if was["schema"] else was["table"]
        try:
            table = tables.get(was["schema"], was["table"])
        except KeyError:
            found.append(Change(name, "", "table_gone"))
            continue
        found += _changed_columns(name, was, table)
    return found


def _changed_columns(name: str, was: Mapping[str, Any], table: Table) -> Iterator[Change]:
    for column, (sql_type, _) in was["columns"].items():
        if column not in table.columns:
            yield Change(name, column, "column_gone")
        elif table.columns[column].sql_type != sql_type:
            yield Change(name, column, "type_changed", sql_type, table.columns[column].sql_type)
    for column, now in table.columns.items() if was["is_written"] else ():
        if _must_be_given(table, now) and not was["columns"].get(column, ["", False])[1]:
            yield Change(name, column, "column_required")
