"""How long the pages take where there is much: the list of imports, and the log of a run of ten million records.

    .venv/bin/python -m bench.pages

Times are wall-clock, the best and the worst of the requests; the log's are of the search itself.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, insert

import catalog
import clock
from app import create_app
from catalog import controls, keys, migrate, sessions
from catalog.database import writing
from catalog.tables import batches, runs
from engine.results import HEADER
from engine.searching import Wanted, search
from pages.log import _ROWS, _SECONDS
from pages.session import COOKIE
from routes.receipts import stored
from settings import Settings

BATCHES = 100_000
RECORDS = 10_000_000
AT_ONCE = 10_000


def the_list(folder: Path) -> None:
    """Print how long the list takes with many batches in the catalog: the newest page, a filter, a search that finds nothing."""
    settings = Settings.from_environment({
        "CATALOG_URL": f"sqlite:///{folder}/catalog.db", "TARGET_URL": f"sqlite:///{folder}/target.db", "SPOOL_URL": f"file:{folder}/spool",
    })  # fmt: skip
    migrate.upgrade(settings.catalog_url)
    engine = catalog.connect(settings.catalog_url)
    key_id = keys.create(engine, "bench", ["admin"]).split("_")[1]
    fill(engine, key_id)
    client = create_app(settings).test_client()
    client.set_cookie(COOKIE, sessions.begin(engine, key_id))
    for path in ("/", "/?state=completed", "/?state=held", "/?q=nothing+like+it"):
        times = [_timed(lambda path=path: client.get(path)) for _ in range(10)]  # type: ignore[misc]
        print(f"list {path}: {min(times):.0f} to {max(times):.0f} ms")


def fill(engine: Engine, key_id: str) -> None:
    """Put many imports into the catalog, all completed."""
    made = clock.now() - timedelta(minutes=BATCHES)
    of_all: dict[str, Any] = {
        "control": "0" * 64,
        "comment": "every night",
        "creation_path": "NIGHTLY",
        "addresses": [],
        "key_id": key_id,
        "state": "completed",
    }
    of_all |= {"run": 1, "fence": 1, "is_cancel_wanted": False}
    run: dict[str, Any] = {"number": 1, "mode": "import", "execution": "PerRecord", "is_ordered": False, "has_event_handlers": False}
    run |= {"state": "completed", "status_msg": "", "code": "", "input": 1000, "created": 900, "updated": 50, "deleted": 0, "skipped": 40}
    run |= {"errors": 10, "unprocessed": 0, "progress": 1.0, "attempts": 1, "takeovers": 0}
    controls.add(engine, "0" * 64, key_id=key_id, tables=[], name="airlines")
    with writing(engine) as connection:
        for start in range(0, BATCHES, AT_ONCE):
            instants = {n: made + timedelta(minutes=n) for n in range(start, start + AT_ONCE)}
            rows = [of_all | {"id": n + 1, "file_name": f"{n}.csv", "created_at": at} for n, at in instants.items()]
            connection.execute(insert(batches), rows)
            times = ({"scheduled_at": at, "started_at": at, "completed_at": at + timedelta(seconds=9)} for at in instants.values())
            connection.execute(insert(runs), [run | {"batch_id": n + 1} | of for n, of in zip(instants, times, strict=True)])


def the_log(folder: Path) -> None:
    """Print how long the log's pages take where what is sought stands at the very end, or nowhere."""
    results = folder / "results.csv"
    with results.open("wb") as out:
        out.write(HEADER)
        for start in range(0, RECORDS, AT_ONCE):
            lines = (f"Core_Data_RecordCreated,The record was created.,Information,{n},,{n},f.csv\n" for n in range(start, start + AT_ONCE))
            out.write("".join(lines).encode())
        out.write(b'Core_Data_ReferenceNotFound,There is no Plane with tailnum \'N1\',Error,7,"{""tailnum"": ""N1""}",,f.csv\n')
    for wanted in (
        Wanted(),
        Wanted("Error"),
        Wanted(code="Core_Data_ReferenceNotFound"),
        Wanted(column="tailnum"),
        Wanted(text="no plane"),
    ):
        pages = list(_pages(results, wanted))
        print(f"log {wanted}: first answer {pages[0]:.0f} ms, slowest {max(pages):.0f} ms, {sum(pages):.0f} ms in {len(pages)} to the end")


def _pages(results: Path, wanted: Wanted) -> Iterator[float]:
    position, is_over = len(HEADER), False
    while not is_over:
        begun = time.monotonic()
        found = search(stored(results.open("rb"), position), position, wanted, _ROWS, _SECONDS)
        yield (time.monotonic() - begun) * 1000
        position, is_over = found.position, found.is_end or len(found.rows) == _ROWS


def _timed(ask: Callable[[], object]) -> float:
    begun = time.monotonic()
    ask()
    return (time.monotonic() - begun) * 1000


def main() -> None:
    """Measure both."""
    with tempfile.TemporaryDirectory() as folder:
        the_list(Path(folder))
        the_log(Path(folder))


if __name__ == "__main__":
    main()
