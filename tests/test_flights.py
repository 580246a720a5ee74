"""The flights of New York in 2013, loaded as they are: what is refused is compared with what plain sets say must be.

`make test` takes 20,000 of the flights, `make test-all` all 336,776 too.
"""

from __future__ import annotations

import csv
import random
from collections import Counter
from collections.abc import Container, Iterable
from dataclasses import dataclass
from datetime import datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from bench.flights import CONTROL, TABLES, fetched
from tests.engine_parts import Imported, digest, run_import, sql

Row = dict[str, str]
FACTS = ["carrier", "flight", "tailnum", "origin", "dest", "distance", "sched_dep_time", "sched_arr_time"]
FACTS += ["dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"]
FLIGHTS = 336_776
SIZES = [pytest.param(20_000, id="excerpt"), pytest.param(FLIGHTS, id="all", marks=pytest.mark.slow)]


@dataclass
class Flights:
    """The four files of a batch, as rows of text."""

    url: str
    scratch: Path
    others: dict[str, bytes]
    flights: list[Row]
    planes: set[str]
    airports: set[str]

    def is_refused(self, flight: Row) -> bool:
        """Say whether a flight names an aircraft or an airport that is not there."""
        return bool(self.missing(flight))

    def missing(self, flight: Row) -> set[str]:
        """Return the names of the columns whose reference is missing."""
        wrong = {name for name in ("origin", "dest") if flight[name] not in self.airports}
        return wrong | ({"tailnum"} if flight["tailnum"] != "NA" and flight["tailnum"] not in self.planes else set())

    def load(self, flights: list[Row] | None = None, **options: Any) -> Imported:
        """Import the batch of four files."""
        files = self.others | {"flights.csv": text_of(self.flights if flights is None else flights)}
        return run_import(self.url, CONTROL, files, self.scratch, **options)

    def stored(self) -> set[tuple]:
        """Return the flights that the target holds, as plain values."""
        return {(instant(at), *facts) for at, *facts in sql(self.url, f"SELECT time_hour, {', '.join(FACTS)} FROM flights")}


