"""Loading a million rows into SQLite, beside csv and a bare executemany with foreign keys off."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from bench import data
from bench.bare import load
from bench.databases import category_file, copy_sqlite, create_sqlite
from bench.figures import Figure
from bench.measure import Command, in_turns, median
from bench.site import Site, ours
from bench.suites import Options, workplace


def new_site(folder: Path, tables: str) -> tuple[Site, Path]:
    """Make an installation with these tables in the target; return it, and the path of a copy of the empty target."""
    target = folder / "target.db"
    create_sqlite(target, tables)
    site = Site(f"sqlite:///{target}", f"sqlite:///{folder / 'catalog.db'}", folder / "spool")
    site.upgrade()
    return site, target


class Items:
    """An installation on SQLite whose target is made anew, with categories and without items, before every run."""

    def __init__(self, folder: Path) -> None:
        self.site, self.target = new_site(folder, data.TABLES["sqlite"])
        with closing(sqlite3.connect(self.target)) as connection, connection:
            load(connection, "category", category_file(folder))
        self._template = folder / "template.db"
        copy_sqlite(self.target, self._template)

    def fresh(self) -> None:
        """Make the target anew."""
        copy_sqlite(self._template, self.target)

    def bare(self, path: Path) -> Command:
        """Return the command that does the least."""

        def prepare() -> tuple[list[str], dict[str, str]]:
            self.fresh()
            return [sys.executable, "-m", "bench.bare", str(self.target), f"item={path}"], {}

        return Command("bare", prepare)

    def merge(self, name: str, path: Path, **expected: int) -> Command:
        """Return the command that imports a file."""
        return ours(name, self.site, data.CONTROL.replace("ACTION", "Merge"), {"items.csv": path}, self.fresh, expected)


def insert(options: Options) -> list[Figure]:
    """Measure merges of new rows, foreign keys on, beside a bare executemany that is given the categories' ids, foreign keys off."""
    files = data.generated(options.rows, ["clean", "clean-resolved", "bad"])
    rows, bad = options.rows, data.count_of("bad", options.rows)
    with workplace() as folder:
        items = Items(folder)
        commands = [
            items.bare(files["clean-resolved"]),
            items.merge("merge", files["clean"], created=rows, errors=0),
            items.merge("bad", files["bad"], created=rows - bad, errors=bad),
        ]
        samples = in_turns(commands, options.rounds)
    base = median(samples["bare"])
    beside = f"csv + bare `executemany` ({base:.2f} s)"
    return [
        Figure("SQLite: merge of new, clean rows", beside, median(samples["merge"]) / base, 2.0),
        Figure("SQLite: merge of new rows, 1 % bad", beside, median(samples["bad"]) / base, 2.4),
    ]
