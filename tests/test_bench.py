"""The parts of the bench, on a few rows: what it generates, measures, checks and writes down."""

from __future__ import annotations

import csv
import json
import re
import sqlite3
import sys
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import data, formats, load_sqlite, plots, report
from bench.figures import HEADER, Figure, table
from bench.measure import Command, Failed, in_turns, median, once
from bench.site import ours

ROWS = 400


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Give small generated files."""
    return data.generated(ROWS, ["clean", "clean-resolved", "bad", "check", "changed"], tmp_path / "data")


def rows_of(path: Path) -> list[list[str]]:
    """Read a generated file, wrong bytes too."""
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.reader(file))[1:]


def test_generated_files_are_the_same_each_time(files: dict[str, Path], tmp_path: Path) -> None:
    """Two makings give the same bytes, and the kinds differ from the clean rows where, and as often as, they should."""
    again = data.generated(ROWS, ["clean"], tmp_path / "again")
    assert again["clean"].read_bytes() == files["clean"].read_bytes()
    clean = rows_of(files["clean"])
    assert len(clean) == ROWS and len({row[0] for row in clean}) == ROWS
    for kind in ("bad", "check"):
        differing = sum(one != other for one, other in zip(rows_of(files[kind]), clean, strict=True))
        assert differing == data.count_of(kind, ROWS) > 0
    assert all(one[2] != other[2] for one, other in zip(rows_of(files["changed"]), clean, strict=True))
    assert [row[6] for row in rows_of(files["clean-resolved"])] == [str(int(row[6][3:]) + 1) for row in clean]


def test_each_way_to_be_bad_is_refused(tmp_path: Path) -> None:
    """A worker refuses every kind of bad row that the bench makes, and no other row."""
    path = tmp_path / "items.csv"
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        csv.writer(file).writerows([data.INPUTS, *(data.spoilt(row, n) if n < 20 else row for n, row in enumerate(data.rows(50)))])
    items = load_sqlite.Items(tmp_path)
    sample = once(items.merge("Lading", path, created=30, errors=20))
    assert sample.told["state"] == "completed" and sample.peak_mib > 20


def test_what_is_compared_does_the_same(files: dict[str, Path], tmp_path: Path) -> None:
    """The bare executemany and a worker leave the same items; a count other than the expected one stops the bench."""
    items = load_sqlite.Items(tmp_path)

    def content() -> list[tuple]:
        with closing(sqlite3.connect(items.target)) as connection:
            return connection.execute(
                "SELECT code, description, sequence, price, start_date, category_id FROM item ORDER BY code"
            ).fetchall()

    once(items.bare(files["clean-resolved"]))
    bare = content()
    once(items.merge("Lading", files["clean"], created=ROWS, errors=0))
    assert len(bare) == ROWS and content() == bare
    with pytest.raises(Failed, match="expected"):
        once(items.merge("Lading", files["check"], created=ROWS, errors=0))


def test_the_formats_hold_the_same_rows(tmp_path: Path) -> None:
    """JSON Lines and an entity collection leave the items that the CSV file leaves."""
    items = load_sqlite.Items(tmp_path)
    paths = data.generated(ROWS, ["clean"], tmp_path / "data")
    files = [
        (formats.CSV, {"items.csv": paths["clean"]}),
        (formats.LINES, {"items.jsonl": formats.lines(tmp_path / "items.jsonl", data.rows(ROWS))}),
        (formats.COLLECTION, {"records.json": formats.collection(tmp_path / "records.json", data.rows(ROWS))}),
    ]
    found = []
    for control, named in files:
        once(ours("Lading", items.site, control, named, items.fresh, {"created": ROWS, "errors": 0}))
        with closing(sqlite3.connect(items.target)) as connection:
            found.append(
                connection.execute("SELECT code, sequence, price, is_active, category_id, notes FROM item ORDER BY code").fetchall()
            )
    assert len(found[0]) == ROWS and found[1] == found[2] == found[0]


def test_commands_take_turns(tmp_path: Path) -> None:
    """Commands run one after another, round by round, each prepared anew; one that fails stops the bench."""
    log = tmp_path / "log"

    def command(name: str, status: int = 0) -> Command:
        script = f"import sys; open(r'{log}', 'a').write('{name}'); sys.exit({status})"
        return Command(name, lambda: ([sys.executable, "-c", script], {}))

    samples = in_turns([command("a"), command("b")], 2)
    assert log.read_text() == "abab"
    assert len(samples["a"]) == 2 and 0 < median(samples["a"]) < 30
    with pytest.raises(Failed, match="exit status 3"):
        once(command("c", 3))


def test_the_page_is_written_from_what_was_measured(tmp_path: Path) -> None:
    """The page keeps its hand-written parts; figures that miss their goals say so."""
    figures = [Figure("load", "`\\copy`", 1.25, 1.3), Figure("batches", "1/s", 90.0, 100.0, is_least=True), Figure("other", "s", 12.3)]
    about = {"rows": 1000, "rounds": 3, "at": "2024-01-31 10:00+00:00", "postgresql": "15.14", "text": "| peers |"}
    kept = tmp_path / "figures.json"
    kept.write_text(json.dumps({"one": about | {"figures": [asdict(figure) for figure in figures]}}))
    page = tmp_path / "benchmarks.md"
    page.write_text(f"before\n{report.START}\nold\n{report.END}\nafter\n")
    report.write(["one", "never measured"], page, kept, tmp_path)
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text and "| peers |" in text
    assert "| load | `\\copy` | 1.25 | ≤ 1.3 | yes |  |" in text and "| batches | 1/s | 90.0 | ≥ 100 | **no** |  |" in text
    assert table(HEADER, [figures[2].cells()]).endswith("| other | s | 12.3 |  |  |  |\n")


def test_the_pictures_are_of_the_page() -> None:
    """The bars that the docs show are those of the tables in docs/benchmarks.md, and a page that explains them shows each."""
    pictures = plots.drawn(report.PAGE.read_text(encoding="utf-8"))
    on_disk = {path.name: path.read_text(encoding="utf-8") for path in report.PICTURES.glob("bench-*.svg")}
    assert pictures.keys() == on_disk.keys() and len(pictures) == 5
    assert all(on_disk[name] == picture for name, picture in pictures.items()), "`python -m bench.plots` draws them anew"
    shown = (report.PAGE.parent / "explanation" / "performance.md").read_text(encoding="utf-8")
    assert set(re.findall(r"pictures/(bench-\w+\.svg)", shown)) == pictures.keys()


def test_bars_are_as_long_as_their_figures() -> None:
    """A bar's length is its figure's share of the longest, its goal a stroke, its words cannot break out of the picture."""
    page = table(HEADER, [Figure("PostgreSQL: a & <b>", "`\\copy` (2.00 s)", 2.0, 4.0).cells(), Figure("x", "ms", 5.0).cells()])
    drawn = plots.drawn(page)
    assert drawn.keys() == {"bench-postgresql.svg", "bench-small.svg"}
    root = ElementTree.fromstring(drawn["bench-postgresql.svg"])
    bar = next(e for e in root if e.get("class") == "bar")
    goal = next(e for e in root if e.get("class") == "goal")
    assert float(bar.get("width", "")) * 2 == pytest.approx(float(goal.get("x1", "")) - plots.LABELS)
    assert "a & <b>" in [e.text for e in root]


def test_the_page_has_its_place_for_figures() -> None:
    """docs/benchmarks.md has the marks between which `make bench` writes."""
    page = report.PAGE.read_text()
    assert page.index(report.START) < page.index(report.END)
