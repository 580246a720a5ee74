"""A target's connections: opened late, kept, and never carried across a fork."""

from __future__ import annotations

import os
import threading

from engine.target import open_target
from tests.engine_parts import sql


def test_a_forked_child_leaves_the_parents_connection_alone(target_url: str) -> None:
    """A child reflects over a connection of its own; the parent's still works when the child is gone."""
    sql(target_url, "CREATE TABLE parent_made (id int)")
    target = open_target(target_url)
    before = target.tables().names()
    child = os.fork()
    if child == 0:
        is_right = False
        try:
            is_right = target.tables().names() == before
            target.close()
        finally:
            os._exit(0 if is_right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    sql(target_url, "CREATE TABLE child_is_gone (id int)")
    assert [name for _, name in target.tables().names()] == ["child_is_gone", "parent_made"]
    target.close()


def test_opening_a_target_connects_to_nothing() -> None:
    """A target that is not there can be named without harm, and closed again."""
    target = open_target("postgresql://127.0.0.1:1/none")
    assert (target.dialect, target.can_share_writing) == ("postgresql", True)
    target.close()


def test_threads_may_ask_for_tables_at_once(target_url: str) -> None:
    """Web threads refresh and reflect the tables of one target side by side, and none waits for another for ever."""
    sql(target_url, "CREATE TABLE thing (id integer PRIMARY KEY)")
    target = open_target(target_url)
    done: list[str] = []

    def ask() -> None:
        for _ in range(100):
            tables = target.tables()
            done.append(tables.get(*tables.names()[0]).name)

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert done == ["thing"] * 800
    target.close()
