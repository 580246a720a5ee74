"""What the keys of batches may write. A key's limits never change, so each is looked up once."""

from __future__ import annotations

from sqlalchemy import Engine

from catalog import keys
from engine.allowed import Allowed


class KeyLimits:
    """The limits of keys, by their ids; also of those that have expired or were revoked since."""

    def __init__(self, catalog: Engine) -> None:
        self._catalog = catalog
        self._known: dict[str, Allowed] = {}

    def of(self, key_id: str) -> Allowed:
        """Return what a key's batches may write."""
        if key_id not in self._known:
            key = keys.get(self._catalog, key_id)
            self._known[key_id] = Allowed(key.tables, key.actions) if key else Allowed()  # keys are never deleted
        return self._known[key_id]
