"""An installation for the tests of stops and outages."""

from __future__ import annotations

import os
import subprocess
import tempfile
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


def _mount(folder: Path, command: str = "mount -t tmpfs -o size=24m,mode=755 tmpfs") -> bool:
    """Make a folder a small disk of its own; False where this user may not."""
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    return subprocess.run([*sudo, *command.split(), str(folder)], stderr=subprocess.DEVNULL).returncode == 0


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """Give a disk of 24 MiB, a tmpfs."""
    # Below /tmp itself, since no other user, such as PostgreSQL's, may enter a test's own folder.
    folder = Path(tempfile.mkdtemp(prefix="disk", dir="/tmp"))
    assert _mount(folder)
    yield folder
    assert _mount(folder, "umount --lazy")
    folder.rmdir()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave tests of full disks out where nobody lets us mount one; the limit of a file's size stands in for them in test_spool.py."""
    wanted = [item for item in items if "small_disk" in getattr(item, "fixturenames", ())]
    if not wanted:
        return
    with tempfile.TemporaryDirectory() as folder:
        if _mount(Path(folder)):
            _mount(Path(folder), "umount")
            return
    config.hook.pytest_deselected(items=wanted)
    items[:] = [item for item in items if item not in wanted]
