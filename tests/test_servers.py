"""The servers that tests run on are real, private and empty."""

from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
import sqlalchemy

from dev.servers import valkey_program
from tests import postgresql


@pytest.mark.both_postgresql
def test_a_postgresql_database_is_fresh(pg_database: str, request: pytest.FixtureRequest) -> None:
    """Each test has an empty PostgreSQL database of its own, on each version there is."""
    with psycopg.connect(pg_database) as connection:
        connection.execute("CREATE TABLE mine (id int)")
        version = connection.info.server_version // 10000
    assert f"postgresql{version}" in request.node.name


@pytest.mark.both_postgresql
def test_a_target_is_fresh(target_url: str) -> None:
    """A target has no tables at first, whatever kind it is."""
    engine = sqlalchemy.create_engine(target_url.replace("postgresql://", "postgresql+psycopg://"))
    assert sqlalchemy.inspect(engine).get_table_names() == []
    engine.dispose()


def test_the_wheels_version_comes_first(postgres_url: str) -> None:
    """A test without the marker runs on the wheel's PostgreSQL 18."""
    assert next(iter(postgresql.versions())) == "postgresql18"
    with psycopg.connect(postgres_url) as connection:
        assert connection.info.server_version // 10000 == 18


def test_valkey_is_empty(redis_url: str) -> None:
    """Each test finds an empty Valkey on a port of this machine only."""
    assert urlsplit(redis_url).hostname == "127.0.0.1"
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left", "over")


def test_valkey_is_emptied_between_tests(redis_url: str) -> None:
    """What the test before left in Valkey is gone."""
    with redis.Redis.from_url(redis_url) as client:
        assert client.get("left") is None


def test_the_programs_own_valkey_is_found() -> None:
    """A server for the queue is found without any being installed on the machine."""
    assert Path(valkey_program()).is_file()
