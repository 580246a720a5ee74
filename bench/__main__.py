"""`python -m bench` measures everything, `python -m bench NAME...` some of it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import ExitStack

from bench import load_flights, load_postgresql, load_sqlite, memory, small, uploads
from bench.databases import Postgres
from bench.figures import HEADER, Figure, table
from bench.measure import say
from bench.suites import Options

ON_POSTGRESQL: dict[str, Callable[[Postgres, Options], list[Figure]]] = {
    "insert": load_postgresql.insert,
    "upsert": load_postgresql.upsert,
    "flights": load_flights.postgresql,
    "memory": memory.postgresql,
    "small": small.postgresql,
}
OTHERS: dict[str, Callable[[Options], list[Figure]]] = {
    "sqlite": load_sqlite.insert,
    "flights-sqlite": load_flights.sqlite,
    "memory-sqlite": memory.sqlite,
    "small-sqlite": small.sqlite,
    "upload": uploads.upload,
}
SUITES = [*ON_POSTGRESQL, *OTHERS]


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*SUITES, []], metavar="NAME", help=f"what to measure: {', '.join(SUITES)}")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--full", action="store_true", help="also what takes very long: a file of 10 million rows")
    asked = parser.parse_args()
    options = Options(asked.rows, asked.rounds, asked.full)
    names = asked.names or SUITES
    figures: list[Figure] = []
    with ExitStack() as stack:
        server: Postgres | None = None
        for name in names:
            say(name)
            if name in ON_POSTGRESQL:
                server = server or stack.enter_context(Postgres.running())
                figures += ON_POSTGRESQL[name](server, options)
            else:
                figures += OTHERS[name](options)
    print(table(HEADER, [figure.cells() for figure in figures]))


if __name__ == "__main__":
    main()
