"""Whether what a finished run has left may be cleared away: not while a backup is being made."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from sqlalchemy import Engine

from catalog import holds

FRESH_SECONDS = 1.0  # a worker looks no more often: it ends hundreds of runs a second


@dataclass
class Hold:
    """What a worker knows of the hold."""

    catalog: Engine
    _is_on: bool = field(default=False, init=False)
    _looked_at: float = field(default=float("-inf"), init=False)

    def is_on(self) -> bool:
        """Tell whether nothing may be deleted."""
        if time.monotonic() - self._looked_at > FRESH_SECONDS:
            self._is_on = holds.held_until(self.catalog) is not None
            self._looked_at = time.monotonic()
        return self._is_on
