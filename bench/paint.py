"""How soon a browser shows the list of imports where there are many of them: the first paint, as the browser itself tells it.

    .venv/bin/python -m bench.paint

The real service, Chromium, 100,000 imports in the catalog, on SQLite and on PostgreSQL. Of each address the first visit (nothing kept) and
the best and the median of ten more, in milliseconds from the click to the first paint; and how long the service took for the page alone.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from playwright.sync_api import Browser

import catalog
from bench.databases import Postgres
from bench.pages import BATCHES, fill
from catalog import keys, migrate
from dev import demo
from dev.servers import free_port
from dev.stack import Stack
from tests.browser_parts import Visitor, browser

PATHS = ("/", "/?state=completed", "/?state=held", "/?control=airlines", "/?origin=ERP", "/?q=99999", "/?q=nothing+like+it")
VISITS = 10
_PAINT = """new Promise((resolve) => new PerformanceObserver((list) => {
  const paint = list.getEntriesByName("first-contentful-paint")[0];
  if (paint) resolve(paint.startTime);
}).observe({ type: "paint", buffered: true }))"""
_REPLY = "(e => e.responseEnd - e.requestStart)(performance.getEntriesByType('navigation')[0])"


@contextmanager
def service(folder: Path, catalog_url: str) -> Iterator[Stack]:
    """Run the service on a catalog with many imports."""
    migrate.upgrade(catalog_url)
    engine = catalog.connect(catalog_url)
    fill(engine, keys.create(engine, "bench", ["admin"]).split("_")[1])
    engine.dispose()
    demo.make_target(folder / "target.db")
    stack = Stack(free_port(), folder, demo.environment(folder, os.environ) | {"CATALOG_URL": catalog_url}, is_quiet=True)
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


def first_paints(chromium: Browser, stack: Stack, path: str) -> tuple[float, list[float], float]:
    """Return the first paint of a first visit, those of more visits, and the shortest time of the page itself; in milliseconds."""
    visitor = Visitor(chromium, stack)
    visitor.is_signed_in()
    paints, replies = [], []
    for _ in range(VISITS + 1):
        page = visitor.go(path)
        paints.append(float(page.evaluate(_PAINT)))
        replies.append(float(page.evaluate(_REPLY)))
        page.goto("about:blank")
    visitor.close()
    return paints[0], paints[1:], min(replies)


def main() -> None:
    """Measure on both databases."""
    print(f"| {BATCHES:,} imports | catalog | first visit | best of more | median | the page itself |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, Postgres.running() as postgres, browser() as chromium:
        postgres.create("paint")
        urls = {"SQLite": f"sqlite:///{folder}/catalog.db", f"PostgreSQL {postgres.version}": postgres.url("paint")}
        for name, url in urls.items():
            (within := Path(folder) / name.partition(" ")[0]).mkdir()
            with service(within, url) as stack:
                for path in PATHS:
                    cold, warm, reply = first_paints(chromium, stack, path)
                    print(
                        f"| `{path}` | {name} | {cold:.0f} ms | {min(warm):.0f} ms | {median(warm):.0f} ms | {reply:.0f} ms |", flush=True
                    )


if __name__ == "__main__":
    main()
