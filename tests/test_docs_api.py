"""docs/reference/api.md: it describes every route, and its examples do what it says."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import create_app
from dev import demo
from dev.servers import free_port
from dev.stack import ROOT, Stack
from routes import openapi
from settings import Settings

PAGE = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(bash|text)\n(.*?)```", PAGE, re.DOTALL)
BRACKETS = str.maketrans("{}", "<>")
MARK = "---- the next block ----"


@pytest.fixture
def service(tmp_path: Path, redis_url: str) -> Iterator[Stack]:
    """Give the web process and two workers, on the demo's SQLite database."""
    demo.make_target(tmp_path / "target.db")
    stack = Stack(free_port(), tmp_path, demo.environment(tmp_path) | {"REDIS_URL": redis_url})
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


def test_every_route_is_described(tmp_path: Path) -> None:
    """Each route has a heading of its own with its method, and each heading is a route."""
    urls = {
        "TARGET_URL": f"sqlite:///{tmp_path / 't'}",
        "CATALOG_URL": f"sqlite:///{tmp_path / 'c'}",
        "SPOOL_URL": f"file:{tmp_path / 's'}",
    }
    app = create_app(Settings.from_environment(urls))
    rules = {(method, openapi.path_of(rule)) for rule, method, _ in openapi.native(app) if method not in ("HEAD", "OPTIONS")}
    routes = {f"{m} {path.translate(BRACKETS).replace('digest_or_name', 'digest or name')}" for m, path in rules}
    assert set(re.findall(r"^### `(.+)`$", PAGE, re.MULTILINE)) == routes


def test_the_examples_do_what_they_show(service: Stack, tmp_path: Path) -> None:
    """All bash blocks run as one script, and print what the text blocks after them show."""
    script = f"echo '{MARK}'\n".join(body for kind, body in BLOCKS if kind == "bash")
    env = os.environ | {"LADING": service.address, "KEY": demo.make_key(service.env)}
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=env, check=False, stdout=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
    printed = iter(done.stdout.split(f"{MARK}\n"))
    shown = ""
    for kind, body in BLOCKS:
        if kind == "bash":
            shown = next(printed)
        else:
            assert re.fullmatch(re.escape(body).replace(r"\.\.\.", "[^\n]*"), shown), f"{shown}\nis not\n{body}"
    assert next(printed, None) is None
