"""The engine's one law as a model: random tables, rows, files and ways to run, against records taken one by one."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from engine import sharing, writers
from engine.target.sqlite import runs
from tests.engine_parts import Imported, run_import
from tests.law_parts import COLUMNS, Case, Record, expected, prepare, stored

_numbers = count(1)
CHECKS = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
KINDS = {
    "RecordCreated": "created", "RecordUpdated": "updated", "RecordUnchanged": "unchanged", "RecordDeleted": "deleted",
    "RecordSkipped": "skipped", "RolledBack": "unprocessed", "NotReached": "unprocessed",
}  # fmt: skip

# Most cells are good ones, few of them distinct: records collide, and what they do depends on one another.
CELLS = {
    "code": [*"abcabcabcabc", "A", ""],
    "k2": ["1", "2", "1", "2", "01", "1", "2", "1", "2", "x"],
    "num": ["1", "2", "4", "1", "2", "4", "1", "2", "5", "6", "9", "", "", "x"],
    "seat": ["1", "2", "3", "4", "5", "6", ""],
    "note": ["n", "m", "n", "m", "n", "m", "", "toolong"],
    "up": [*"abcabc", "z", "", "", "", ""],
    "ref": ["r1", "r2", "r1", "r2", "r1", "a", "zz", "", "", ""],
}
NUMBERS = {"a": "1", "b": "2", "c": "3", "A": "1.0", "z": "9"}  # codes of a numeric column


@st.composite
def cases(draw: Any) -> Case:
    """Draw a target table and its control file."""
    key = draw(st.sampled_from(["serial", "serial", "serial", "natural", "natural2", "none"]))
    identity = "two" if key == "natural2" else "code" if key == "natural" else draw(st.sampled_from(["code", "code", "two", "renamed"]))
    is_unique = draw(st.booleans()) or key != "serial"
    loose = identity != "renamed" and draw(st.integers(0, 3)) == 3
    has_unique_code = key == "natural" or (key == "serial" and is_unique and identity != "two")
    ups = ["none", *(["lookup"] if key == "serial" else []), *(["direct"] if has_unique_code else [])]
    rules = st.sampled_from(["", "", "keep", "clear", "default", "error"])
    empty = {name: rule for name in ("num", "seat", "note") if (rule := draw(rules))}
    if draw(st.integers(0, 5)) == 5:
        empty["note"] = "empty-string"
    note = draw(st.sampled_from(["null", "required", "default"]))
    if note == "required" or empty.get("note") == "clear":
        empty.pop("note", None)  # what cannot be is refused with the control file
    return Case(
        key=key,
        identity=identity,
        is_unique=is_unique,
        loose=loose,
        seat=draw(st.sampled_from(["plain", "unique", "partial"])),
        note=note,
        has_check=draw(st.booleans()),
        trigger=draw(st.sampled_from(["", "", "", "odd", "other", "rename"])),
        up=draw(st.sampled_from(ups)),
        cascade=draw(st.sampled_from(["", "CASCADE", "SET NULL"])),
        up_missing=draw(st.sampled_from(["clear", "error", "skip"])),
        ref_missing=draw(st.sampled_from(["clear", "error", "skip"])),
        ref_unique=draw(st.booleans()),
        empty=empty,
    )


def _cell(case: Case, is_sqlite: bool, name: str, text: str) -> str:
    return NUMBERS.get(text, text) if case.loose and not is_sqlite and name in ("code", "up") else text


@st.composite
def worlds(draw: Any, is_sqlite: bool) -> tuple[Case, list[tuple], list[dict[str, Any]]]:
    """Draw a case and the rows that are there before."""
    case = draw(cases())
    refs = draw(st.lists(st.tuples(st.sampled_from(["r1", "r2"]), st.integers(1, 2)), min_size=1, max_size=3))
    row = st.fixed_dictionaries(
        {
            "code": st.sampled_from(["a", "b", "c"]).map(lambda t: _cell(case, is_sqlite, "code", t)),
            "k2": st.integers(1, 2),
            "num": st.sampled_from([None, 1, 2, 4]),
            "seat": st.sampled_from([None, 1, 2]),
            "note": st.sampled_from(["n", "m"]),
        }
    )
    return case, refs, draw(st.lists(row, max_size=4))


@st.composite
def plain_files(draw: Any, case: Case, is_sqlite: bool) -> tuple[dict[str, str], dict[str, Any], list[Record]]:
    """Draw one or two plain files, of Ref and of Rec, with their part of the control file."""
    files: dict[str, str] = {}
    plans: dict[str, Any] = {}
    records: list[Record] = []
    for number in range(draw(st.integers(1, 3))):
        entity = draw(st.sampled_from(["Rec", "Rec", "Ref"]))
        action = draw(st.sampled_from(["Merge", "Merge", "Insert", "Update", "Delete"]))
        needed = {"code"} if entity == "Ref" else {"code", "k2"}
        names = [n for n in (COLUMNS if entity == "Rec" else ("code", "num")) if n in needed or draw(st.integers(0, 4)) != 4]
        lines = [",".join(names)]
        for cells in draw(st.lists(st.tuples(*(st.sampled_from(CELLS[n]) for n in names)), min_size=1, max_size=9)):
            if entity == "Ref":
                cells = tuple(draw(st.sampled_from(["r1", "r2", "r3"])) if n == "code" else c for n, c in zip(names, cells, strict=True))
            cells = tuple(_cell(case, is_sqlite and True, n, c) if entity == "Rec" else c for n, c in zip(names, cells, strict=True))
            is_ragged = draw(st.integers(0, 15)) == 15
            lines.append(",".join(cells) + (",surplus" if is_ragged else ""))
            if any(cells) or is_ragged:
                records.append(Record(entity, action, None if is_ragged else dict(zip(names, cells, strict=True))))
        name = f"f{number}.csv"
        files[name] = "\n".join(lines) + "\n"
        plans[name] = {"entity": entity, "action": action}
    return files, plans, records


@st.composite
def multi_files(draw: Any, case: Case, is_sqlite: bool, is_ordered: bool) -> tuple[dict[str, str], list[Record]]:
    """Draw one or two files in the multi-entity form."""
    files: dict[str, str] = {}
    records: list[Record] = []
    for number in range(draw(st.integers(1, 2))):
        lines = []
        for _ in range(draw(st.integers(1, 9))):
            entity = draw(st.sampled_from(["Rec", "Rec", "Ref"]))
            action = draw(st.sampled_from(["Merge", "Merge", "Insert", "Update", "Delete"]))
            names = COLUMNS if entity == "Rec" else ("code", "num")
            cells = [_cell(case, is_sqlite, n, draw(st.sampled_from(CELLS[n]))) for n in names]
            if entity == "Ref":
                cells[0] = draw(st.sampled_from(["r1", "r2", "r3"]))
            group = draw(st.sampled_from([1, 2, 10])) if is_ordered else 0
            lines.append(",".join([entity, action, *([str(group)] if is_ordered else []), *cells]))
            records.append(Record(entity, action, dict(zip(names, cells, strict=True)), group))
        files[f"f{number}.csv"] = "\n".join(lines) + "\n"
    return files, records


def _kinds(done: Imported) -> list[str]:
    return [KINDS.get(code, "error") for code in done.codes]


def _check(url: str, world: tuple[Case, list[tuple], list[dict[str, Any]]], work: Any, ways: list[tuple[int, int]], **options: Any) -> None:
    """Run a case in all these ways (chunk_records; writers, or below 0 hands); each must come to what the records one by one come to."""
    case, refs, recs = world
    files, control, records = work
    prepare(url, case, refs, recs)
    is_all = options.get("execution") == "AllOrNone"
    kinds, content = expected(url, case, records, is_all)
    before = stored(url, case)
    seen = set()
    for number, (size, number_of_writers) in enumerate(ways):
        if number:
            prepare(url, case, refs, recs)
        with TemporaryDirectory() as scratch:
            who: dict[str, Any] = {"writers": number_of_writers} if number_of_writers >= 0 else {"hands": -number_of_writers}
            done = run_import(url, control, files, Path(scratch), chunk_records=size, **who, **options)
        where = f"chunks of {size}, {number_of_writers} writers, {options}\n{case}\n{files}\n{control}\n" + "\n".join(
            map(str, done.results)
        )
        assert _kinds(done) == kinds, where
        assert stored(url, case) == (before if options.get("mode") == "dry-run" else content), where
        seen.add((*done.codes, *_changes(done)))
    assert len(seen) == 1, f"codes or changes differ: {seen}\n{case}\n{files}\n{control}"


def _changes(done: Imported) -> list[str]:
    """Return what each result tells to change, references left out: the ids of new rows depend on how often they were drawn."""
    every: list[dict[str, Any]] = [p.get("changed", {}) for p in done.properties]
    return [json.dumps({name: cell for name, cell in changed.items() if name not in ("up_id", "ref_id")}) for changed in every]


def _draw_work(data: st.DataObject, case: Case, is_sqlite: bool) -> tuple[Any, dict[str, Any]]:
    options: dict[str, Any] = data.draw(
        st.sampled_from(
            [{}, {}, {}, {}, {}, {"execution": "AllOrNone"}, {"mode": "dry-run"}, {"mode": "dry-run", "execution": "AllOrNone"}]
        )
    )
    form = data.draw(st.sampled_from(["plain", "plain", "multi", "ordered"]))
    if form == "plain":
        files, plans, records = data.draw(plain_files(case, is_sqlite))
        return (files, json.dumps(case.control(plans)), records), options
    files, records = data.draw(multi_files(case, is_sqlite, form == "ordered"))
    return (files, json.dumps(case.control()), records), options | {"is_ordered": form == "ordered"}


def _model(url: str, data: st.DataObject, ways: list[tuple[int, int]]) -> None:
    is_sqlite = url.startswith("sqlite")
    world = data.draw(worlds(is_sqlite))
    work, options = _draw_work(data, world[0], is_sqlite)
    _check(url, world, work, ways, **options)


@pytest.fixture(autouse=True)
def small_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the writers' threads, and statements of many rows, take chunks as small as those of these tests."""
    monkeypatch.setattr(writers, "WORTH_A_THREAD", 1, raising=False)
    monkeypatch.setattr(runs, "MANY_VALUES", 10)
    monkeypatch.setattr(sharing, "LOOK_SECONDS", 0.0)


