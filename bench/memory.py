"""A worker's peak memory, for a short file and for one that is a hundred times as long."""

from __future__ import annotations

from bench import data, load_postgresql, load_sqlite
from bench.databases import Postgres
from bench.figures import Figure
from bench.measure import Command, once, say
from bench.suites import Options, workplace

SHORT, LONG, LONGEST = 100_000, 3_000_000, 10_000_000


def postgresql(server: Postgres, options: Options) -> list[Figure]:
    """Measure merges of new rows into PostgreSQL, with two writers."""
    peaks = {}
    for rows in _sizes(options):
        with workplace() as folder:
            items = load_postgresql.Items(server, Options(rows=rows), folder, ["clean"])
            peaks[rows] = _peak(items.ours(f"{rows:,} rows", "clean", "Merge", "empty", created=rows, errors=0))
    return _figures("PostgreSQL", peaks)


def sqlite(options: Options) -> list[Figure]:
    """Measure merges of new rows into SQLite."""
    peaks = {}
    for rows in _sizes(options):
        files = data.generated(rows, ["clean"])
        with workplace() as folder:
            items = load_sqlite.Items(folder)
            peaks[rows] = _peak(items.merge(f"{rows:,} rows", files["clean"], created=rows, errors=0))
    return _figures("SQLite", peaks)


def _sizes(options: Options) -> tuple[int, int]:
    return SHORT, LONGEST if options.is_full else LONG


def _peak(command: Command) -> float:
    sample = once(command)
    say(f"  {command.name}: {sample.peak_mib:.1f} MiB, {sample.seconds:.1f} s")
    return sample.peak_mib


def _figures(where: str, peaks: dict[int, float]) -> list[Figure]:
    (short, at_short), (long, at_long) = peaks.items()
    return [
        Figure(f"{where}: worker's peak memory, {short:,} rows", "MiB", at_short, 100),
        Figure(f"{where}: worker's peak memory, {long:,} rows", "MiB", at_long, 100),
        Figure(f"{where}: the longer file's to the shorter's", "ratio", at_long / at_short, 1.1),
    ]
