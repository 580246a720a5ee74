"""What tests of stops and outages share: quick settings, an import that is under way, and what it must have come to in the end."""

from __future__ import annotations

from pathlib import Path

from catalog.batches import Options, State
from jobs import queues
from tests.jobs_parts import Site, rows, wait_for

QUICK = {"LEASE_SECONDS": "3", "HEARTBEAT_SECONDS": "0.5", "SWEEP_SECONDS": "1", "CHUNK_RECORDS": "100"}
MANY = 40_000


def urls(target_url: str, redis_url: str, folder: Path) -> dict[str, str]:
    """Return the environment of an installation."""
    catalog_url = f"sqlite:///{folder / 'catalog.db'}" if target_url.startswith("sqlite") else target_url
    made = {"TARGET_URL": target_url, "CATALOG_URL": catalog_url, "SPOOL_URL": f"file:{folder / 'spool'}", "REDIS_URL": redis_url}
    return made | QUICK


def assert_whole(site: Site, batch_id: int, count: int) -> None:
    """Every row is there once, every record has its one receipt, in order, and the counts say so."""
    batch = site.wait_over(batch_id, 90)
    assert (batch.state, batch.counts.input, batch.counts.created) == (State.COMPLETED, count, count)
    lines = site.results(batch_id).splitlines()[1:]
    assert [int(line.split(",")[3]) for line in lines] == list(range(2, count + 2))


def running(site: Site, count: int = MANY, first: int = 0, options: Options | None = None, is_awaited: bool = True) -> int:
    """Start an import, and wait until some of it is done."""
    batch_id = site.batch(rows(count, first), options)
    queues.enqueue(queues.connect(site.settings.redis_url), batch_id)
    if is_awaited:
        wait_for(lambda: site.get(batch_id).counts.input > 0)
    return batch_id
