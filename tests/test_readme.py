"""The README's script, as it stands there, against a running service."""

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev import demo
from dev.servers import free_port
from dev.stack import ROOT, Stack


@pytest.fixture
def service(tmp_path: Path, redis_url: str) -> Iterator[Stack]:
    """Give the web process and two workers, on the demo's SQLite database."""
    demo.make_target(tmp_path / "target.db")
    stack = Stack(free_port(), tmp_path, demo.environment(tmp_path) | {"REDIS_URL": redis_url}, is_quiet=True)
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


def test_the_readme_shows_the_script() -> None:
    """The script in the README is examples/import.sh, to the letter."""
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert (ROOT / "examples" / "import.sh").read_text(encoding="utf-8") in blocks


def test_the_script_imports_and_repeats(service: Stack, tmp_path: Path) -> None:
    """The four steps fill the tables as an independent count says they must; once more they change nothing, and say so."""
    key = demo.make_key(service.env)
    assert demo.problems(tmp_path, demo.run_import(service.address, key, tmp_path)) == []

    with sqlite3.connect(tmp_path / "target.db") as database:
        before = list(database.iterdump())
    again = demo.run_import(service.address, key, tmp_path)
    assert again.startswith("completed input=283 success=0 error=20 skip=263\n")
    with sqlite3.connect(tmp_path / "target.db") as database:
        assert list(database.iterdump()) == before
