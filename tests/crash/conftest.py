"""An installation for the tests of stops and outages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.parts import urls
from tests.jobs_parts import Site


@pytest.fixture
def site(target_url: str, redis_url: str, tmp_path: Path) -> Iterator[Site]:
    """Give an installation on SQLite, or on PostgreSQL for target and catalog both, without a worker yet."""
    made = Site(tmp_path, urls(target_url, redis_url, tmp_path))
    yield made
    made.close()
