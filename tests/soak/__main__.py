"""Soak an installation: `SOAK_MINUTES=30 python -m tests.soak`. Clients send batches of all kinds while processes are killed by lot.

In the end every batch must have come to what its records deserve, the tables must hold what the results say, memory, open files and
connections must be no more than in the beginning, and nothing may be left behind. The exit status is 0 where all of that is so.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psycopg

import catalog
from catalog import keys, migrate
from engine.target import open_target
from spool import open_spool
from tests.jobs_parts import wait_for
from tests.soak.clients import LANES, TABLES, Client, Expected, expected_of
from tests.soak.services import WEBS, WORKERS, Sample, Services

CLIENTS = 20
SETTLE_SECONDS = 60  # in which what the last kills left must have been cleared away
IDLE_CONNECTIONS = WEBS * 6 + WORKERS * 2  # each web process keeps a pool of five and one to the target, each sweep one or two
MOST_GROWTH = 1.25  # what is measured goes up and down with what is done at that instant
FORKS_END_SECONDS = 40  # a fork that has nothing to do lingers for 30 s


def main() -> int:
    """Soak; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--minutes", type=float, default=float(os.environ.get("SOAK_MINUTES") or 30))
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--kill-every", type=float, default=20, help="seconds")
    parser.add_argument("--seed", default=str(random.SystemRandom().randrange(2**32)))
    given = parser.parse_args()
    print(f"seed {given.seed}, {given.minutes:g} minutes, {given.clients} clients", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="soak"))
    services, wrong = Services(folder), list[str]()
    try:
        clients = _prepared(services, given, wrong)
        _soak(services, clients, given)
        wrong += _what_is_wrong(services, clients)
        _print(services, clients, wrong)
    finally:
        services.close()
    if wrong:
        print(f"what the processes logged is in {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return int(bool(wrong))


def _prepared(services: Services, given: argparse.Namespace, wrong: list[str]) -> list[Client]:
    """Make tables, catalog and key; start all processes; return the clients."""
    url = services.environment["TARGET_URL"]
    migrate.upgrade(url)
    open_target(url).create_ledger()
    with psycopg.connect(url, autocommit=True) as connection:
        for lane in range(LANES):
            for table in TABLES:
                connection.execute(table.format(lane=lane).encode())
    engine = catalog.connect(url)
    key = keys.create(engine, "soak", ["import", "read", "control"])
    engine.dispose()
    services.start()
    wait_for(services.is_up)
    is_over = threading.Event()
    return [Client(number, services.urls, key, given.seed, wrong, is_over) for number in range(given.clients)]


def _soak(services: Services, clients: list[Client], given: argparse.Namespace) -> None:
    """Let the clients run and kill; when the time is over, let them finish what they have begun, with nothing killed any more."""
    threads = [threading.Thread(target=client.run, daemon=True) for client in clients]
    for thread in threads:
        thread.start()
    chance, ends = random.Random(f"{given.seed} kills"), time.monotonic() + given.minutes * 60
    next_kill = time.monotonic() + given.kill_every
    while time.monotonic() < ends:
        time.sleep(min(5, given.kill_every / 4))
        sample = services.sample()
        if time.monotonic() >= next_kill:
            next_kill += given.kill_every
            killed, done = services.kill(chance), sum(c.batches.total() for c in clients)
            print(f"{sample.seconds:5.0f} s: {done} batches, {sum(sample.memory_kib.values()) >> 10} MiB; killed {killed}", flush=True)
    clients[0].is_over.set()
    for thread in threads:
        thread.join()


def _what_is_wrong(services: Services, clients: list[Client]) -> list[str]:
    """Compare the tables with what the results have said, and look for what was left behind."""
    wrong = [f"{what}: {n} rows" for what, n in _differences(services, expected_of(clients)).items() if n]
    target, spool = open_target(services.environment["TARGET_URL"]), open_spool(services.environment["SPOOL_URL"])
    try:
        wait_for(lambda: not target.runs() and not spool.runs(), SETTLE_SECONDS)
    except AssertionError:
        wrong.append(f"heads {target.runs()} and segments {spool.runs()} are left")
    target.close()
    try:
        # What forks had goes with them.
        wait_for(lambda: services.connections() <= IDLE_CONNECTIONS, FORKS_END_SECONDS)
    except AssertionError:
        wrong.append(f"{services.connections()} connections are open, though nothing is to be done")
    wrong += _growth(services.samples)
    services.stop()
    if left := [path.name for path in (services.folder / "tmp").iterdir()]:
        wrong.append(f"temporary files are left: {left[:5]}")
    # A partial file of a killed process goes after a day.
    partials = len(list((services.folder / "spool" / "partial").iterdir()))
    if partials > services.kills.total() * 4:
        wrong.append(f"{partials} partial files are left, more than the kills explain")
    return wrong


def _growth(samples: list[Sample]) -> list[str]:
    """Compare the last third of the time with the first: leaks would show, and so would processes that are not ended."""
    first, _, last = _thirds(samples)
    measures: dict[str, Callable[[Sample], int]] = {
        "memory in KiB": lambda s: sum(s.memory_kib.values()),
        "open files": lambda s: s.files,
        "connections": lambda s: s.connections,
    }
    peaks = {name: (max(map(of, first)), max(map(of, last))) for name, of in measures.items()}
    return [f"{name}: {before} at first, {after} at last" for name, (before, after) in peaks.items() if after > before * MOST_GROWTH]


def _differences(services: Services, expected: Expected) -> dict[str, int]:
    held = Expected()
    with psycopg.connect(services.environment["TARGET_URL"]) as connection:
        for lane in range(LANES):
            held.things.update((lane, *row) for row in connection.execute(f"SELECT code, size FROM things{lane}".encode()).fetchall())
            held.entries.update((lane, *row) for row in connection.execute(f"SELECT thing, note FROM entries{lane}".encode()).fetchall())
    lost = (expected.things - held.things) + (expected.entries - held.entries)
    doubled = (held.things - expected.things) + (held.entries - expected.entries)
    return {"lost": lost.total(), "doubled or not to be there": doubled.total()}


def _print(services: Services, clients: list[Client], wrong: list[str]) -> None:
    kinds = sum((c.batches for c in clients), clients[0].batches.__class__())
    print(f"batches: {kinds.total()} ({', '.join(f'{n} {kind}' for kind, n in sorted(kinds.items()))})")
    print(f"records: {sum(c.records for c in clients)}; requests repeated: {sum(c.repeats for c in clients)}")
    print(f"slowest batch, from its first request to its results: {max(c.slowest_seconds for c in clients):.0f} s")
    print(f"kills: {services.kills.total()} ({', '.join(f'{n} {kind}' for kind, n in sorted(services.kills.items()))})")
    for part, samples in zip(("first", "second", "last"), _thirds(services.samples), strict=True):
        peaks = {name: max(s.memory_kib.get(name, 0) for s in samples) >> 10 for name in samples[0].memory_kib}
        print(
            f"{part} third: at most {max(s.files for s in samples)} open files, {max(s.connections for s in samples)} connections;"
            f" MiB at most: {', '.join(f'{name} {peak}' for name, peak in sorted(peaks.items()))}"
        )
    print(f"wrong: {len(wrong)}", *wrong[:50], sep="\n")


def _thirds(items: list[Sample]) -> list[list[Sample]]:
    size = len(items) // 3
    return [items[:size], items[size : 2 * size], items[2 * size :]]


if __name__ == "__main__":
    sys.exit(main())