def text_of(rows: list[Row]) -> bytes:
    """Return rows as a CSV file."""
    out = StringIO(newline="")
    writer = csv.DictWriter(out, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def rows_of(path: Path, chosen: Container[int] | None = None) -> list[Row]:
    """Read a CSV file, or only the rows with the chosen 0-based numbers."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        header = next(rows)
        return [dict(zip(header, row, strict=True)) for n, row in enumerate(rows) if chosen is None or n in chosen]


def instant(value: str | datetime) -> datetime:
    """Return a time as either database gives it."""
    return value if isinstance(value, datetime) else datetime.fromisoformat(value)


def values(flights: Iterable[Row]) -> set[tuple]:
    """Return what a target must hold of these flights."""
    texts = ("carrier", "tailnum", "origin", "dest")
    return {
        (datetime.fromisoformat(f["time_hour"]), *(None if f[n] == "NA" else f[n] if n in texts else int(f[n]) for n in FACTS))
        for f in flights
    }


@pytest.fixture
def flights(target_url: str, tmp_path: Path, size: int) -> Flights:
    """Give the four files, with some or all of the flights in the file's order, and a target with empty tables for them."""
    sql(target_url, TABLES["sqlite" if target_url.startswith("sqlite") else "postgresql"])
    paths = fetched()
    return Flights(
        url=target_url,
        scratch=tmp_path,
        others={name: paths[name].read_bytes() for name in ("airlines.csv", "airports.csv", "planes.csv")},
        flights=rows_of(paths["flights.csv"], set(random.Random(2013).sample(range(FLIGHTS), size))),
        planes={plane["tailnum"] for plane in rows_of(paths["planes.csv"])},
        airports={airport["faa"] for airport in rows_of(paths["airports.csv"])},
    )


def lines_with(imported: Imported, *codes: str) -> list[int]:
    """Return the lines of the flights whose result has one of these codes."""
    return [
        int(r["LineNumber"])
        for r, code in zip(imported.results, imported.codes, strict=True)
        if code in codes and r["File"] == "flights.csv"
    ]


@pytest.mark.parametrize("size", SIZES)
def test_every_line_is_accounted_for(flights: Flights, size: int) -> None:
    """Exactly the flights that name missing aircraft or airports are refused, for what they name; a second load changes nothing (T14)."""
    lines = dict(enumerate(flights.flights, start=2))
    refused = {line: flights.missing(f) for line, f in lines.items() if flights.is_refused(f)}
    assert len(refused) > size / 10

    first = flights.load()

    assert first.state == "completed"
    assert Counter(r["File"] for r in first.results) == {"airlines.csv": 16, "airports.csv": 1458, "planes.csv": 3322, "flights.csv": size}
    assert (first.counts.created, first.counts.errors) == (16 + 1458 + 3322 + size - len(refused), len(refused))
    told = {int(r["LineNumber"]): set(p) for r, p in zip(first.results, first.properties, strict=True) if r["Severity"] == "Error"}
    assert told == refused
    assert lines_with(first, "RecordCreated") == [line for line in lines if line not in refused]
    assert flights.stored() == values(f for line, f in lines.items() if line not in refused)
    for table, count in (("airlines", 16), ("airports", 1458), ("planes", 3322)):
        assert sql(flights.url, f"SELECT count(*) FROM {table}") == [(count,)]

    before = digest(flights.url, "flights")
    versions = sql(flights.url, "SELECT id, xmin::text, ctid::text FROM flights") if flights.url.startswith("postgres") else []
    second = flights.load()

    assert (second.counts.created, second.counts.updated, second.counts.errors) == (0, 0, len(refused))
    assert lines_with(second, "RecordUnchanged") == lines_with(first, "RecordCreated")
    assert digest(flights.url, "flights") == before
    if versions:
        assert sorted(sql(flights.url, "SELECT id, xmin::text, ctid::text FROM flights")) == sorted(versions)


def edited(flights: Flights, chance: random.Random) -> tuple[list[Row], Counter[str], dict[int, str]]:
    """Edit 1,000 of the flights that were loaded; return all flights, how many edits of which kind, and which line was edited how."""
    rows = [dict(f) for f in flights.flights]
    loaded = [n for n, f in enumerate(rows) if not flights.is_refused(f)]
    kinds: dict[int, str] = {}
    for n in chance.sample(loaded, 1000):
        flight, kind = rows[n], chance.choice(["updated", "cleared", "created", "unknown", "garbled"])
        match kind:
            case "updated":
                flight["distance"] = str(int(flight["distance"]) + chance.randrange(1, 500))
            case "cleared":
                flight["sched_dep_time"], flight["dep_delay"] = "0001", "NA" if flight["dep_delay"] != "NA" else "7"
            case "created":
                flight["flight"] = str(10_000 + n)
            case "unknown":
                flight[chance.choice(["origin", "dest"])] = "XXX"
            case "garbled":
                flight["distance"] = f"{flight['distance']} miles"
        kinds[n + 2] = kind
    return rows, Counter(kinds.values()), kinds


@pytest.mark.parametrize("size", SIZES)
def test_a_thousand_edits(flights: Flights, size: int) -> None:
    """Edited rows count the same in a dry run, which changes nothing, in an AllOrNone load, which takes all back, and in a clean one."""
    flights.load()
    before = digest(flights.url, "flights")
    rows, edits, kinds = edited(flights, random.Random(1000))
    refused = sum(map(flights.is_refused, flights.flights)) + edits["unknown"] + edits["garbled"]
    changed = edits["updated"] + edits["cleared"]

    dry = flights.load(rows, mode="dry-run")

    # An edited origin is another key: such a row is refused for it, not for the row that it would change.
    assert (dry.state, dry.counts.created, dry.counts.updated, dry.counts.errors) == ("completed", edits["created"], changed, refused)
    assert dry.counts.skipped == 16 + 1458 + 3322 + size - edits["created"] - changed - refused
    assert digest(flights.url, "flights") == before

    refusal = flights.load(rows, execution="AllOrNone")

    assert (refusal.state, refusal.counts.errors, refusal.counts.unprocessed) == ("failed", refused, dry.counts.records - refused)
    assert lines_with(refusal, "RolledBack") == lines_with(dry, "RecordCreated", "RecordUpdated", "RecordUnchanged")
    assert digest(flights.url, "flights") == before

    good = [f for line, f in enumerate(rows, start=2) if not flights.is_refused(f) and kinds.get(line) != "garbled"]
    kept = {f["flight"] + f["time_hour"] + f["carrier"] for f in good}
    clean = flights.load(good, execution="AllOrNone")

    assert (clean.state, clean.counts.created, clean.counts.updated, clean.counts.errors) == ("completed", edits["created"], changed, 0)
    # Edits that were refused, or made another flight, leave the flight as it was.
    left = (f for f in flights.flights if f["flight"] + f["time_hour"] + f["carrier"] not in kept and not flights.is_refused(f))
    assert flights.stored() == values(good) | values(left)
