"""Helpers for tests of the web application: the real one, on real servers, asked by Flask's test client."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine
from werkzeug.test import TestResponse

import catalog
from app import create_app
from catalog import keys, migrate
from jobs.run_batch import Drain
from settings import Settings
from tests.engine_parts import sql
from tests.openapi_parts import Held
from tests.spool_parts import Place

ROOT = Path(__file__).parent.parent
CONTROL = b"""\
name: airlines
files:
  airlines.csv: {entity: Airline, action: Merge, required: true}
  more.csv: {entity: Airline, action: Merge}
entities:
- entity: Airline
  table: airlines
  input: [carrier, name]
  mappings:
  - carrier:
  - name:
"""
BAD_CONTROL = CONTROL.replace(b"table: airlines", b"table: airliners")


class Web:
    """The application, its catalog, and a key; calls are made with that key unless they say otherwise."""

    def __init__(self, settings: Settings) -> None:
        migrate.upgrade(settings.catalog_url)
        self.settings = settings
        self.app: Flask = create_app(settings)
        self.held = Held(self.app)
        self.catalog: Engine = catalog.connect(settings.catalog_url)
        self.key = self.new_key("import", "read")

    def close(self) -> None:
        """Close what the application has opened; what its replies had that its description does not say is told."""
        self.app.extensions["lading"].close()
        self.catalog.dispose()
        assert not self.held.wrong, "\n".join(dict.fromkeys(self.held.wrong))

    def new_key(self, *permissions: str, **options: Any) -> str:
        """Make a key with these permissions."""
        return keys.create(self.catalog, "a test", permissions, **options)

    def get(self, path: str, key: str | None = None, **options: Any) -> TestResponse:
        """GET a path."""
        return self.app.test_client().get(path, **self._as(key, options))

    def post(self, path: str, data: Any = None, key: str | None = None, **options: Any) -> TestResponse:
        """POST a form (or what the options say)."""
        return self.app.test_client().post(path, data=data, **self._as(key, options))

    def _as(self, key: str | None, options: dict[str, Any]) -> dict[str, Any]:
        headers = {"Authorization": f"apikey {key or self.key}"} | options.pop("headers", {})
        return options | {"headers": headers}

    def control(self, data: bytes = CONTROL, **fields: Any) -> str:
        """Upload a control file and return its digest."""
        reply = self.post("/api/control", {"file": (BytesIO(data), "control.yaml"), **fields})
        assert reply.status_code == 200, reply.text
        return reply.text

    def batch(self, **fields: str) -> str:
        """Make a batch for the control file and return its identifier."""
        reply = self.post("/api/batch", {"control": self.control(), **fields})
        assert reply.status_code == 200, reply.text
        return reply.text

    def ready(self, **fields: str) -> str:
        """Make a batch that has its one required file and return its identifier."""
        batch = self.batch(**fields)
        reply = self.post("/api/file", {"batch": batch, "name": "airlines.csv", "file": (BytesIO(b"carrier,name\nAA,American\n"), "a.csv")})
        assert reply.status_code == 200, reply.text
        return batch


def settings_for(target_url: str, folder: Path, redis_url: str, **more: str) -> Settings:
    """Return settings for this target; the catalog lies in the same PostgreSQL database, or beside the SQLite file."""
    catalog_url = f"sqlite:///{folder / 'catalog.db'}" if target_url.startswith("sqlite") else target_url
    urls = {"TARGET_URL": target_url, "CATALOG_URL": catalog_url, "SPOOL_URL": f"file:{folder / 'spool'}", "REDIS_URL": redis_url}
    return Settings.from_environment(urls | more)


@pytest.fixture
def web(target_url: str, tmp_path: Path, redis_url: str) -> Iterator[Web]:
    """Give the application on a target with one table; once on SQLite, once on PostgreSQL."""
    sql(target_url, "CREATE TABLE airlines (carrier varchar(2) PRIMARY KEY, name text NOT NULL)")
    made = Web(settings_for(target_url, tmp_path, redis_url))
    yield made
    made.close()


@pytest.fixture
def web_on_each_spool(target_url: str, tmp_path: Path, redis_url: str, place: Place) -> Iterator[Web]:
    """Give the application as `web` does, its spool once in a folder, once in a bucket (the fixture `place` of tests/spool_parts.py)."""
    sql(target_url, "CREATE TABLE airlines (carrier varchar(2) PRIMARY KEY, name text NOT NULL)")
    made = Web(settings_for(target_url, tmp_path, redis_url, SPOOL_URL=place.url, SPOOL_CACHE=str(place.local)))
    yield made
    made.close()


@pytest.fixture
def lite(target_url_sqlite: str, tmp_path: Path, redis_url: str) -> Iterator[Web]:
    """Give the application on SQLite, for what no database can change."""
    sql(target_url_sqlite, "CREATE TABLE airlines (carrier varchar(2) PRIMARY KEY, name text NOT NULL)")
    made = Web(settings_for(target_url_sqlite, tmp_path, redis_url))
    yield made
    made.close()


@contextmanager
def working(web: Web) -> Iterator[None]:
    """Carry out, meanwhile, whatever comes."""
    is_over = threading.Event()

    def work() -> None:
        with Drain(web.settings, "a test", os.getppid()) as drain:
            while not is_over.wait(0.01):
                while drain._next():
                    pass

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
