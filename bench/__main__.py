"""`python -m bench` measures everything and writes docs/benchmarks.md, `python -m bench NAME...` measures some of it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import ExitStack

from bench import formats, load_flights, load_postgresql, load_sqlite, memory, report, share, small, uploads
from bench.databases import Postgres
from bench.figures import HEADER, Figure, table
from bench.measure import say
from bench.peers import suite as peers
from bench.suites import Options

ON_POSTGRESQL: dict[str, Callable[[Postgres, Options], list[Figure]]] = {
    "insert": load_postgresql.insert,
    "upsert": load_postgresql.upsert,
    "formats": formats.postgresql,
    "flights": load_flights.postgresql,
    "memory": memory.postgresql,
    "small": small.postgresql,
    "share": share.postgresql,
}
OTHERS: dict[str, Callable[[Options], list[Figure]]] = {
    "sqlite": load_sqlite.insert,
    "formats-sqlite": formats.sqlite,
    "flights-sqlite": load_flights.sqlite,
    "memory-sqlite": memory.sqlite,
    "small-sqlite": small.sqlite,
    "upload": uploads.upload,
}
SUITES = [*ON_POSTGRESQL, *OTHERS, "peers"]


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"what to measure: {', '.join(SUITES)}")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the generated files (1,000,000)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each command is run (3)")
    parser.add_argument("--full", action="store_true", help="also what takes very long: a file of 10 million rows")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md from this and what was measured before")
    asked = parser.parse_args()
    if unknown := sorted(set(asked.names) - set(SUITES)):
        parser.error(f"nothing is called {', '.join(unknown)}; there are {', '.join(SUITES)}")
    options = Options(asked.rows, asked.rounds, asked.full)
    figures: list[Figure] = []
    with ExitStack() as stack:
        for name in asked.names or SUITES:
            say(name)
            figures += _measure(name, options, stack)
    print(table(HEADER, [figure.cells() for figure in figures]))
    if asked.write or not asked.names:
        report.write(SUITES)


_SERVERS: list[Postgres] = []


def _measure(name: str, options: Options, stack: ExitStack) -> list[Figure]:
    """Run one suite and keep what it found; the PostgreSQL server is started for the first that needs it."""
    if name in OTHERS:
        figures, text, version = OTHERS[name](options), "", ""
    else:
        if not _SERVERS:
            _SERVERS.append(stack.enter_context(Postgres.running()))
        server, version = _SERVERS[0], _SERVERS[0].version
        figures, text = (ON_POSTGRESQL[name](server, options), "") if name in ON_POSTGRESQL else ([], peers.compare(server))
    if text:
        print(text)
    report.keep(name, options, version, figures, text)
    return figures


if __name__ == "__main__":
    main()
