"""Connections to PostgreSQL whose other side is no longer heard."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import InternalError

import catalog
from catalog import database
from engine.target import open_target

ON_SERVER = {"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "2", "tcp_user_timeout": "15000"}
HERE = {"connect_timeout": "2", "keepalives_idle": "10", "keepalives_interval": "5", "keepalives_count": "2", "tcp_user_timeout": "15000"}


@pytest.mark.both_postgresql
def test_both_sides_ask_whether_the_other_is_there(pg_database: str) -> None:
    """On connections of the target and of the catalog, both sides find out within seconds that the other is gone; the URL's word stands."""
    url = f"{pg_database}?connect_timeout=2"
    target, engine = open_target(url), catalog.connect(url)
    with closing(target.connect_raw()) as connection:
        assert {name: connection.execute(f"SHOW {name}").fetchone()[0] for name in ON_SERVER} == ON_SERVER
        assert connection.execute("SHOW idle_in_transaction_session_timeout").fetchone() == ("0",)
        assert HERE.items() <= connection.info.get_parameters().items()
    with engine.connect() as connection:
        assert {name: connection.execute(text(f"SHOW {name}")).scalar() for name in ON_SERVER} == ON_SERVER
        raw: Any = connection.connection.dbapi_connection
        assert HERE.items() <= raw.info.get_parameters().items()
    engine.dispose()


def test_a_claim_that_is_not_heard_of_again(pg_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever holds the queue's lock and falls silent, as a machine that is cut off does, loses it, so that the others' claims go on."""
    monkeypatch.setattr(database, "IDLE_SECONDS", 0.5)
    silent, other = catalog.connect(pg_database), catalog.connect(pg_database)
    with pytest.raises(InternalError, match="idle-in-transaction"), database.writing(silent) as held:
        database.lock_queue(held)
        began = time.monotonic()
        with database.writing(other) as connection:
            database.lock_queue(connection)
        assert 0.3 < time.monotonic() - began < 10
        held.execute(text("SELECT 1"))
    for engine in (silent, other):
        engine.dispose()
