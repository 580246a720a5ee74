"""Runs that break off anywhere and are carried on: same table, same results, same counts as an undisturbed run."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterator
from contextlib import closing
from io import BytesIO, StringIO
from itertools import count
from pathlib import Path
from threading import Lock, Timer
from typing import Any

import pytest

import clock
from engine import segments, writers
from engine.control import compile
from engine.run import RunFile, RunOrder, RunResult, carry_out, clear
from engine.target import open_target
from errors import LeaseLost, TargetUnavailable
from schemas.control import parse
from spool import open_spool
from tests.engine_parts import run_import, sql
from tests.test_law import ddl


@pytest.fixture(autouse=True)
def threads_for_small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the writers' threads take chunks as small as those of these tests."""
    monkeypatch.setattr(writers, "WORTH_A_THREAD", 1, raising=False)


CONTROL = """
entities:
- entity: Item
  input: [code, name, seat]
  mappings:
  - id: {converter: {type: CodeReferenceLookup, input: code}}
  - code:
  - name:
  - seat:
files:
  f.csv: {entity: Item, action: Merge}
  f.jsonl: {entity: Item, action: Merge}
  DEFAULT: {}
"""
TABLE = "CREATE TABLE item(id SERIAL PRIMARY KEY, code varchar(9) NOT NULL UNIQUE, name varchar(20), seat integer CHECK (seat < 90));"
ROWS = [(f"c{n % 23}", f"name {n // 3}", "x" if n == 11 else "95" if n == 17 else str(n % 7)) for n in range(30)]


def _file(form: str, is_clean: bool) -> tuple[str, bytes]:
    rows = [(code, name, "1" if is_clean else seat) for code, name, seat in ROWS]
    if form == "csv":
        return "f.csv", ("code,name,seat\n" + "".join(",".join(row) + "\n" for row in rows)).encode()
    if form == "jsonl":
        lines = [json.dumps(dict(zip(("code", "name", "seat"), row, strict=True))) for row in rows]
        return "f.jsonl", "\n".join([*lines[:4], *([] if is_clean else ["{broken"]), *lines[4:]]).encode()
    lines = [f"Item,Merge,{','.join(row)}" for row in rows]
    return "multi.txt", "\n".join(["#Entity,Action,code,name,seat", *lines[:7], "", "#Entity,Action,code,name,seat", *lines[7:]]).encode()


class Broken(Exception):
    """What breaks a run off in these tests."""


class Breaker:
    """Counts the calls that a run makes, and breaks it off at the n-th."""

    def __init__(self, at: int | None = None, is_after: bool = False) -> None:
        self.at, self.is_after, self.calls, self._lock = at, is_after, 0, Lock()

    def wrap(self, thing: Any) -> Any:
        """Return the thing, each call of its methods counted."""
        return _Wrapped(thing, self)

    def count(self) -> bool:
        """Count a call; say whether it is the one to break off at. Nothing works from then on, as if the process were gone."""
        with self._lock:
            self.calls += 1
            return self.at is not None and self.calls >= self.at


class _Wrapped:
    def __init__(self, thing: Any, breaker: Breaker) -> None:
        self._thing, self._breaker = thing, breaker

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._thing, name)
        if not callable(found) or name in ("rollback", "close", "give_back", "is_idle", "renew"):
            return found

        def call(*args: Any, **options: Any) -> Any:
            is_end = self._breaker.count()
            if is_end and (name == "session" or not self._breaker.is_after or self._breaker.calls != self._breaker.at):
                raise Broken
            result = found(*args, **options)
            if is_end:
                raise Broken
            return self._breaker.wrap(result) if name == "session" else result

        return call


class Attempts:
    """One run, carried out in one attempt or several, each with a target and a store of its own."""

    numbers = count(1)

    def __init__(self, url: str, scratch: Path, form: str, is_clean: bool, **options: Any) -> None:
        self.url, self.scratch, self.file = url, scratch, _file(form, is_clean)
        self.options: dict[str, Any] = {
            "mode": "import",
            "execution": "PerRecord",
            "is_ordered": False,
            "chunk_records": 3,
            "writers": 2,
        } | options
        self.run, self.started_at = f"resume-{next(self.numbers)}", clock.now()
        sql(url, "DROP TABLE IF EXISTS item")
        ddl(url, TABLE)
        sql(url, "INSERT INTO item(code, name, seat) VALUES ('c2', 'before', 5)")

    def once(self, breaker: Breaker, **more: Any) -> tuple[RunResult, bytes]:
        """Carry the run out, or on; clear it away unless it was handed back."""
        target = open_target(self.url)
        with closing(target):
            target.create_ledger()
            plan = compile(parse(CONTROL.encode()), target.tables(), target.dialect)
            name, data = self.file
            order = RunOrder(
                run=self.run, batch_id=1, files=[RunFile(name, lambda: BytesIO(data), lambda: None)], plan=plan, started_at=self.started_at,
                scratch=self.scratch, **self.options,
            )  # fmt: skip
            store = breaker.wrap(open_spool(f"file:{self.scratch / 'spool'}"))
            result = carry_out(order, breaker.wrap(target), store, lambda name: None, **more)
            raw = b"".join(result.results)
            if result.state != "handed-back":
                clear(order, target, open_spool(f"file:{self.scratch / 'spool'}"))
        return result, raw

    def outcome(self, done: tuple[RunResult, bytes]) -> Any:
        """Return all that must be the same: state, counts, results but for ids, the table but for ids."""
        result, raw = done
        rows = [[*row[:5], *row[6:]] for row in csv.reader(StringIO(raw.decode(), newline=""))]
        return result.state, result.code, result.counts, rows, sql(self.url, "SELECT code, name, seat FROM item ORDER BY code")


