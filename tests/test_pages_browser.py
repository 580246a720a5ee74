"""The pages as a person meets them: in a real browser, on the real service."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from playwright.sync_api import Browser, expect

from dev import demo
from dev.stack import ROOT, Stack
from tests.browser_parts import Visitor, browser
from tests.docs_parts import service

PICTURES = Path(os.environ["PICTURES"]) if "PICTURES" in os.environ else None  # where they are to be kept, for the docs


AIRLINES = """\
name: airlines
files:
  airlines.csv: {entity: Airline, action: Merge}
entities:
- entity: Airline
  table: airlines
  input: [carrier, name]
  mappings:
  - carrier:
  - name:
"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Give one browser to all tests."""
    with browser() as running:
        yield running


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, valkey: redis.Redis) -> Iterator[Stack]:
    """Give the service with the demo's tables and its first import."""
    folder = tmp_path_factory.mktemp("pages")
    demo.make_target(folder / "target.db")
    options = valkey.connection_pool.connection_kwargs
    with service(folder, demo.environment(folder) | {"REDIS_URL": f"redis://{options['host']}:{options['port']}/2"}) as running:
        running.env["KEY"] = demo.make_key(running.env)
        yield running


@pytest.fixture(scope="module")
def imported(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Import the demo's files, as its script does, and send a control file of a single table; return what the script said."""
    control = tmp_path_factory.mktemp("control") / "airlines.yaml"
    control.write_text(AIRLINES)
    send(stack, "-F", f"file=@{control}", "/api/control")
    return demo.run_import(stack.address, stack.env["KEY"], tmp_path_factory.mktemp("script"))


@pytest.fixture
def visitor(chromium: Browser, stack: Stack) -> Iterator[Visitor]:
    """Give somebody who is signed in, with all permissions."""
    made = Visitor(chromium, stack)
    made.is_signed_in()
    yield made
    made.close()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Give the folder where pictures go."""
    return PICTURES or tmp_path


def test_signing_in_by_keyboard(chromium: Browser, stack: Stack, pictures: Path) -> None:
    """By the address that a command prints, or with nothing but the keyboard with a key, one signs in, and out again."""
    visitor = Visitor(chromium, stack)
    visitor.sign_in()
    visitor.page.get_by_role("button", name="Sign out").click()
    visitor.check_in_all_looks("/sign-in", "sign-in", pictures)
    page = visitor.page
    page.get_by_label("API key").press_sequentially(stack.env["KEY"])
    page.keyboard.press("Enter")
    page.wait_for_url(f"{stack.address}/")
    page.get_by_role("button", name="Sign out").press("Enter")
    page.wait_for_url(f"{stack.address}/sign-in")
    visitor.close()


def test_the_list_in_all_looks(visitor: Visitor, imported: str, pictures: Path) -> None:
    """The list of imports keeps to what every page must, in light and dark, on a phone and on a screen."""
    assert imported.startswith("completed")
    visitor.check_in_all_looks("/", "imports", pictures)
    expect(visitor.page.get_by_text("263 created, 20 refused").first).to_be_visible()


def test_the_list_is_live(visitor: Visitor, stack: Stack, imported: str) -> None:
    """What a script sends shows in the open list by itself, and then how it ended; the focus stays where it was."""
    page = visitor.go("/")
    link = page.get_by_role("link", name="Some flights").last
    link.focus()
    file = ROOT / "examples/data/airlines.csv"
    send(stack, "-T", str(file), "/api/import/airlines?fileName=live.csv")
    row = page.get_by_role("row", name="live.csv")
    expect(row).to_contain_text("completed", timeout=30_000)
    expect(row).to_contain_text("16 unchanged")
    expect(link).to_be_focused()
    visitor.check()


def send(stack: Stack, *words: str) -> str:
    """Call the API as a script does; the last word is the path."""
    *options, path = words
    command = ["curl", "-sS", "--fail-with-body", "-u", f"api:{stack.env['KEY']}", *options, f"{stack.address}{path}"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=60).stdout
