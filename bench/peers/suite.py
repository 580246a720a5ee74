"""What others need for the same 100,000 rows, and what they make of a file of which 1 % is bad."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import venv
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from bench import data, load_postgresql, load_sqlite
from bench.databases import Postgres
from bench.figures import table
from bench.measure import ROOT, Command, in_turns, median
from bench.suites import Options, workplace

ROWS = 100_000
HOME = ROOT / "var" / "bench" / "peers"
PACKAGES = ["pandas==3.1.1", "sqlalchemy==2.1.9", "psycopg[binary]==3.3.9", "sqlite-utils==4.2.1", "csvkit==2.2.0"]
PACKAGES += ["django==5.2.19", "django-import-export==4.4.3"]
HEADER = ["importer", "into", "seconds, clean", "to Lading's", "rows of the file with 1 % bad that arrive", "what it says"]


@dataclass(frozen=True, slots=True)
class Peer:
    """One importer; `words` gives its command for a database's URL and a file."""

    name: str
    words: Callable[[str, Path], Sequence[str]]
    is_resolved: bool = False  # it cannot look references up, and is given the categories' ids
    is_sqlite_only: bool = False


def _script(name: str) -> Callable[[str, Path], Sequence[str]]:
    return lambda url, path: [str(HOME / "bin" / "python"), str(Path(__file__).with_name(name)), url, str(path)]


def _sqlite_utils(url: str, path: Path) -> Sequence[str]:
    return [str(HOME / "bin" / "sqlite-utils"), "insert", url.removeprefix("sqlite:///"), "item", str(path), "--csv"]


def _csvsql(url: str, path: Path) -> Sequence[str]:
    return [str(HOME / "bin" / "csvsql"), "--db", url, "--insert", "--no-create", "--tables", "item", str(path)]


PEERS = [
    Peer("pandas `to_sql`", _script("pandas_to_sql.py")),
    Peer("csvkit `csvsql --insert`", _csvsql, is_resolved=True),
    Peer("django-import-export, bulk", _script("django_import_export.py")),
    Peer("sqlite-utils `insert`", _sqlite_utils, is_resolved=True, is_sqlite_only=True),
]


@dataclass(frozen=True, slots=True)
class Place:
    """A database to load into, and what Lading does there."""

    name: str
    url: str  # as SQLAlchemy wants it
    fresh: Callable[[], None]
    count: Callable[[], int]  # the items in it
    clean: Command
    bad: Command


def install() -> None:
    """Make the peers' environment, if it is not there as it should be."""
    stamp = HOME / "installed"
    if stamp.exists() and stamp.read_text() == "\n".join(PACKAGES):
        return
    venv.create(HOME, clear=True, with_pip=True)
    subprocess.run([str(HOME / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", *PACKAGES], check=True)
    stamp.write_text("\n".join(PACKAGES))


def compare(server: Postgres) -> str:
    """Return a table of importers, what they take and what they make of bad rows."""
    install()
    files = data.generated(ROWS, ["clean", "clean-resolved", "bad", "bad-resolved"])
    good = ROWS - data.count_of("bad", ROWS)
    lines: list[list[str]] = []
    with workplace() as folder:
        (folder / "sqlite").mkdir()
        lite = load_sqlite.Items(folder / "sqlite")

        def count_sqlite() -> int:
            with closing(sqlite3.connect(lite.target)) as connection:
                return int(connection.execute("SELECT count(*) FROM item").fetchone()[0])

        clean = lite.merge("Lading", files["clean"], created=ROWS, errors=0)
        bad = lite.merge("Lading", files["bad"], created=good, errors=ROWS - good)
        lines += _lines(Place("SQLite", f"sqlite:///{lite.target}", lite.fresh, count_sqlite, clean, bad), files)

        items = load_postgresql.Items(server, Options(rows=ROWS), folder / "postgresql", ["clean", "bad"])
        clean = items.ours("Lading", "clean", "Merge", "empty", created=ROWS, errors=0)
        bad = items.ours("Lading", "bad", "Merge", "empty", created=good, errors=ROWS - good)
        url = server.url("run").replace("postgresql:", "postgresql+psycopg:")

        def count_postgresql() -> int:
            return int(server.execute("run", "SELECT count(*) FROM item")[0][0])

        lines += _lines(Place("PostgreSQL", url, items.fresh("empty"), count_postgresql, clean, bad), files)
    return table(HEADER, lines)


def _lines(place: Place, files: dict[str, Path]) -> list[list[str]]:
    peers = [peer for peer in PEERS if place.name == "SQLite" or not peer.is_sqlite_only]

    def command(peer: Peer, kind: str) -> Command:
        def prepare() -> tuple[Sequence[str], dict[str, str]]:
            place.fresh()
            return peer.words(place.url, files[f"{kind}{data.RESOLVED}" if peer.is_resolved else kind]), {}

        return Command(peer.name, prepare, may_fail=kind == "bad")

    samples = in_turns([place.clean, *(command(peer, "clean") for peer in peers)], 1)  # some take minutes
    # Peers have their interpreter's start in their time, so ours is in Lading's here.
    base = median([sample.with_start for sample in samples[place.clean.name]])
    told = in_turns([place.bad], 1)["Lading"][0].told["counts"]
    said = f"{told['errors']:,} rows refused, each with its line, column, value and reason"
    lines = [["Lading, merge", place.name, f"{base:.1f}", "", f"{place.count():,}", said]]
    for peer in peers:
        bad = in_turns([command(peer, "bad")], 1)[peer.name][0]
        seconds = median(samples[peer.name])
        lines.append([peer.name, place.name, f"{seconds:.1f}", f"{seconds / base:.1f}", f"{place.count():,}", _last_words(bad.told)])
    return lines


def _last_words(told: dict[str, object]) -> str:
    """Return the last line of what a command printed, short enough for a table."""
    words = [line.strip() for line in str(told["output"]).splitlines() if line.strip() and not line.startswith("(Background on")]
    said = re.sub(r"\s+", " ", words[-1] if words else "nothing").replace("|", "\\|")
    return f"exit status {told['exit']}: {said if len(said) <= 160 else said[:157] + '...'}"