WAYS = [
    ("csv", "PerRecord", False, False),
    ("csv", "PerRecord", False, True),
    ("jsonl", "PerRecord", False, False),
    ("multi", "PerRecord", False, True),
    ("csv", "AllOrNone", True, True),
    ("multi", "AllOrNone", False, False),
]


@pytest.mark.parametrize(("form", "execution", "is_clean", "is_stored"), WAYS)
def test_a_run_broken_off_at_any_call_is_carried_on(
    target_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, execution: str, is_clean: bool, is_stored: bool
) -> None:
    """Whichever call to the target or the store is the last one of an attempt, the next attempt ends as an undisturbed run does."""
    if is_stored:  # Results this small would lie in the ledger otherwise.
        monkeypatch.setattr(segments, "INLINE_BYTES", 0)
    whole = Breaker()
    undisturbed = Attempts(target_url, tmp_path, form, is_clean, execution=execution)
    wanted = undisturbed.outcome(undisturbed.once(whole))
    # On PostgreSQL every fifth call must do, from another start each time: connections cost more there.
    step = 1 if target_url.startswith("sqlite") else 5
    start = 1 + WAYS.index((form, execution, is_clean, is_stored)) % step
    for at in range(start, whole.calls + 1, step):
        attempts = Attempts(target_url, tmp_path, form, is_clean, execution=execution)
        try:
            done = attempts.once(Breaker(at, is_after=at % 2 == 0))
        except Broken:
            done = attempts.once(Breaker())
        assert attempts.outcome(done) == wanted, f"broken off at call {at} of {whole.calls}"


def test_a_lease_lost_in_the_middle_ends_the_attempt_and_harms_nothing(target_url: str, tmp_path: Path) -> None:
    """Another worker takes the run over after some chunks: the first one stops and writes nothing more, the second carries on."""
    undisturbed = Attempts(target_url, tmp_path, "csv", False)
    wanted = undisturbed.outcome(undisturbed.once(Breaker()))
    for chunk in (1, 4, 9):
        attempts = Attempts(target_url, tmp_path, "csv", False)
        asked = count(1)

        def should_stop(chunk: int = chunk, attempts: Attempts = attempts, asked: Iterator[int] = asked) -> None:
            if next(asked) == chunk:
                with closing(open_target(target_url)) as other:
                    other.take_over(attempts.run)

        with pytest.raises((LeaseLost, TargetUnavailable)):
            attempts.once(Breaker(), should_stop=should_stop)
        assert attempts.outcome(attempts.once(Breaker())) == wanted


@pytest.mark.parametrize("form", ["csv", "jsonl", "multi"])
def test_a_run_handed_back_at_each_chunk_is_carried_on(target_url: str, tmp_path: Path, form: str) -> None:
    """A worker that stops at a chunk's border hands the run back; nine attempts end as one does."""
    undisturbed = Attempts(target_url, tmp_path, form, False)
    wanted = undisturbed.outcome(undisturbed.once(Breaker()))
    attempts = Attempts(target_url, tmp_path, form, False)
    for _ in range(20):
        asked = count(1)
        done = attempts.once(Breaker(), should_stop=lambda asked=asked: "hand-back" if next(asked) > 2 else None)
        if done[0].state != "handed-back":
            assert attempts.outcome(done) == wanted
            return
    raise AssertionError("the run never came to its end")


@pytest.mark.parametrize("execution", ["PerRecord", "AllOrNone"])
def test_a_target_that_somebody_else_has_locked_is_waited_for(target_url: str, tmp_path: Path, execution: str) -> None:
    """While another program keeps the table locked nothing is refused; when it lets go, every record is applied (T38)."""
    ddl(target_url, "CREATE TABLE word(w varchar(9) PRIMARY KEY, n integer);")
    target = open_target(target_url)
    with closing(target.connect_raw()) as other:
        is_sqlite = target.dialect == "sqlite"
        other.execute("BEGIN IMMEDIATE" if is_sqlite else "BEGIN")
        if not is_sqlite:
            other.execute("LOCK TABLE word IN EXCLUSIVE MODE")
        other.execute("INSERT INTO word VALUES ('a', 1)")
        release = Timer(1.5, lambda: other.execute("COMMIT"))
        began = time.monotonic()
        release.start()
        try:
            control = "entities: [{entity: Word, input: [w, n], mappings: [{w: }, {n: }]}]\nfiles: {f.csv: {entity: Word, action: Merge}}"
            done = run_import(target_url, control, {"f.csv": "w,n\na,2\nb,3\n"}, tmp_path, execution=execution)
        finally:
            release.join()
    target.close()
    assert time.monotonic() - began >= 1.5
    # On PostgreSQL the row of the other program was not there yet when it was looked for: its key decides.
    assert done.codes == ["RecordUpdated", "RecordCreated"]
    assert sql(target_url, "SELECT w, n FROM word ORDER BY w") == [("a", 2), ("b", 3)]
