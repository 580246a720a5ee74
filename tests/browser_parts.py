"""Helpers for tests of the pages in a real browser: Chromium, a service to look at, and what every page must keep to."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import html5lib
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

import catalog
from catalog import keys, sessions
from dev.stack import ROOT, Stack
from pages.session import COOKIE

AXE = ROOT / "tests/data/axe/axe-4.14.1.min.js"
NAMES = ("chromium", "chromium-browser", "google-chrome")
# It runs as root in containers, and is to speak to nobody but us.
SWITCHES = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--force-color-profile=srgb", "--font-render-hinting=none",
)  # fmt: skip
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
WIDTHS = (360, 1280)


def chromium() -> str:
    """Return the browser: what CHROMIUM names, else the machine's own."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    assert found, "the pages are tested in a browser, and there is none: `make browser` installs Chromium, or CHROMIUM names one"
    return found


@contextmanager
def browser() -> Iterator[Browser]:
    """Run a browser without a window."""
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium(), args=list(SWITCHES))
        yield launched
        launched.close()


def sign_in_address(stack: Stack) -> str:
    """Return an address that signs in once, as the command prints it."""
    command = [sys.executable, "-m", "flask", "admin", "link"]
    env = stack.env | {"PUBLIC_URL": stack.address}
    return subprocess.run(command, cwd=ROOT, env=env, check=True, stdout=subprocess.PIPE, text=True, timeout=120).stdout.strip()


class Visitor:
    """A person at the browser, of whose pages everything is noted that should not be: errors, and requests to other hosts."""

    def __init__(self, browser: Browser, stack: Stack, **options: Any) -> None:
        self.stack = stack
        self.wrong: list[str] = []
        self.context: BrowserContext = browser.new_context(**options)
        self.context.set_default_timeout(30_000)
        self.context.on("console", lambda message: self.wrong.append(message.text) if message.type in ("error", "warning") else None)
        self.context.on("weberror", lambda error: self.wrong.append(str(error.error)))
        self.context.on("request", lambda request: self._note(request.url))
        self.page: Page = self.context.new_page()

    def _note(self, url: str) -> None:
        if not url.startswith((self.stack.address, "data:")):
            self.wrong.append(f"asked for {url}")

    def sign_in(self) -> None:
        """Sign in by an address that the command has made."""
        self.page.goto(sign_in_address(self.stack))
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_url(f"{self.stack.address}/")

    def is_signed_in(self) -> None:
        """Be signed in without having to wait for a command: with a session that is put into the catalog."""
        engine = catalog.connect(self.stack.env["CATALOG_URL"])
        key = keys.create(engine, "a person", ["admin"])
        token = sessions.begin(engine, key.split("_")[1])
        engine.dispose()
        self.context.add_cookies([{"name": COOKIE, "value": token, "url": self.stack.address}])

    def go(self, path: str) -> Page:
        """Open a page."""
        reply = self.page.goto(f"{self.stack.address}{path}")
        assert reply is not None
        assert reply.ok, f"{path}: {reply.status}"
        return self.page

    def check(self) -> None:
        """Hold what is promised of every page: valid HTML, nothing that axe finds, no error, nothing wider than the window."""
        source = self.context.request.get(self.page.url).text()
        html5lib.HTMLParser(strict=True).parse(source)
        self.page.evaluate(AXE.read_text(encoding="utf-8"))
        found = self.page.evaluate("axe.run().then(r => r.violations.map(v => v.id + ': ' + v.nodes.map(n => n.html).join(' ')))")
        assert found == [], f"{self.page.url}: {found}"
        wide = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{self.page.url} is {wide} pixels wider than the window"
        assert self.wrong == [], f"{self.page.url}: {self.wrong}"

    def check_in_all_looks(self, path: str, name: str, folder: Path) -> None:
        """Check a page in light and dark, on a phone and on a screen, and take a picture of each."""
        for scheme in SCHEMES:
            for width in WIDTHS:
                self.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
                self.page.set_viewport_size({"width": width, "height": 800})
                self.go(path)
                self.page.wait_for_load_state("networkidle")
                self.check()
                self.page.screenshot(path=folder / f"{name}-{scheme}-{width}.png", full_page=True)

    def close(self) -> None:
        """Close the browser's windows."""
        self.context.close()
