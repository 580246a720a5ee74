"""The target's tables as data that can be kept in a file, so that control files can be checked where the target cannot be reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from engine.tables import Column, ForeignKey, Kind, Table, Tables, Unique
from errors import LadingError

VERSION = 1
_DIALECTS = ("postgresql", "sqlite")


class SnapshotInvalid(LadingError):
    """A file does not hold the tables of a target as this version writes them."""


@dataclass(frozen=True, slots=True)
class SavedTables:
    """Tables (see engine/tables.py) that were reflected at another time."""

    by_key: dict[tuple[str | None, str], Table]

    def names(self) -> Sequence[tuple[str | None, str]]:
        """Return (schema, name) of every table, in the order in which the target had them."""
        return tuple(self.by_key)

    def get(self, schema: str | None, name: str) -> Table:
        """Return one table; KeyError where there is none."""
        return self.by_key[schema, name]


def dump(tables: Tables, dialect: str) -> dict[str, Any]:
    """Return all tables as what JSON can hold."""
    return {"lading_tables": VERSION, "dialect": dialect, "tables": [asdict(tables.get(*key)) for key in tables.names()]}


def load(data: Any) -> tuple[SavedTables, str]:
    """Return the tables, and the dialect, that `dump` was given; SnapshotInvalid where the data are of another make."""
    if not isinstance(data, dict) or data.get("lading_tables") != VERSION or data.get("dialect") not in _DIALECTS:
        raise SnapshotInvalid("not written by `flask control tables` of this version")
    try:
        tables = [_table(each) for each in data["tables"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SnapshotInvalid(f"not written by `flask control tables` of this version ({error!r})") from error
    return SavedTables({table.key: table for table in tables}), data["dialect"]


def _table(data: Mapping[str, Any]) -> Table:
    made: dict[str, Any] = _frozen(Table, data)
    made["columns"] = {name: _column(column) for name, column in data["columns"].items()}
    made["uniques"] = tuple(Unique(**_frozen(Unique, each)) for each in data["uniques"])
    made["foreign_keys"] = tuple(ForeignKey(**_frozen(ForeignKey, each)) for each in data["foreign_keys"])
    made["referenced_by"] = tuple((schema, name) for schema, name in data["referenced_by"])
    return Table(**made)


def _column(data: Mapping[str, Any]) -> Column:
    made: dict[str, Any] = _frozen(Column, data)
    made["kind"] = Kind(data["kind"])
    made["element"] = None if data["element"] is None else _column(data["element"])
    return Column(**made)


def _frozen(kind: type[Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a class, lists as the tuples that they were; KeyError, TypeError where they are not its fields."""
    if set(data) != {f.name for f in fields(kind)}:
        raise ValueError(f"other fields than those of {kind.__name__}")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
