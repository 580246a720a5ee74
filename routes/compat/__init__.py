"""The paths of other import systems: thin translations of their requests into ours, and of our replies into theirs. One file a system.

A system's file makes its blueprint with `system.blueprint` and is put into BLUEPRINTS; what it needs that we lack is built natively first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from flask import Blueprint

from routes.compat import elma365, haplo, onkey, workflow_import_queue, workspan

BLUEPRINTS: tuple[Blueprint, ...] = (haplo.routes, workflow_import_queue.routes, elma365.routes, workspan.routes, onkey.routes)

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def and_for_second_question_mark(app: WsgiApp, prefixes: tuple[str, ...]) -> WsgiApp:
    """Let every `?` within the query of these paths count as `&`: programs glue their own query to an address that has one already."""

    def wrapped(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        query = environ.get("QUERY_STRING", "")
        if "?" in query and environ.get("PATH_INFO", "").startswith(prefixes):
            environ["QUERY_STRING"] = query.replace("?", "&")
        return app(environ, start_response)

    return wrapped


def prefixes() -> tuple[str, ...]:
    """Return how the paths of the other systems begin, up to their first variable."""
    return tuple(str(blueprint.url_prefix).partition("<")[0] for blueprint in BLUEPRINTS)
