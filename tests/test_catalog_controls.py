"""What the catalog keeps of control files: every comment, and where each name has pointed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import Engine, select

import catalog
import clock
from catalog import controls, migrate
from catalog.database import reading, writing
from catalog.tables import control_names, controls as stored
from tests.catalog_parts import fresh

A, B = "a" * 64, "b" * 64


@pytest.fixture
def engine(target_url: str) -> Iterator[Engine]:
    """Give a catalog without control files of these tests."""
    with fresh(target_url) as made:
        yield made


def test_another_comment_is_another_entry(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same control file with another comment is a second entry, with the same one none; a comment may be long, and of any script."""
    now = clock.now()
    comments = ["nightly", "weekly", "nightly", "", "é" * 2000]
    for number, comment in enumerate(comments):
        monkeypatch.setattr(clock, "now", lambda moved=now + timedelta(seconds=number): moved)
        controls.add(engine, A, key_id=f"k{number}", tables=(), comment=comment)
    found = [(e.comment, e.created_at) for e in controls.entries(engine) if e.digest == A]
    assert found == [(comments[n], now + timedelta(seconds=n)) for n in (4, 3, 1, 0)]
    assert len(controls.entries(engine, limit=2)) == 2
    first = controls.get(engine, A)
    assert first is not None and first.comment == "nightly"


def test_a_name_is_known_by_where_it_pointed(engine: Engine) -> None:
    """A name goes on being one of the control files that it pointed to, and never is one of others."""
    for digest in (A, B, A):
        controls.add(engine, digest, key_id="k", tables=(), name="moved")
    controls.add(engine, B, key_id="k", tables=(), name="other")
    assert [controls.was_named(engine, digest, "moved") for digest in (A, B)] == [True, True]
    assert [controls.was_named(engine, digest, "other") for digest in (A, B)] == [False, True]


def test_an_older_catalog_keeps_its_control_files(target_url: str) -> None:
    """What was uploaded before there were entries has its one comment, and its names know where they point."""
    migrate.upgrade(target_url, "0003")
    engine = catalog.connect(target_url)
    now = clock.now()
    with writing(engine) as connection:
        for digest, comment in ((A, "nightly"), (B, "")):
            row = {"digest": digest, "comment": comment, "key_id": "k", "created_at": now, "tables": []}
            connection.execute(stored.insert(), row)
        connection.execute(control_names.insert(), {"name": "n", "digest": A, "key_id": "k", "moved_at": now})
    migrate.upgrade(target_url)
    assert sorted((e.digest, e.comment, e.created_at) for e in controls.entries(engine)) == [(A, "nightly", now), (B, "", now)]
    assert [controls.was_named(engine, digest, "n") for digest in (A, B)] == [True, False]
    controls.add(engine, A, key_id="k", tables=(), comment="nightly")
    assert len(controls.entries(engine)) == 2
    with reading(engine) as connection:
        assert connection.execute(select(control_names)).one().name == "n"
    engine.dispose()
