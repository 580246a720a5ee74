"""docs/reference/api.md: it describes every route, and its examples do what it says."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

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


def application(folder: Path) -> Flask:
    """Return the application, of which only the routes are looked at."""
    urls = {"TARGET_URL": f"sqlite:///{folder / 't'}", "CATALOG_URL": f"sqlite:///{folder / 'c'}", "SPOOL_URL": f"file:{folder / 's'}"}
    return create_app(Settings.from_environment(urls))


def sections() -> dict[str, str]:
    """Return the text of each route by its heading, with that of the routes which it says it is like."""
    own = dict(pairs := list(zip((parts := re.split(r"^### `(.+)`$", PAGE, flags=re.MULTILINE))[1::2], parts[2::2], strict=True)))
    return {
        heading: text + "".join(own[other] for other in re.findall(r"`([A-Z]+ /[^`]+)`", text) if other in own) for heading, text in pairs
    }


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
    calls = {
        (method, openapi.path_of(rule)) for rule, method, _ in openapi.native(application(tmp_path)) if method not in ("HEAD", "OPTIONS")
    }
    assert set(re.findall(r"^### `(.+)`$", PAGE, re.MULTILINE)) == {heading(method, path) for method, path in calls}


def heading(method: str, path: str) -> str:
    """Return the heading of a call, as the page writes it."""
    return f"{method} {path.translate(BRACKETS).replace('digest_or_name', 'digest or name')}"


def test_nothing_is_left_unsaid(tmp_path: Path) -> None:
    """What the description for programs knows, the page says: each field and status by its route or by all, and each header."""
    app = application(tmp_path)
    described = openapi.document(app, "0", "/")
    any_of_them = PAGE.partition("any of them may answer:")[2].partition("**Forms.**")[0]
    by_all = {status for row in re.findall(r"^\| ([0-9, ]+) \|", any_of_them, re.MULTILINE) for status in row.split(", ")}
    unsaid = []
    for rule, method, _ in openapi.native(app):
        if method in ("HEAD", "OPTIONS"):
            continue
        text = sections()[heading(method, openapi.path_of(rule))]
        operation = described["paths"][openapi.path_of(rule)][method.lower()]
        names = [one["name"] for one in operation["parameters"] if one["in"] == "query"]
        for body in operation.get("requestBody", {}).get("content", {}).values():
            shape = body.get("schema", {})
            shape = described["components"]["schemas"][shape["$ref"].rpartition("/")[2]] if "$ref" in shape else shape
            names += shape.get("properties", {})
        unsaid += [f"{operation['operationId']}: {name}" for name in set(names) if not re.search(rf"`{name}[`=]", text)]
        statuses = set(operation["responses"]) - {"200"} - by_all
        unsaid += [f"{operation['operationId']}: {status}" for status in statuses if not re.search(rf"\b{status}\b", text)]
        headers = {one["name"] for one in operation["parameters"] if one["in"] == "header"}
        headers |= {name for reply in operation["responses"].values() for name in reply.get("headers", {})}
        unsaid += [f"{operation['operationId']}: {name}" for name in headers if name not in PAGE]
    assert not unsaid, "\n".join(sorted(unsaid))


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
