"""Helpers for tests that drive the engine as a worker does, without the service around it."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from io import BytesIO, StringIO
from itertools import count
from pathlib import Path
from threading import Thread
from time import sleep
from typing import Any

import psycopg

import clock
from engine.chunk import Block, Chunk
from engine.control import compile
from engine.convert import Context, Converted, convert
from engine.hand import lend_hand
from engine.order import Help
from engine.plan import Action, FilePlan, Plan
from engine.results import Counts
from engine.run import RunFile, RunOrder, carry_out, clear
from engine.target import open_target
from engine.writers import Footprint
from schemas.control import parse
from spool import Spool, open_spool

_runs = count(1)


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of an import."""

    state: str
    code: str
    status_msg: str
    counts: Counts
    results: list[dict[str, str]]  # one a line of the results, by column
    raw: bytes

    @property
    def codes(self) -> list[str]:
        """Return each result's code, its common start left out."""
        return [r["#Code"].removeprefix("Core_Data_").removeprefix("Core_ImportFile_") for r in self.results]

    @property
    def properties(self) -> list[dict[str, Any]]:
        """Return each result's Properties."""
        return [json.loads(r["Properties"] or "{}") for r in self.results]


def sql(url: str, statement: str, *parameters: Any) -> list[tuple]:
    """Run SQL on a target, apart from all our code; return what it yields."""
    if url.startswith("sqlite"):
        connection = sqlite3.connect(url.removeprefix("sqlite:///"))
        try:
            with connection:
                if not parameters:
                    statements = statement.strip().rstrip(";")
                    if ";" in statements:
                        connection.executescript(statement)
                        return []
                return connection.execute(statement.replace("%s", "?"), parameters).fetchall()
        finally:
            connection.close()
    with psycopg.connect(url, autocommit=True) as server:
        cursor = server.execute(statement.encode(), parameters or None)
        return cursor.fetchall() if cursor.description else []


def plan_of(url: str, control: str) -> Plan:
    """Compile a control file against a target."""
    target = open_target(url)
    try:
        return compile(parse(control.encode()), target.tables(), target.dialect)
    finally:
        target.close()


def made_ready(plan: Plan, entity: str, action: Action, *rows: tuple[str, ...]) -> tuple[Block, Converted]:
    """Convert rows of an entity's inputs as one block."""
    found = plan.entity(entity)
    assert found is not None
    block = Block(found, action, found.inputs, [list(c) for c in zip(*rows, strict=True)], range(len(rows)))
    context = Context(now=clock.now(), batch_id=1, file_name="f.csv")
    return block, convert(block, FilePlan("f.csv"), range(1, len(rows) + 1), context)


def footprint_of(plan: Plan, entity: str, action: Action, *rows: tuple[str, ...]) -> Footprint:
    """Work out what a chunk of one block would touch."""
    block, ready = made_ready(plan, entity, action, *rows)
    return Footprint.of(Chunk(0, 0, "f.csv", range(len(rows)), blocks=[block]), [ready])


def run_import(
    url: str,
    control: str,
    files: Mapping[str, str | bytes],
    scratch: Path,
    *,
    names: Mapping[str, str] | None = None,
    is_kept: bool = False,
    run: str | None = None,
    order: Sequence[str] | None = None,
    should_stop: Any = lambda: None,
    hands: int = 0,
    **options: Any,
) -> Imported:
    """Import files under a control file, as a worker would, with so many hands; options are those of RunOrder."""
    target = open_target(url)
    target.create_ledger()
    spool = open_spool(f"file:{scratch / 'spool'}")
    plan = compile(parse(control.encode()), target.tables(), target.dialect)
    others = {name: compile(parse(text.encode()), target.tables(), target.dialect) for name, text in (names or {}).items()}
    data = {name: text.encode() if isinstance(text, str) else text for name, text in files.items()}
    chosen: dict[str, Any] = {"mode": "import", "execution": "PerRecord", "is_ordered": False} | options
    try:
        run_order = RunOrder(
            run=run or f"test-{next(_runs)}",
            batch_id=4711,
            files=[RunFile(name, lambda b=body: BytesIO(b), lambda: None) for name, body in data.items()],  # type: ignore[misc]
            plan=plan,
            started_at=clock.now(),
            scratch=scratch,
            **chosen,
        )
        with helped(run_order, url, spool, hands) as shared_order:
            result = carry_out(shared_order, target, spool, others.get, should_stop=should_stop)
        raw = b"".join(result.results)
        if not is_kept:
            clear(run_order, target, spool)
    finally:
        target.close()
    rows = list(csv.DictReader(StringIO(raw.decode(), newline="")))
    imported = Imported(result.state, result.code, result.status_msg, result.counts, rows, raw)
    if result.state != "handed-back":
        check_laws(imported)
    return imported


@contextmanager
def helped(order: RunOrder, url: str, spool: Spool, number: int) -> Iterator[RunOrder]:
    """Give the order of a run whose holder has hands in threads of their own, once it asks; they are there when it goes on."""
    threads: list[Thread] = []

    def lend() -> None:
        target = open_target(url)
        try:
            lend_hand(order, target, spool, "hand", lambda: False, beat_seconds=0.02)
        finally:
            target.close()

    def invite(present: int, *_where: int) -> None:
        for thread in [Thread(target=lend) for _ in range(number - len(threads))]:
            threads.append(thread)
            thread.start()
        while present < 1 and not sql(url, "SELECT 1 FROM lading.hands WHERE run = %s", order.run):
            sleep(0.002)

    yield replace(order, help=Help(invite)) if number else order
    for thread in threads:
        thread.join(30)


def check_laws(imported: Imported) -> None:
    """Check the count law and the receipt law: the counts add up, and the results are what the counts say."""
    imported.counts.check()
    codes = imported.codes
    said = imported.counts
    assert codes.count("RecordCreated") == said.created
    assert codes.count("RecordUpdated") == said.updated
    assert codes.count("RecordDeleted") == said.deleted
    assert codes.count("RecordUnchanged") + codes.count("RecordSkipped") == said.skipped
    assert sum(r["Severity"] == "Error" for r in imported.results) == said.errors
    assert codes.count("RolledBack") + codes.count("NotReached") == said.unprocessed
    assert len(codes) - codes.count("SkippedHeaderLine") == said.records
    by_file: dict[str, list[int]] = {}
    for row in imported.results:
        by_file.setdefault(row["File"], []).append(int(row["LineNumber"]))
    assert all(lines == sorted(lines) for lines in by_file.values())


def digest(url: str, table: str) -> str:
    """Return a checksum of a table's content, whatever the order of its rows."""
    return sha256(repr(sorted(map(repr, sql(url, f'SELECT * FROM "{table}"')))).encode()).hexdigest()
