"""Upgrades: the catalog goes ahead while the workers of the version before still run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from catalog import migrate
from catalog.batches import State
from catalog.database import SCHEMA, writing
from catalog.tables import metadata
from dev.stack import ROOT
from tests.jobs_parts import Site, rows, wait_for

VERSIONS = sorted((ROOT / "catalog" / "migrations" / "versions").glob("*.py"))
FIRST = "0004"  # those before it were made when there was nothing to be upgraded yet
ADDS = {"create_table", "add_column", "create_index", "get_bind", "execute"}


@pytest.fixture
def site(target_url: str, tmp_path: Path, redis_url: str) -> Iterator[Site]:
    """Give an installation whose imports take some seconds."""
    urls = {"TARGET_URL": target_url, "SPOOL_URL": f"file:{tmp_path}/spool", "REDIS_URL": redis_url}
    urls["CATALOG_URL"] = f"sqlite:///{tmp_path}/catalog.db" if target_url.startswith("sqlite") else target_url
    made = Site(tmp_path, urls | {"CHUNK_RECORDS": "100", "LEASE_SECONDS": "4", "HEARTBEAT_SECONDS": "0.5", "SWEEP_SECONDS": "0.5"})
    yield made
    made.close()


def test_workers_go_on_beside_a_newer_catalog(site: Site) -> None:
    """In the middle of an import each table of the catalog gets a column, and a table comes: the worker ends this batch, and the next."""
    site.start_worker()
    site.slow_down()
    first, second = site.batch(rows(900)), site.batch(rows(250))
    wait_for(lambda: site.execute("SELECT count(*) FROM things")[0][0] >= 300)
    with writing(site.catalog) as connection:
        schema = f"{SCHEMA}." if connection.dialect.name == "postgresql" else ""
        for table in metadata.sorted_tables:
            connection.execute(text(f"ALTER TABLE {schema}{table.name} ADD COLUMN of_the_next_version varchar NOT NULL DEFAULT 'x'"))
        connection.execute(text(f"CREATE TABLE {schema}of_the_next_version (id integer PRIMARY KEY)"))
    assert site.get(first).state is State.RUNNING, "too quick for this test"
    migrate.upgrade(site.settings.catalog_url)  # as the release of a version without changes does
    assert (site.wait_over(first).counts.created, site.wait_over(second).counts.skipped) == (900, 250)
    third = site.batch(rows(10, 900))
    assert site.wait_over(third).counts.created == 10
    assert "Traceback" not in site.logged()


@pytest.mark.parametrize("path", [path for path in VERSIONS if path.name >= FIRST], ids=lambda path: path.stem)
def test_migrations_only_add(path: Path) -> None:
    """A migration adds tables, indexes and columns that may be left out, and takes away or changes nothing that older workers know."""
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    names = {
        n.func.attr for n in calls if isinstance(n.func, ast.Attribute) and isinstance(n.func.value, ast.Name) and n.func.value.id == "op"
    }
    assert names <= ADDS, names - ADDS
    for call in calls:
        if isinstance(call.func, ast.Attribute) and call.func.attr == "add_column":
            column = call.args[1]
            assert isinstance(column, ast.Call)
            said = {keyword.arg: keyword.value for keyword in column.keywords}
            nullable = said.get("nullable")
            is_required = isinstance(nullable, ast.Constant) and nullable.value is False
            assert not is_required or "server_default" in said, f"line {call.lineno}: a worker of the version before could add no row"


def test_the_rule_can_fail(tmp_path: Path) -> None:
    """A column without a default, and one that is dropped, are found."""
    for bad in ('op.add_column("t", sa.Column("c", sa.Integer, nullable=False))', 'op.drop_column("t", "c")'):
        path = tmp_path / "9999_bad.py"
        path.write_text(f"def upgrade():\n    {bad}\n", encoding="utf-8")
        with pytest.raises(AssertionError):
            test_migrations_only_add(path)
