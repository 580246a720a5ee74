"""The crash matrix in parts, each of which a process of its own may do."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from tests.crash.matrix import Matrix, SetUp, Tally

DATABASES = 16  # of a Redis, by default


@dataclass(frozen=True)
class Share:
    """A part of a set-up's kills: every `every`-th call from `first` on."""

    number: int
    set_up: SetUp
    first: int
    every: int
    seed: str
    folder: Path
    redis_port: int
    server_url: str

    def kill(self) -> tuple[SetUp, int, Tally]:
        """Kill at each of its calls, and, a tenth as often, a second worker too; return how many calls the set-up has, and the tally."""
        redis_url = f"redis://127.0.0.1:{self.redis_port}/{self.number % DATABASES}"
        matrix = Matrix(self.set_up, self.folder / str(self.number), redis_url, self.server_url)
        chance, calls, total = random.Random(f"{self.seed} {self.set_up} {self.number}"), len(matrix.sites), Tally()
        mine = range(self.first, calls + 1, self.every)
        for call in mine:
            total.add(matrix.kill(call))
        for _ in range(len(mine) // 10):
            total.add(matrix.kill(chance.randint(1, calls), chance.randint(1, calls)))
        matrix.close()
        return self.set_up, calls, total
