"""Offers: chunks of a run that its holder leaves to others, the run's *hands*. Two tables of ours in a PostgreSQL target.

An offer says where a chunk stands in its file, nothing more. A hand takes it in the very transaction that writes the chunk: it deletes the
offer, writes the rows and the ledger row, and commits all of that or nothing. So an offer whose hand dies is there again by itself, and
nobody has to reckon who held what. The tables are unlogged: after a crash of the server they are empty, and so are all transactions.
All functions take a raw connection or cursor (psycopg, autocommit or in the chunk's transaction).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from engine.reading import Place

_COLUMNS = "chunk, file, first_record, line, resume, positions, next_line"


@dataclass(frozen=True, slots=True)
class Offer:
    """A chunk that is offered."""

    place: Place
    positions: int  # the chunk has so many; a hand that finds another number reads by other settings, and must not write
    next_line: int  # likewise


@dataclass(frozen=True, slots=True)
class Hand:
    """A hand as the run's holder sees it."""

    number: int
    name: str  # of the worker that it belongs to
    beats: int  # how many signs of life it has given
    is_connected: bool  # its session is there


def clear(connection: Any, run: str, fence: int) -> None:
    """Drop the offers of a run under this fence and all before it, and dismiss their hands; also what runs have left that are over."""
    for table in ("offers", "hands"):
        connection.execute(f"DELETE FROM lading.{table} WHERE run = %s AND fence <= %s", (run, fence))
        connection.execute(f"DELETE FROM lading.{table} WHERE NOT EXISTS (SELECT FROM lading.head h WHERE h.run = {table}.run)")


def put(connection: Any, run: str, fence: int, offer: Offer) -> None:
    """Offer a chunk; each at most once under one fence."""
    place = offer.place
    values = (run, fence, place.chunk, place.file, place.first_record, place.line, place.resume, offer.positions, offer.next_line)
    connection.execute(f"INSERT INTO lading.offers (run, fence, {_COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)", values)


_FREE = "SELECT chunk FROM lading.offers WHERE run = %(run)s AND fence = %(fence)s ORDER BY chunk FOR UPDATE SKIP LOCKED"
_DROP = """DELETE FROM lading.offers o USING free
    WHERE o.run = %(run)s AND o.fence = %(fence)s AND o.chunk = free.chunk RETURNING"""


def is_any_free(connection: Any, run: str, fence: int) -> bool:
    """Tell whether a chunk is offered that nobody has taken."""
    return connection.execute(f"{_FREE} LIMIT 1", {"run": run, "fence": fence}).fetchone() is not None


def take(cursor: Any, run: str, fence: int) -> Offer | None:
    """Take the first free offer, in the transaction that is to write its chunk; None where there is none."""
    returned = ", ".join(f"o.{name}" for name in _COLUMNS.split(", "))
    row = cursor.execute(f"WITH free AS MATERIALIZED ({_FREE} LIMIT 1) {_DROP} {returned}", {"run": run, "fence": fence}).fetchone()
    if row is None:
        return None
    chunk, file, first_record, line, resume, positions, next_line = row
    return Offer(Place(file, chunk, first_record, line, resume), positions, next_line)


def withdraw(connection: Any, run: str, fence: int) -> list[int]:
    """Take back all free offers; return their chunks' numbers."""
    found = connection.execute(f"WITH free AS MATERIALIZED ({_FREE}) {_DROP} o.chunk", {"run": run, "fence": fence})
    return [row[0] for row in found.fetchall()]


def lost(connection: Any, run: str, fence: int, chunks: Collection[int]) -> set[int]:
    """Return those of these chunks, all offered once, that are neither on offer (or taken) nor in the ledger, at one instant."""
    query = """SELECT chunk FROM lading.offers WHERE run = %(run)s AND fence = %(fence)s
        UNION SELECT chunk FROM lading.ledger WHERE run = %(run)s AND chunk = ANY(%(chunks)s)"""
    found = connection.execute(query, {"run": run, "fence": fence, "chunks": list(chunks)})
    return set(chunks) - {row[0] for row in found.fetchall()}


# Hands ----------------------------------------------------------------------------------------------------------------------
def join(cursor: Any, run: str, name: str) -> tuple[int, int] | None:
    """Become a hand of a run, on the connection that is to write; return its number and the run's fence. None where the run is over."""
    query = """INSERT INTO lading.hands (run, fence, name, backend, beats)
        SELECT run, fence, %(name)s, pg_backend_pid(), 0 FROM lading.head WHERE run = %(run)s RETURNING number, fence"""
    row = cursor.execute(query, {"run": run, "name": name}).fetchone()
    return None if row is None else (int(row[0]), int(row[1]))


def beat(connection: Any, number: int) -> bool:
    """Give a sign of life; False where the hand was dismissed."""
    return bool(connection.execute("UPDATE lading.hands SET beats = beats + 1 WHERE number = %s", (number,)).rowcount)


def leave(connection: Any, number: int) -> None:
    """Be no hand any more."""
    connection.execute("DELETE FROM lading.hands WHERE number = %s", (number,))


def hands(connection: Any, run: str, fence: int) -> list[Hand]:
    """Return the hands of a run."""
    query = """SELECT h.number, h.name, h.beats, a.pid IS NOT NULL FROM lading.hands h LEFT JOIN pg_stat_activity a ON a.pid = h.backend
        WHERE h.run = %s AND h.fence = %s"""
    return [Hand(*row) for row in connection.execute(query, (run, fence)).fetchall()]


def dismiss(connection: Any, run: str, number: int) -> None:
    """End what a hand that gives no sign of life has open, so that what it took is on offer again."""
    query = """SELECT pg_terminate_backend(a.pid, 5000) FROM lading.hands h JOIN pg_stat_activity a ON a.pid = h.backend
        WHERE h.number = %s AND starts_with(a.application_name, %s)"""
    connection.execute(query, (number, f"lading {run}/"))
    leave(connection, number)
