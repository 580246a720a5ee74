"""What tests of the jobs share: a catalog with batches in it that wait."""

from __future__ import annotations

import hashlib
import itertools

from sqlalchemy import Engine

from catalog import batches, controls
from catalog.batches import Options

NUMBERS = itertools.count(1)


def scheduled(catalog: Engine, table: str | None = None, options: Options | None = None) -> int:
    """Make a batch without files that waits for the lane of `table` (by default one of its own); return its id."""
    lane = (None, table or f"table{next(NUMBERS)}")
    digest = hashlib.sha256(repr(lane).encode()).hexdigest()
    controls.add(catalog, digest, key_id="k1", tables=[lane])
    batch_id = batches.create(catalog, control=digest, key_id="k1")
    batches.schedule(catalog, batch_id, options or Options(), [lane])
    return batch_id
