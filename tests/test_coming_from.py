"""docs/coming-from.md: every row names a test that there is, and every route of `routes/compat` has a row."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from flask import Flask

from app import create_app
from dev.stack import ROOT
from settings import Settings
from tests.docs_parts import DOCS, read

PAGE = DOCS / "coming-from.md"
SYSTEMS = ["Haplo", "Workflow Import Queue", "ELMA365", "WorkSpan", "On Key"]
COLUMNS = ["what it is there", "in Lading", "test"]
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
CALL = re.compile(r"`([A-Z]+) (/[^`?\s]*)[^`]*`")


def tables(page: str) -> dict[str, list[list[str]]]:
    """Return each section's table as rows of cells, its header first; a `|` within a cell is written `\\|`."""
    sections = re.split(r"^## (.+)$", page, flags=re.MULTILINE)[1:]
    lines = {
        title: [line for line in body.splitlines() if line.startswith("|")]
        for title, body in zip(sections[::2], sections[1::2], strict=True)
    }
    return {title: [_cells(line) for line in rows if not re.fullmatch(r"[|\s:-]+", line)] for title, rows in lines.items()}


def _cells(line: str) -> list[str]:
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]


@cache
def names_in(path: Path) -> frozenset[str]:
    """Return the names of a file's tests."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"))


def wrong_rows(page: str) -> Iterator[str]:
    """Yield what is wrong with the rows of a page: each must fill its three cells and name tests that exist."""
    for title, (header, *rows) in tables(page).items():
        if header != COLUMNS:
            yield f"{title}: the columns are {header}"
        for row in rows:
            if len(row) != len(COLUMNS) or not all(row):
                yield f"{title}: {row} does not have three full cells"
                continue
            found = TEST.findall(row[2])
            if not found:
                yield f"{title}: {row[0]} names no test"
            for path, name in found:
                if not (ROOT / path).is_file() or name not in names_in(ROOT / path):
                    yield f"{title}: {row[0]}: there is no {path}::{name}"


def without_names(path: str) -> str:
    """Return a path with `{}` for each variable, however it is written.

    >>> without_names("/api/<uuid:id>/x") == without_names("/api/{client}/x")
    True
    """
    return re.sub(r"<[^>]*>|\{[^}]*\}", "{}", path)


def calls_of(page: str) -> set[tuple[str, str]]:
    """Return the calls that stand in the first cells of a page's rows, as `METHOD /path`."""
    cells = [row[0] for rows in tables(page).values() for row in rows]
    return {(method, without_names(path)) for cell in cells for method, path in CALL.findall(cell)}


def calls_served(app: Flask) -> set[tuple[str, str]]:
    """Return the calls that the modules under routes/compat answer."""
    compat = [r for r in app.url_map.iter_rules() if app.view_functions[r.endpoint].__module__.startswith("routes.compat.")]
    return {(method, without_names(rule.rule)) for rule in compat for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}}


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    """Give the application, of which only the routes are looked at."""
    files = {"TARGET_URL": "sqlite:///{}/t", "CATALOG_URL": "sqlite:///{}/c", "SPOOL_URL": "file:{}/s"}
    return create_app(Settings.from_environment({name: url.format(tmp_path) for name, url in files.items()}))


def test_every_system_has_its_table() -> None:
    """There is one section for each of the five systems, in order, and every row of it names a test that exists."""
    assert list(tables(read(PAGE))) == SYSTEMS
    assert not list(wrong_rows(read(PAGE)))


def test_every_route_of_theirs_has_a_row(app: Flask) -> None:
    """Each call that routes/compat answers stands in a first cell as METHOD and path, and each that stands there is answered."""
    assert calls_of(read(PAGE)) == calls_served(app)


HEAD = "## Haplo\n\n| what it is there | in Lading | test |\n|---|---|---|\n"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("| `GET /x?mode=A\\|B` | the same | `tests/test_coming_from.py::test_rows_without_a_test_are_seen` |", ""),
        ("| a | b | c |", "names no test"),
        ("| a | b | |", "three full cells"),
        ("| a | b |", "three full cells"),
        ("| a | b | `tests/test_coming_from.py::test_there_is_none` |", "there is no"),
        ("| a | b | `tests/test_nowhere.py::test_x` |", "there is no"),
        (
            "| a | b | `tests/test_coming_from.py::test_rows_without_a_test_are_seen` and `tests/test_coming_from.py::test_no` |",
            "there is no",
        ),
    ],
)
def test_rows_without_a_test_are_seen(row: str, said: str) -> None:
    """The tests above can fail: a row without a test, with an empty cell, or with a test that does not exist is told."""
    wrong = list(wrong_rows(HEAD + row))
    assert (said in wrong[0]) if said else not wrong


def test_calls_are_read_from_first_cells() -> None:
    """A call is read whatever its variables are called, without its query; other cells name none."""
    row = "| `POST /a/{id}/b?mode=x` and `GET /c` | `PUT /d` | e |"
    assert calls_of(HEAD + row) == {("POST", "/a/{}/b"), ("GET", "/c")}
