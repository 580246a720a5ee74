"""The outbox of event handlers: what a run has done to its records, written in the transaction that did it.

One row of the table holds a page of events, as the JSON that receivers get. Whoever delivers moves pages on in the order of their ids: a
record that is changed twice is changed in chunks one of which begins after the other was committed, so its pages have ascending ids.
All functions take a raw connection or cursor (psycopg or sqlite3) and its dialect.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import clock
from engine.ledger import PREFIX, Dialect

Page = tuple[int, str]  # how many events, and the JSON array of them


@dataclass(frozen=True, slots=True)
class StoredPage:
    """A page that waits to be delivered."""

    id: int  # ascending in the order of writing
    run: str
    chunk: int
    part: int  # 0-based in its chunk
    events: int
    body: str  # a JSON array


_COLUMNS = "run, chunk, part, events, body, created_at"
_ADD = {
    dialect: f"INSERT INTO {PREFIX[dialect]}events ({_COLUMNS}) VALUES ({', '.join([mark] * 6)})"
    for dialect, mark in (("postgresql", "%s"), ("sqlite", "?"))
}


def add(cursor: Any, run: str, chunk: int, found: Iterator[Page], dialect: Dialect) -> None:
    """Write a chunk's pages, in the transaction of its rows."""
    now = clock.now()
    moment = now if dialect == "postgresql" else now.isoformat()
    rows = [(run, chunk, part, events, body, moment) for part, (events, body) in enumerate(found)]
    if rows:
        cursor.executemany(_ADD[dialect], rows)


def size(connection: Any, dialect: Dialect) -> int:
    """Return how many events wait in the outbox."""
    return int(connection.execute(f"SELECT coalesce(sum(events), 0) FROM {PREFIX[dialect]}events").fetchone()[0])


def oldest(connection: Any, most: int, dialect: Dialect) -> list[StoredPage]:
    """Return the pages that have waited longest, in the order of their ids."""
    query = f"SELECT id, run, chunk, part, events, body FROM {PREFIX[dialect]}events ORDER BY id LIMIT {most}"
    return [StoredPage(*row) for row in connection.execute(query).fetchall()]


def drop(connection: Any, ids: Sequence[int], dialect: Dialect) -> None:
    """Forget pages that were handed on."""
    connection.execute(f"DELETE FROM {PREFIX[dialect]}events WHERE id IN ({', '.join(map(str, map(int, ids)))})")
