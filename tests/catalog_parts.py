"""What tests of the catalog share: a fresh catalog, and batches in it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy import Engine

import catalog
from catalog import batches, controls, files, migrate
from catalog.batches import Ending, Options
from catalog.states import Counts, State

CONTROL, FILE, OTHER_FILE = "c" * 64, "1" * 64, "2" * 64
R = TypeVar("R")


@contextmanager
def fresh(url: str) -> Iterator[Engine]:
    """Make a catalog that knows one control file, CONTROL, and two files, FILE and OTHER_FILE."""
    migrate.upgrade(url)
    engine = catalog.connect(url)
    controls.add(engine, CONTROL, key_id="k", tables=[(None, "a")])
    for digest in (FILE, OTHER_FILE):
        files.add(engine, digest, 10, key_id="k", name="x.csv")
    yield engine
    engine.dispose()


def new(engine: Engine) -> int:
    """Make a batch and return its id."""
    return batches.create(engine, control=CONTROL, key_id="k")


def scheduled(engine: Engine, *tables: str, options: Options | None = None) -> int:
    """Make a batch that waits for the lanes of these tables and return its id."""
    batch_id = new(engine)
    batches.schedule(engine, batch_id, options or Options(), [(None, table) for table in tables])
    return batch_id


def done(**counts: int) -> Ending:
    """Say that a run completed."""
    return Ending(State.COMPLETED, Counts(**counts))


def at_once(*calls: Callable[[], R]) -> list[R | Exception]:
    """Make all calls at the same instant, a thread for each; return their results, or the exceptions that they raised, in order."""
    barrier, results = threading.Barrier(len(calls)), dict[int, R | Exception]()

    def make(number: int, call: Callable[[], R]) -> None:
        barrier.wait()
        try:
            results[number] = call()
        except Exception as error:
            results[number] = error

    threads = [threading.Thread(target=make, args=item) for item in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [results[number] for number in range(len(calls))]


def only(results: Sequence[R | Exception]) -> list[R]:
    """Return results none of which is an exception; raise the first that is one."""
    for result in results:
        if isinstance(result, Exception):
            raise result
    return list(results)  # type: ignore[arg-type]
