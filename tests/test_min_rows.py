"""Files with fewer records than they must have: nothing of their batch is written, and the run is not green."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine_parts import Imported, run_import, sql

CONTROL = """
files:
  things.csv: {{entity: Thing, action: Merge{more}}}
  things.json: {{entity: Thing, action: Merge{more}}}
  DEFAULT: {{read: csv{more}}}
entities:
- {{entity: Thing, table: things, input: [code, size], mappings: [code: , size: ]}}
"""
ROWS = "code,size\na,1\nb,2\nc,3\n"


def imported(url: str, folder: Path, files: dict[str, str], more: str = "", **options: object) -> Imported:
    """Make the table and import files whose options have these more."""
    sql(url, "DROP TABLE IF EXISTS things")
    sql(url, "CREATE TABLE things (code varchar(9) PRIMARY KEY, size integer)")
    return run_import(url, CONTROL.format(more=more), files, folder, **options)  # type: ignore[arg-type]


def count(url: str) -> int:
    """Return how many rows there are."""
    return int(sql(url, "SELECT count(*) FROM things")[0][0])


@pytest.mark.parametrize(
    "empty",
    [
        {"things.csv": ""},
        {"things.csv": "code,size\n"},
        {"things.csv": "\n\n"},
        {"things.json": "[]"},
        {"x.csv": "#Thing,Merge,code\n"},
    ],
)
def test_a_file_without_records_is_never_green(target_url_sqlite: str, tmp_path: Path, empty: dict[str, str]) -> None:
    """T44: nothing, only blank lines, only a header or an empty array fail the run, whose one error says so; min_rows: 0 lets them pass."""
    run = imported(target_url_sqlite, tmp_path, empty)
    assert (run.state, run.code, run.counts.errors) == ("failed", "file_refused", 1)
    assert "no records, and must have at least 1 (min_rows in the control file; 0 lets it be empty)" in run.status_msg
    run = imported(target_url_sqlite, tmp_path, empty, ", min_rows: 0")
    assert (run.state, run.counts.records) == ("completed", 0)


@pytest.mark.parametrize("execution", ["PerRecord", "AllOrNone"])
@pytest.mark.parametrize("chunk_records", [1, 5000])
def test_too_few_records_write_nothing(target_url: str, tmp_path: Path, execution: str, chunk_records: int) -> None:
    """T44: three records where four must be fail the run before a row is written, chunks or no; every record has its result."""
    files = {"things.csv": ROWS}
    run = imported(target_url, tmp_path, files, ", min_rows: 4", execution=execution, chunk_records=chunk_records)
    assert (run.state, run.code, count(target_url)) == ("failed", "file_refused", 0)
    assert (run.counts.records, run.counts.unprocessed, run.counts.errors) == (4, 3, 1)
    assert "has 3 records" in run.status_msg
    run = imported(target_url, tmp_path, files, ", min_rows: 3", execution=execution, chunk_records=chunk_records)
    assert (run.state, run.counts.created, count(target_url)) == ("completed", 3, 3)


def test_one_empty_file_keeps_the_others_from_being_written(target_url_sqlite: str, tmp_path: Path) -> None:
    """T44: of a batch in which one file is empty, no row is written."""
    run = imported(target_url_sqlite, tmp_path, {"things.csv": ROWS, "things.json": "[]"}, chunk_records=1)
    assert (run.state, count(target_url_sqlite), run.counts.unprocessed) == ("failed", 0, 3)


def test_a_run_that_goes_on_counts_what_it_has_done(target_url: str, tmp_path: Path) -> None:
    """T44: the records of chunks that an earlier attempt committed count too."""
    stops = iter([None, None, "hand-back"])
    options = {"chunk_records": 1, "run": "9-1", "is_kept": True}
    first = imported(target_url, tmp_path, {"things.csv": ROWS}, ", min_rows: 3", should_stop=lambda: next(stops), **options)
    assert first.state == "handed-back"
    control = CONTROL.format(more=", min_rows: 3")
    again = run_import(target_url, control, {"things.csv": ROWS}, tmp_path, chunk_records=1, run="9-1")
    assert (again.state, again.counts.created, count(target_url)) == ("completed", 3, 3)
