"""Loading the flights of New York and what they refer to, one batch of four files, as they are and without what must be refused."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from bench.databases import Postgres, copy_sqlite
from bench.figures import Figure
from bench.flights import CONTROL, NAMES, TABLES, fetched
from bench.load_postgresql import RUN
from bench.load_sqlite import new_site
from bench.measure import Command, in_turns, median
from bench.site import Site, ours
from bench.suites import Options, workplace

LEFT_OUT = ("year", "month", "day", "hour", "minute")  # of the flights: the table has them as one time
ALL = 336_776 + 16 + 1458 + 3322


class Files:
    """The four files, those of flights that nothing refuses, and the same as the tables have them."""

    def __init__(self, folder: Path) -> None:
        self.dirty = fetched()
        self.clean = self.dirty | {"flights.csv": folder / "flights.csv"}
        self.tables = self.dirty | {"flights.csv": folder / "flights-table.csv"}
        planes, airports = self._keys("planes.csv", "tailnum"), self._keys("airports.csv", "faa")
        self.refused = 0
        with self.dirty["flights.csv"].open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file)
            names = list(rows.fieldnames or [])
            with self.clean["flights.csv"].open("w", newline="") as clean, self.tables["flights.csv"].open("w", newline="") as table:
                as_is = csv.DictWriter(clean, names, lineterminator="\n")
                without = csv.DictWriter(table, [n for n in names if n not in LEFT_OUT], extrasaction="ignore", lineterminator="\n")
                as_is.writeheader()
                without.writeheader()
                for row in rows:
                    if row["tailnum"] in planes | {"NA"} and row["origin"] in airports and row["dest"] in airports:
                        as_is.writerow(row)
                        without.writerow(row)
                    else:
                        self.refused += 1

    def _keys(self, name: str, column: str) -> set[str]:
        with self.dirty[name].open(encoding="utf-8", newline="") as file:
            return {row[column] for row in csv.DictReader(file)}

    def columns(self, name: str) -> str:
        """Return the columns of a table's file, separated by commas."""
        with self.tables[name].open(encoding="utf-8") as file:
            return file.readline().strip()


def _measured(site: Site, files: Files, other: Command, fresh: Callable[[], None], options: Options) -> tuple[float, float, float]:
    def our(name: str, paths: Mapping[str, Path], errors: int) -> Command:
        return ours(name, site, CONTROL, paths, fresh, {"created": ALL - files.refused, "errors": errors})

    samples = in_turns([other, our("clean", files.clean, 0), our("as they are", files.dirty, files.refused)], options.rounds)
    base = median(samples[other.name])
    return base, median(samples["clean"]) / base, median(samples["as they are"]) / base


def postgresql(server: Postgres, options: Options) -> list[Figure]:
    """Measure beside \\copy of what is not refused."""
    with workplace() as folder:
        files = Files(folder)
        site = Site(server.url(RUN), server.url(RUN), folder / "spool")
        server.create(RUN)
        site.upgrade()
        server.execute(RUN, TABLES["postgresql"])
        server.create("empty", RUN)

        def copy() -> tuple[list[str], dict[str, str]]:
            server.create(RUN, "empty")
            words = [server.psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", server.url(RUN)]
            for name in NAMES:
                table, path = f"{name.removesuffix('.csv')}({files.columns(name)})", files.tables[name]
                words += ["-c", f"\\copy {table} from '{path}' with (format csv, header, null 'NA')"]
            return words, {}

        base, clean, dirty = _measured(site, files, Command("copy", copy), lambda: server.create(RUN, "empty"), options)
    beside = f"`psql \\copy` ({base:.2f} s)"
    return [
        Figure("PostgreSQL: the flights, clean", beside, clean, 1.3),
        Figure("PostgreSQL: the flights as they are", beside, dirty, note=_note(files)),
    ]


def sqlite(options: Options) -> list[Figure]:
    """Measure beside a bare executemany of what is not refused."""
    with workplace() as folder:
        files = Files(folder)
        site, target = new_site(folder, TABLES["sqlite"])
        template = folder / "template.db"
        copy_sqlite(target, template)

        def fresh() -> None:
            copy_sqlite(template, target)

        def bare() -> tuple[list[str], dict[str, str]]:
            fresh()
            tables = [f"{name.removesuffix('.csv')}={files.tables[name]}" for name in NAMES]
            return [sys.executable, "-m", "bench.bare", str(target), *tables], {}

        base, clean, dirty = _measured(site, files, Command("bare", bare), fresh, options)
    beside = f"csv + bare `executemany` ({base:.2f} s)"
    return [
        Figure("SQLite: the flights, clean", beside, clean, 2.0),
        Figure("SQLite: the flights as they are", beside, dirty, note=_note(files)),
    ]


def _note(files: Files) -> str:
    return f"{files.refused / 336_776:.0%} name aircraft or airports that are not there"
