"""Sorting more than memory holds: sorted runs in temporary files, merged as they are read."""

from __future__ import annotations

import heapq
import pickle
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, TypeVar

IN_MEMORY = 20_000  # items of one sorted run
FAN_IN = 64  # runs merged at once, so that the number of open files stays small

T = TypeVar("T")


def external_sort(items: Iterable[T], key: Callable[[T], Any], scratch: Path, in_memory: int = IN_MEMORY) -> Iterator[T]:
    """Yield the items by ascending key, equal ones in their order, in flat memory. `scratch`: a folder for temporary files."""
    source = iter(items)
    with ExitStack() as files:
        runs: list[IO[bytes]] = []
        while run := sorted(islice(source, in_memory), key=key):
            runs.append(files.enter_context(_written(run, scratch)))
            if len(runs) == FAN_IN:
                merged = _written(heapq.merge(*map(_read, runs), key=key), scratch)
                for old in runs:
                    old.close()
                runs = [files.enter_context(merged)]
        yield from heapq.merge(*map(_read, runs), key=key)


def _written(items: Iterable[Any], scratch: Path) -> IO[bytes]:
    """Write items to a nameless file, which is gone with its last handle; a killed process leaves nothing behind."""
    file = TemporaryFile(dir=scratch)  # noqa: SIM115  the caller closes it
    for item in items:
        pickle.dump(item, file, pickle.HIGHEST_PROTOCOL)
    file.seek(0)
    return file


def _read(file: IO[bytes]) -> Iterator[Any]:
    while True:
        try:
            # Only this very process wrote the file, and it has no name by which another could.
            yield pickle.load(file)  # noqa: S301
        except EOFError:
            return
