"""Fixtures: real servers, started once for each test process, and something fresh in them for every test.

`target_url` gives a test an empty SQLite file and an empty PostgreSQL database in turn, `pg_database` the latter only; with the marker
`both_postgresql` on the other version of PostgreSQL too, where that is installed. `redis_url` is an empty Valkey.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import psycopg
import pytest
import redis

from dev.servers import answers, end_with_parent, free_port, stop, valkey_command, wait_until
from settings import Settings
from tests import other_stores, postgresql
from tests.object_store import ObjectStore, running as object_store_running

NUMBERS = itertools.count(1)


class Servers:
    """PostgreSQL servers by version, each started when first asked for."""

    def __init__(self) -> None:
        self.running: dict[str, postgresql.Server] = {}

    def get(self, version: str) -> postgresql.Server:
        """Return the running server of this version."""
        if version not in self.running:
            self.running[version] = postgresql.Server.start(postgresql.versions()[version])
        return self.running[version]


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name a parameter that is bytes by its place: gzip writes the time into them, and each worker must collect the same names."""
    return argname if isinstance(val, bytes) and not val.isascii() else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests of PostgreSQL on one version, or, marked so, on both; tests of `target_url` on SQLite too."""
    versions = list(postgresql.versions())
    if metafunc.definition.get_closest_marker("both_postgresql") is None:
        versions = versions[:1]
    if "target_url" in metafunc.fixturenames:
        metafunc.parametrize("target_url", ["sqlite", *versions], indirect=True)
    elif "postgres_url" in metafunc.fixturenames:
        metafunc.parametrize("postgres_url", versions, indirect=True)


@pytest.fixture(scope="session")
def postgres_servers() -> Iterator[Servers]:
    """Give the PostgreSQL servers of this test process."""
    servers = Servers()
    yield servers
    for server in servers.running.values():
        server.stop()


@pytest.fixture
def postgres_url(request: pytest.FixtureRequest, postgres_servers: Servers) -> str:
    """Give the URL of a PostgreSQL server's own database; write nothing there, but take `pg_database`."""
    return postgres_servers.get(getattr(request, "param", next(iter(postgresql.versions())))).url("postgres")


def _fresh_database(server_url: str) -> Iterator[str]:
    name = f"test{next(NUMBERS)}"
    with psycopg.connect(server_url, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}")
        yield f"{server_url.rpartition('/')[0]}/{name}"
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def pg_database(postgres_url: str) -> Iterator[str]:
    """Give the URL of an empty PostgreSQL database of this test's own."""
    yield from _fresh_database(postgres_url)


@pytest.fixture
def target_url_pg(pg_database: str) -> str:
    """Give an empty target in PostgreSQL."""
    return pg_database


@pytest.fixture
def target_url_sqlite(tmp_path: Path) -> str:
    """Give an empty target in SQLite; its file does not exist yet."""
    return f"sqlite:///{tmp_path / 'target.db'}"


@pytest.fixture
def target_url(request: pytest.FixtureRequest, target_url_sqlite: str) -> Iterator[str]:
    """Give an empty target: in SQLite, and in another run of the test in PostgreSQL."""
    if request.param == "sqlite":
        yield target_url_sqlite
    else:
        servers: Servers = request.getfixturevalue("postgres_servers")
        yield from _fresh_database(servers.get(request.param).url("postgres"))


@pytest.fixture(scope="session")
def valkey() -> Iterator[redis.Redis]:
    """Give a Valkey server of this test process's own."""
    folder = Path(tempfile.mkdtemp(prefix="valkey"))
    port = free_port()
    command = valkey_command(port, folder, is_kept=False)
    process = subprocess.Popen(command, start_new_session=True, preexec_fn=end_with_parent)
    wait_until(lambda: answers(port), process, "Valkey")
    with redis.Redis(host="127.0.0.1", port=port) as client:
        yield client
    stop(process)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def redis_url(valkey: redis.Redis) -> str:
    """Give the URL of an empty Valkey."""
    valkey.flushall()
    options = valkey.connection_pool.connection_kwargs
    return f"redis://{options['host']}:{options['port']}/0"


@pytest.fixture(scope="session")
def object_store() -> Iterator[ObjectStore]:
    """Give an S3 server of this test process's own, or what OBJECT_STORE names (see tests/other_stores.py)."""
    with other_stores.RUNNING.get(os.environ.get("OBJECT_STORE", ""), object_store_running)() as store:
        yield store


@pytest.fixture
def bucket_url(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give the URL of an empty prefix of a bucket, and put what its server asks for into the environment."""
    for name, value in object_store.environment().items():
        monkeypatch.setenv(name, value)
    return f"{object_store.scheme}://lading/test{next(NUMBERS)}-{os.getpid()}"


@pytest.fixture
def spool_dir(tmp_path: Path) -> Path:
    """Give an empty folder for a spool."""
    folder = tmp_path / "spool"
    folder.mkdir()
    return folder


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the settings of whoever runs the tests out of them."""
    ours = {f.name.upper() for f in fields(Settings)} | {"DATABASE_URL"}
    for name in [n for n in os.environ if n.removesuffix("_FILE") in ours]:
        monkeypatch.delenv(name)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave tests of several machines out where nobody lets us imitate them."""
    wanted = [item for item in items if "network" in getattr(item, "fixturenames", ())]
    if not wanted:
        return
    from tests.hosts_parts import can_be_imitated  # only here: it imports much that other tests can do without

    if not can_be_imitated():
        config.hook.pytest_deselected(items=wanted)
        items[:] = [item for item in items if item not in wanted]
