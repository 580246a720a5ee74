"""Helpers for tests of the docs: a page's blocks, and a live service to run them against.

In a page, `bash` blocks are run from top to bottom in one shell, and a `text` block holds what the `bash` block before it printed, `...`
standing for anything within a line. A block below a line that names a file, as "`name.yaml`:", is that file. `sql` blocks make the tables
that the page is about, before anything else.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dev import demo
from dev.servers import free_port
from dev.stack import ROOT, Stack

DOCS = ROOT / "docs"
MARK = "---- the next block ----"
_BLOCK = re.compile(r"(?:^`([\w./-]+)`:\n\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str) -> list[tuple[str, str, str]]:
    """Return a page's fenced blocks: (the file that one is, or ""; its language; its text)."""
    return [(file, kind, body) for file, kind, body in _BLOCK.findall(page)]


def read(page: Path) -> str:
    """Return a page's text."""
    return page.read_text(encoding="utf-8")


def headings(page: str) -> set[str]:
    """Return the anchors of a page's headings, as links name them."""
    titles = re.findall(r"^#+ (.*)$", _BLOCK.sub("", page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


def links(page: str) -> list[tuple[str, str]]:
    """Return a page's relative links: (path, or "" for the page itself; anchor, or "")."""
    found = re.findall(r"\]\(([^)\s]+)\)", _BLOCK.sub("", page))
    return [(path, anchor) for path, _, anchor in (link.partition("#") for link in found) if "://" not in path]


def of_kind(page: str, kind: str) -> list[str]:
    """Return the texts of a page's blocks in one language, files left out."""
    return [body for file, k, body in blocks(page) if k == kind and not file]


def is_shown(shown: str, printed: str) -> bool:
    """Tell whether a `text` block shows what was printed."""
    return re.fullmatch(re.escape(shown).replace(r"\.\.\.", "[^\n]*"), printed) is not None


@contextmanager
def service(folder: Path, env: Mapping[str, str], port: int | None = None) -> Iterator[Stack]:
    """Run the web process and two workers, with these settings."""
    stack = Stack(port or free_port(), folder, dict(env), is_quiet=True)
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


def checkout(folder: Path) -> Path:
    """Make a folder that looks as the project's own does, so that a page may write into it; only `var` is its own."""
    folder.mkdir()
    for path in ROOT.iterdir():
        if path.name != "var":
            (folder / path.name).symlink_to(path)
    return folder


def run_page(page: Path, folder: Path, stack: Stack) -> None:
    """Run a page's bash blocks in this folder, where its files are made, and compare what they print with its text blocks."""
    text = read(page)
    for file, _, body in blocks(text):
        if file:
            (folder / file).write_text(body, encoding="utf-8")
    script = f"\necho '{MARK}'\n".join(of_kind(text, "bash"))
    env = os.environ | stack.env | {"LADING": stack.address, "KEY": demo.make_key(stack.env)}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=folder, env=env, check=False, timeout=120,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert done.returncode == 0, f"{page.name} ended with {done.returncode}:\n{done.stdout}"
    printed = iter(done.stdout.split(f"{MARK}\n"))
    last = ""
    for file, kind, body in blocks(text):
        if kind == "bash":
            last = next(printed)
        elif kind == "text" and not file:
            assert is_shown(body, last), f"{page.name} shows\n{body}\nbut what is printed is\n{last}"
    assert next(printed, None) is None
