"""Statements that run hundreds of times a second: written as expressions, made into text once, and then sent as they are."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, CursorResult
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.expression import ClauseElement

from catalog.database import SCHEMA

_Bind = Callable[[Any], Any] | None


class Prepared:
    """A statement whose text is made once for each kind of database: an expression would cost ten times as much at each execution.

    Results come as the driver gives them: `moment` reads times.
    """

    def __init__(self, statement: ClauseElement) -> None:
        """`statement`: any Core statement without lists of changing length; its parameters are its `bindparam`s."""
        self._statement = statement
        self._made: dict[str, tuple[str, list[tuple[str, Any, _Bind]], bool]] = {}  # by dialect

    def run(self, connection: Connection, **values: Any) -> CursorResult[Any]:
        """Execute it with these parameters."""
        dialect = connection.dialect
        if dialect.name not in self._made:
            self._made[dialect.name] = self._make(dialect)
        text, binds, is_positional = self._made[dialect.name]
        row = {name: values.get(name, fixed) if bind is None else bind(values.get(name, fixed)) for name, fixed, bind in binds}
        return connection.exec_driver_sql(text, tuple(row[name] for name, _, _ in binds) if is_positional else row)

    def _make(self, dialect: Dialect) -> tuple[str, list[tuple[str, Any, _Bind]], bool]:
        compiled: Any = self._statement.compile(dialect=dialect)
        # Only PostgreSQL has the schema (see connect).
        text = compiled.string if dialect.name == "postgresql" else compiled.string.replace(f"{SCHEMA}.", "")
        processors = {name: bind.type.dialect_impl(dialect).bind_processor(dialect) for bind, name in compiled.bind_names.items()}
        binds = [(name, compiled.params[name], processors[name]) for name in compiled.positiontup or processors]
        return text, binds, compiled.positional


def moment(stored: datetime | str) -> datetime:
    """Return a time as the rest of the catalog gives it: aware UTC. SQLite keeps the text of the UTC time."""
    return datetime.fromisoformat(stored).replace(tzinfo=UTC) if isinstance(stored, str) else stored.astimezone(UTC)
