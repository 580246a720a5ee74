"""The README's script, as it stands there, against a running service."""

import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from dev import demo
from dev.servers import free_port
from dev.stack import ROOT, Stack

PLACES = (("CATALOG_URL", "sqlite:///", "catalog.db"), ("SPOOL_URL", "file:", "spool"))  # by default below the folder that one is in


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


TABLES = """
CREATE TABLE authors (id serial PRIMARY KEY, code text NOT NULL UNIQUE);
INSERT INTO authors (code) VALUES ('A1');
CREATE TABLE titles (id serial PRIMARY KEY, isbn text NOT NULL UNIQUE, title text NOT NULL, author_id int REFERENCES authors);
"""


def test_a_file_of_ones_own_tonight(pg_database: str, tmp_path: Path, redis_url: str) -> None:
    """The commands under "Your own database" import a file into PostgreSQL as they stand there, without the service and with it."""
    with psycopg.connect(pg_database, autocommit=True) as database:
        database.execute(TABLES)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "wsgi.py").symlink_to(ROOT / "wsgi.py")
    (tmp_path / "titles.csv").write_text("isbn,title,author_id\n1,One,A1\n2,Two,B7\n")
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## Your own database")[1].split("\n## ")[0]
    alone, served = ("".join(lines) for lines in re.findall(r"\n\n((?:    .*\n)+)", section))
    env = os.environ | {"PYTHONPATH": str(ROOT), "TARGET_URL": pg_database, "REDIS_URL": redis_url}

    def run(script: str, status: int) -> str:
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True)
        assert done.returncode == status
        return done.stdout

    said = run(alone.replace("postgresql://me@localhost/books", pg_database), 2)
    assert "RecordCreated" in said and "There is no row in authors with author_id 'B7'" in said
    stack = Stack(free_port(), tmp_path, env | {name: f"{kind}{tmp_path}/var/{what}" for name, kind, what in PLACES}, is_quiet=True)
    try:
        stack.start()
        assert "Core_Data_RecordCreated,Record successfully created,Information,2,," in run(served.replace(":8000", f":{stack.port}"), 0)
    finally:
        stack.stop()
    with psycopg.connect(pg_database) as database:
        assert database.execute("SELECT isbn, author_id FROM titles").fetchall() == [("1", 1)]


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
