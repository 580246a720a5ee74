"""Where in a control file something stands, what is wrong there, and what its names mean in the target."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping as Map, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Protocol

from engine.tables import ForeignKey, Table, Tables, fold, matches
from errors import Problem, nearest

# Finding the nearest names takes its time; beyond so many faults their user needs the first ones, not more hints.
MAX_HINTS = 200
_REFERENCE_SUFFIX = re.compile(r"(_id|_code|Id|Code)$")


Path = tuple[str | int, ...]


class Document(Protocol):
    """A control file whose shape is right, or what is left of one that has faults of form: see schemas.control.Document."""

    @property
    def data(self) -> Map[str, Any]:
        """The document as plain data."""

    @property
    def problems(self) -> Sequence[Problem]:
        """The faults of form."""

    @property
    def faulty(self) -> Set[Path]:
        """Where these are; there the data is only filled in, and what depends on it must not be called a fault."""

    def problem(self, path: Sequence[str | int], message: str, allowed: Sequence[str] = ()) -> Problem:
        """Return a problem with what stands at the path."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the document: its value, and where faults found there are put."""

    document: Document
    problems: list[Problem]
    value: Any
    path: Path = ()

    def at(self, *steps: str | int) -> Place:
        """Return a place below; its value is None where there is nothing."""
        value = self.value
        for step in steps:
            value = value.get(step) if isinstance(value, dict) else None if value is None else value[step]
        return Place(self.document, self.problems, value, (*self.path, *steps))

    def each(self) -> list[Place]:
        """Return the places of a list's items."""
        return [self.at(index) for index in range(len(self.value))]

    def entries(self) -> list[tuple[str, Place]]:
        """Return the names and places of a map's entries."""
        return [(name, self.at(name)) for name in self.value]

    def fault(self, message: str, name: str = "", names: Iterable[str] = ()) -> None:
        """Say what is wrong here; `names` are those allowed instead of `name`."""
        allowed = nearest(name, names) if len(self.problems) < MAX_HINTS else ()
        self.problems.append(self.document.problem(self.path, message, allowed))

    @property
    def is_faulty(self) -> bool:
        """Whether the form of something here, or of all around it, is wrong, so that nothing more can be said of it."""
        return any(path[: len(self.path)] == self.path[: len(path)] for path in self.document.faulty)

    @property
    def line(self) -> int | None:
        """The line of the document."""
        return self.document.problem(self.path, "").line


def named(name: str, names: Iterable[str]) -> list[str]:
    """Return those of the names that may be meant: that very name, else those alike but for case and underscores."""
    names = list(names)
    if name in names:
        return [name]
    return [other for other in names if fold(other) == fold(name)]


def pick(place: Place, name: str, names: Iterable[str], what: str) -> str | None:
    """Return the one name that is meant; say so where there is none, or more than one."""
    names = list(names)
    found = named(name, names)
    if len(found) == 1:
        return found[0]
    if found:
        place.fault(f"'{name}' may mean several {what}; write it as it is", name, found)
    else:
        place.fault(f"there is no {what} '{name}'", name, names)
    return None


@dataclass(slots=True)
class Target:
    """The target's tables, and the names that this control file gives them."""

    tables: Tables
    dialect: str
    entities: dict[tuple[str | None, str], list[str]] = field(default_factory=dict)  # the names and aliases of each table's entities
    are_all_named: bool = True  # no entity's name is at fault, so that one which is not found is not there
    unplaced: list[str] = field(default_factory=list)  # the folded names of entities whose table is not known

    def get(self, schema: str | None, name: str) -> Table | None:
        """Return one table, or None where it cannot be seen."""
        try:
            return self.tables.get(schema, name)
        except KeyError:
            return None

    def table(self, place: Place, name: str) -> Table | None:
        """Return the table that the name means; say so where there is none, or more than one."""
        found = matches(self.tables, name)
        if len(found) > 1:
            place.fault(f"'{name}' may mean several tables; name one of them by `table`", name, map(table_text, found))
            return None
        table = self.get(*found[0]) if found else None
        if table is None:
            place.fault(f"there is no table '{name}'", name, (table_text(key) for key in self.tables.names()))
        return table

    def names_of(self, table: Table) -> list[str]:
        """Return what a control file may call a table: the names of its entities, and its own."""
        return [*self.entities.get(table.key, ()), table.name]

    def is_called(self, table: Table, name: str) -> bool:
        """Say whether the name is one of the table's."""
        return fold(name) in map(fold, self.names_of(table))

    def references(self, table: Table, name: str) -> list[tuple[ForeignKey, Table]]:
        """Return the foreign keys that the name may mean: by their column, with or without its ending, else by what they refer to."""
        wanted = fold(name)
        single = [fk for fk in table.foreign_keys if len(fk.columns) == 1]
        by_column = [fk for fk in single if wanted in (fold(fk.columns[0]), fold(reference_name(fk.columns[0])))]
        found: dict[object, tuple[ForeignKey, Table]] = {}
        for fk in by_column or table.foreign_keys:
            other = self.get(fk.schema, fk.table)
            if other is not None and (by_column or self.is_called(other, name)):
                found.setdefault((fk.columns, other.key), (fk, other))
        return list(found.values())


def reference_name(column: str) -> str:
    """Return what a foreign key's column calls what it refers to.

    >>> reference_name("resource_id"), reference_name("originCode"), reference_name("dest")
    ('resource', 'origin', 'dest')
    """
    return _REFERENCE_SUFFIX.sub("", column) or column


def table_text(key: tuple[str | None, str]) -> str:
    """Write a table's key as a control file names it.

    >>> table_text(("sales", "orders")), table_text((None, "orders"))
    ('sales.orders', 'orders')
    """
    return key[1] if key[0] is None else f"{key[0]}.{key[1]}"
