"""What receipts say of references that were not found: the same words, whether the run was broken off or not."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest

from engine import writers
from engine.lookup import MAX_HINTS
from tests.engine_parts import Imported, run_import, sql
from tests.test_law import ddl

CONTROL = """
entities:
- entity: Staff
  input: [name, nation]
  mappings: [{id: {converter: {type: CodeReferenceLookup, input: name}}}, {name: }, {nation_id: {converter: {type: CodeReferenceLookup, input: nation}}}]
files: {DEFAULT: {}, f.csv: {entity: Staff, action: Merge}, u.csv: {entity: Staff, action: Update}}
"""  # noqa: E501
NATION = "- {entity: Nation, input: [code], mappings: [{code: }]}\n"


@pytest.fixture(autouse=True)
def tables(target_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the tables; let the writers' threads take chunks as small as those of these tests."""
    monkeypatch.setattr(writers, "WORTH_A_THREAD", 1)
    ddl(
        target_url,
        "CREATE TABLE nation(id SERIAL PRIMARY KEY, code varchar(20) UNIQUE);"
        "CREATE TABLE staff(id SERIAL PRIMARY KEY, name varchar(20) UNIQUE, nation_id bigint REFERENCES nation(id));",
    )
    sql(target_url, "INSERT INTO nation(code) VALUES ('nation-1'), ('nation-2')")


def in_pieces(url: str, control: str, files: dict[str, str], scratch: Path, run: str, chunk_records: int) -> Imported:
    """Carry one run out, an attempt for each chunk."""
    for _ in range(100):
        asked = count()
        done = run_import(
            url, control, files, scratch, run=run, is_kept=True, chunk_records=chunk_records,
            should_stop=lambda asked=asked: "hand-back" if next(asked) else None,
        )  # fmt: skip
        if done.state != "handed-back":
            return done
    raise AssertionError("the run never came to its end")


def test_hints_are_the_same_after_a_restart(target_url: str, tmp_path: Path) -> None:
    """The nearest keys are counted by the chunk, so that a run in pieces names them for the same records as one that was not broken off."""
    lines = [f"s{n},nation-{n % 35 + 3}\n" for n in range(60)]
    files = {"f.csv": "name,nation\n" + "".join(lines)}
    whole = run_import(target_url, CONTROL, files, tmp_path, chunk_records=30)
    assert whole.raw.count(b"the nearest is 'nation-") == 2 * MAX_HINTS
    assert "There is no row in nation with nation 'nation-3'; the nearest is 'nation-2'" in whole.raw.decode()
    assert in_pieces(target_url, CONTROL, files, tmp_path, "pieces", 30).raw == whole.raw


def test_hints_from_a_table_that_is_written_are_the_same_after_a_restart(target_url: str, tmp_path: Path) -> None:
    """A key that an earlier chunk made is named as the nearest, in the same run as in the next attempt."""
    lines = ["Staff,Merge,a,nation-9\n", "Nation,Merge,nation-90\n", "Staff,Merge,b,nation-9\n", "Staff,Merge,c,nation-9\n"]
    control = CONTROL.replace("entities:\n", f"entities:\n{NATION}")
    files = {"m.txt": "".join(lines * 3)}
    whole = run_import(target_url, control, files, tmp_path, chunk_records=2)
    assert whole.raw.count(b"the nearest is 'nation-2'") == 1 and whole.raw.count(b"the nearest is 'nation-90'") == 8
    sql(target_url, "DELETE FROM nation WHERE code = 'nation-90'")
    again = in_pieces(target_url, control, files, tmp_path, "pieces", 2)
    assert [r["Message"] for r in again.results] == [r["Message"] for r in whole.results]


def test_a_record_that_is_not_found_has_no_hint(target_url: str, tmp_path: Path) -> None:
    """What other records of the run do to the table would decide which key is the nearest: none is named."""
    sql(target_url, "INSERT INTO staff(name) VALUES ('anna')")
    done = run_import(target_url, CONTROL, {"u.csv": "name,nation\nannb,nation-1\n"}, tmp_path)
    assert [r["Message"] for r in done.results] == ["There is no Staff with name 'annb' to update"]


def test_a_masked_reference_has_no_hint(target_url: str, tmp_path: Path) -> None:
    """The nearest key is much like a value that may not be shown, so it is not shown either (T82)."""
    masked = CONTROL.replace("input: nation}}", "input: nation}, masked: true}")
    done = run_import(target_url, masked, {"f.csv": "name,nation\ns,nation-3\n"}, tmp_path)
    assert [r["Message"] for r in done.results] == ["There is no row in nation with nation '***'"]


def test_a_code_of_several_rows_names_the_table(target_url: str, tmp_path: Path) -> None:
    """A code that finds more than one row is told with the table's name where no entity has one."""
    ddl(target_url, "CREATE TABLE town(id SERIAL PRIMARY KEY, code varchar(9)); CREATE TABLE inn(town_id bigint REFERENCES town(id));")
    sql(target_url, "INSERT INTO town(code) VALUES ('a'), ('a')")
    control = (
        "entities: [{entity: Inn, input: [town], mappings: [{town_id: {converter: {type: CodeReferenceLookup, input: town}}}]}]\n"
        "files: {f.csv: {entity: Inn, action: Insert}}"
    )
    done = run_import(target_url, control, {"f.csv": "town\na\n"}, tmp_path)
    assert done.results[0]["Message"] == "More than one row in town has town 'a', so it is not certain which one is meant"