class Imports(RuleBasedStateMachine):
    """Imports after imports into one table. After each the table and the results are what the records one by one come to."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url, self.is_sqlite = url, url.startswith("sqlite")
        self.work: Any = None
        self.options: dict[str, Any] = {}

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        """Draw a table and the rows that are there before."""
        self.case, refs, recs = data.draw(worlds(self.is_sqlite))
        prepare(self.url, self.case, refs, recs)

    @rule(data=st.data(), size=st.sampled_from([1, 3, 5000]), writers_=st.sampled_from([0, 1, 2]))
    def bring(self, data: st.DataObject, size: int, writers_: int) -> None:
        """Import other files, in any mode."""
        self.work, self.options = _draw_work(data, self.case, self.is_sqlite)
        self._run(0, chunk_records=size, writers=writers_)

    @precondition(lambda self: self.work)
    @rule(size=st.sampled_from([1, 3]), stops=st.integers(0, 3))
    def bring_again(self, size: int, stops: int) -> None:
        """Import the last files once more, in an attempt or several: each ends after a chunk and the next one goes on."""
        self._run(stops, chunk_records=size, writers=2)

    def _run(self, stops: int, **how: Any) -> None:
        files, control, records = self.work
        before = stored(self.url, self.case)
        kinds, content = expected(self.url, self.case, records, self.options.get("execution") == "AllOrNone")
        number = next(_numbers)
        with TemporaryDirectory() as scratch:
            for attempt in range(stops + 1):
                asked = count()
                done = run_import(
                    self.url, control, files, Path(scratch), run=f"model-{number}", is_kept=attempt < stops,
                    should_stop=lambda asked=asked, a=attempt: "hand-back" if a < stops and next(asked) else None, **self.options, **how,
                )  # fmt: skip
                if done.state != "handed-back":
                    break
        where = f"{stops} stops, {how}, {self.options}\n{self.case}\n{files}\n{control}\n" + "\n".join(map(str, done.results))
        assert _kinds(done) == kinds, where
        assert stored(self.url, self.case) == (before if self.options.get("mode") == "dry-run" else content), where


@pytest.mark.parametrize("examples", [20, pytest.param(600, marks=pytest.mark.slow)])
def test_imports_after_imports(target_url: str, examples: int) -> None:
    """Files of any kind, action and mode, one after another, the same again, broken off and carried on: table and results stay right."""
    number = examples if target_url.startswith("sqlite") else examples // 4
    chosen = settings(max_examples=number, stateful_step_count=6, deadline=None, suppress_health_check=CHECKS)
    run_state_machine_as_test(lambda: Imports(target_url), settings=chosen)  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None, suppress_health_check=CHECKS)
@given(data=st.data())
def test_sqlite_comes_to_what_records_one_by_one_come_to(target_url_sqlite: str, data: st.DataObject) -> None:
    """Whatever the table, rows, file and chunks: outcomes and tables are those of the records taken one by one."""
    _model(target_url_sqlite, data, [(5000, 1), (1, 1), (3, 1)])


@settings(max_examples=12, deadline=None, suppress_health_check=CHECKS)
@given(data=st.data())
def test_postgresql_comes_to_what_records_one_by_one_come_to(pg_database: str, data: st.DataObject) -> None:
    """Whatever the table, rows, file, chunks and writers: outcomes and tables are those of the records taken one by one."""
    _model(pg_database, data, [(5000, 1), (1, 0), (3, 2), (1, 2)])


@pytest.mark.slow
@settings(max_examples=2_000, deadline=None, suppress_health_check=CHECKS)
@given(data=st.data())
def test_sqlite_in_many_examples(target_url_sqlite: str, data: st.DataObject) -> None:
    """The same with many more examples."""
    _model(target_url_sqlite, data, [(5000, 1), (1, 1), (3, 1)])


@pytest.mark.slow
@settings(max_examples=500, deadline=None, suppress_health_check=CHECKS)
@given(data=st.data())
def test_postgresql_in_many_examples(pg_database: str, data: st.DataObject) -> None:
    """The same with many more examples."""
    _model(pg_database, data, [(5000, 1), (1, 0), (3, 2), (1, 2), (2, 2), (1, -2)])


@pytest.mark.parametrize("examples", [4, pytest.param(200, marks=pytest.mark.slow)])
def test_shared_runs_come_to_what_records_one_by_one_come_to(pg_database: str, examples: int) -> None:
    """Plain files whose chunks are written by hands: outcomes and tables are those of the records taken one by one."""

    @settings(max_examples=examples, deadline=None, suppress_health_check=CHECKS)
    @given(data=st.data())
    def model(data: st.DataObject) -> None:
        world = data.draw(worlds(False))
        files, plans, records = data.draw(plain_files(world[0], False))
        _check(pg_database, world, (files, json.dumps(world[0].control(plans)), records), [(1, 0), (1, -2), (2, -2)])

    model()
