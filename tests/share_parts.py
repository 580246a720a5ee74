"""What tests of shared runs share: a run that is carried out by its holder and by hands in threads of their own."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO, StringIO
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any

import clock
from engine.control import compile
from engine.hand import lend_hand
from engine.order import Help
from engine.run import RunFile, RunOrder, RunResult, carry_out, clear
from engine.target import Target, open_target
from schemas.control import parse
from spool import open_spool
from tests.engine_parts import sql

CONTROL = """
entities:
- entity: Item
  table: item
  input: [code, name, seat, kind]
  mappings:
  - id: {converter: {type: CodeReferenceLookup, input: code}}
  - code:
  - name:
  - seat:
  - kind_id: {converter: {type: CodeReferenceLookup, input: kind, column: code}}
files:
  f.csv: {entity: Item, action: Merge}
  f.jsonl: {entity: Item, action: Merge}
  f.csv.gz: {entity: Item, action: Merge}
"""
TABLES = (
    "CREATE TABLE kind (id serial PRIMARY KEY, code text UNIQUE)",
    "CREATE TABLE item (id serial PRIMARY KEY, code varchar(9) NOT NULL UNIQUE, name text, seat integer CHECK (seat < 90),"
    " kind_id integer REFERENCES kind)",
    "INSERT INTO kind (code) SELECT 'k' || n FROM generate_series(1, 5) n",
    "INSERT INTO item (code, name, seat) VALUES ('c2', 'before', 5)",
)
_runs = count(1)


def rows(number: int, keys: int) -> list[tuple[str, str, str, str]]:
    """Return records whose keys come again and again, some of them with faults of each kind."""
    made = []
    for n in range(number):
        seat = "x" if n % 31 == 11 else "95" if n % 37 == 17 else str(n % 7)
        made.append((f"c{n * 7 % keys}", f"name {n // 3}", seat, "k9" if n % 41 == 3 else f"k{n % 5 + 1}"))
    return made


def written(found: list[tuple[str, str, str, str]], name: str) -> bytes:
    """Return the records as a file of this name."""
    names = ("code", "name", "seat", "kind")
    if name.endswith("csv"):
        text = StringIO(newline="")
        csv.writer(text).writerows([names, *found])
        return text.getvalue().encode()
    return "".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in found).encode()


def pace() -> None:
    """Keep a holder from having written all itself before its hands have begun."""
    time.sleep(0.01)


class Installation:
    """A target, a spool, and one file; each run of it is new."""

    def __init__(self, url: str, folder: Path, data: bytes, name: str = "f.csv", tables: tuple[str, ...] = TABLES) -> None:
        self.url, self.folder, self.name, self.data, self._tables = url, folder, name, data, tables
        self.spool = open_spool(f"file:{folder / 'spool'}")
        self.run = ""
        self.written: list[int] = []  # how many chunks each hand wrote that has left
        self.failed: list[BaseException] = []  # what ended hands
        self.threads: list[Thread] = []
        self.options: dict[str, Any] = {}
        self.started_at = clock.now()

    def anew(self, **options: Any) -> None:
        """Make the tables anew, and begin a new run."""
        for table in ("item", "kind"):
            sql(self.url, f"DROP TABLE IF EXISTS {table} CASCADE")
        for statement in self._tables:
            sql(self.url, statement)
        self.run, self.options, self.written, self.failed, self.threads = f"share-{next(_runs)}", options, [], [], []

    def order(self, target: Target, **more: Any) -> RunOrder:
        """Return the order of the run."""
        chosen: dict[str, Any] = {"mode": "import", "execution": "PerRecord", "is_ordered": False, "chunk_records": 10}
        plan = compile(parse(CONTROL.encode()), target.tables(), target.dialect)
        files = [RunFile(self.name, lambda: BytesIO(self.data), lambda: None)]
        return RunOrder(self.run, 4711, files, plan, started_at=self.started_at, scratch=self.folder, **chosen | self.options | more)

    def hand(self, should_leave: Callable[[], bool] = lambda: False, **more: Any) -> None:
        """Start a hand, and wait until the holder can see it."""
        before = self.hands()
        self.threads.append(Thread(target=self._lend, args=(should_leave, more)))
        self.threads[-1].start()
        deadline = time.monotonic() + 10
        while self.hands() == before and not self.failed:
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def hands(self) -> int:
        """Return how many hands the run has."""
        return int(sql(self.url, "SELECT count(*) FROM lading.hands WHERE run = %s", self.run)[0][0])

    def _lend(self, should_leave: Callable[[], bool], more: dict[str, Any]) -> None:
        try:
            self.written.append(self.lend(should_leave, **more))
        except BaseException as error:
            self.failed.append(error)

    def lend(self, should_leave: Callable[[], bool] = lambda: False, **more: Any) -> int:
        """Be a hand; return how many chunks it wrote."""
        target = open_target(self.url)
        try:
            return lend_hand(self.order(target, **more), target, self.spool, "hand", should_leave, beat_seconds=0.1)
        finally:
            target.close()

    @contextmanager
    def holder(self, help: Help | None = None, is_kept: bool = False, **more: Any) -> Iterator[tuple[RunResult, bytes]]:
        """Carry the run out; give its result, and clear it away in the end, when the hands have left, unless it is kept."""
        target = open_target(self.url)
        try:
            target.create_ledger()
            order = self.order(target, help=help)
            result = carry_out(order, target, self.spool, lambda name: None, **more)
            for thread in self.threads:
                thread.join(30)
            yield result, b"".join(result.results)
            if not is_kept:
                clear(order, target, self.spool)
        finally:
            target.close()

    def alone(self, **options: Any) -> tuple[Any, ...]:
        """Carry a new run out without help; return what it comes to."""
        self.anew(**options)
        with self.holder() as (result, results):
            return self.outcome(result, results)

    def shared(self, hands: int = 2, **options: Any) -> tuple[Any, ...]:
        """Carry a new run out with hands that come at once; return what it comes to."""
        self.anew(**options)

        def invite(present: int, *_where: int) -> None:
            while len(self.threads) < hands:
                self.hand()

        with self.holder(Help(invite), should_stop=pace) as (result, results):
            return self.outcome(result, results)

    def outcome(self, result: RunResult, results: bytes) -> tuple[Any, ...]:
        """Return the counts, the receipts, each drawn id replaced by the code that it stands for, and the table's rows."""
        codes = {str(row[0]): row[1] for row in sql(self.url, "SELECT id, code FROM item")}
        receipts = [(*row[:5], codes.get(row[5], row[5]), row[6]) for row in csv.reader(StringIO(results.decode(), newline=""))]
        table = sorted(map(str, sql(self.url, "SELECT code, name, seat, kind_id FROM item")))
        return result.state, result.counts, receipts, table
