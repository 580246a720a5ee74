"""What workers that died left of runs that are over is cleared away by the next one."""

from __future__ import annotations

from pathlib import Path

from catalog import batches
from catalog.batches import Counts, State
from engine.target import open_target
from jobs import leftovers
from tests.jobs_parts import Site
from tests.spool_parts import Place, place

__all__ = ["place"]


def test_only_runs_that_are_over_are_cleared_away(target_url: str, redis_url: str, tmp_path: Path, place: Place) -> None:
    """Heads and segments of a run that is over go; those of one under way, and of one that another installation may know, stay."""
    catalog_url = f"sqlite:///{tmp_path / 'catalog.db'}" if target_url.startswith("sqlite") else target_url
    site = Site(
        tmp_path,
        {
            "TARGET_URL": target_url,
            "CATALOG_URL": catalog_url,
            "REDIS_URL": redis_url,
            "SPOOL_URL": place.url,
            "SPOOL_CACHE": str(place.local),
        },
    )
    target = open_target(target_url)
    claims, results = [], site.store(b"x")
    for _ in range(2):
        batch_id = site.batch(b"code,size\na,1\n")
        claim = batches.claim(site.catalog, "w1", 30)
        assert claim is not None and claim.batch_id == batch_id
        claims.append(claim)
        if len(claims) == 1:
            assert batches.finish(site.catalog, batch_id, claim.fence, state=State.COMPLETED, counts=Counts(), results_digest=results)
    over, under_way = (f"{claim.batch_id}-1" for claim in claims)
    for run in (over, under_way, "1-7", "elsewhere"):
        target.take_over(run)
        site.spool.write_segment(run, "00000000-1", b"x")
    assert leftovers.clear(site.catalog, target, site.spool) == 1
    assert sorted(target.runs()) == sorted(site.spool.runs()) == sorted([under_way, "1-7", "elsewhere"])
    assert leftovers.clear(site.catalog, target, site.spool) == 0
    target.close()
    site.close()
