"""The service itself: do its parts work, what waits, who works, how full the spool is, which tables the target has."""

from __future__ import annotations

import shutil
from importlib.metadata import version
from platform import python_version

from flask import Blueprint, redirect, url_for
from flask.typing import ResponseReturnValue
from redis.exceptions import RedisError

import clock
from catalog import care
from errors import TargetUnavailable
from jobs import queues
from pages.looks import page
from pages.session import signed_in
from routes import drift as drifting, health, parts
from routes.api_docs import VERSION

routes = Blueprint("system", __name__, url_prefix="/system")

_PACKAGES = ("flask", "gunicorn", "marshmallow", "rq", "redis", "sqlalchemy", "psycopg")


@routes.get("")
@signed_in("admin")
def show() -> ResponseReturnValue:
    """Show how the service fares."""
    wired = parts()
    try:
        hints, workers = len(queues.hints(wired.redis)), sorted(queues.alive(wired.redis))
    except RedisError:
        hints, workers = None, []
    try:
        tables = [f"{schema}.{name}" if schema else name for schema, name in wired.tables().names()]
    except TargetUnavailable:
        tables = None
    return page(
        "system.html", ready=health.all_said(), hints=hints, workers=workers, tables=tables, now=clock.now(),
        standing=care.standing(wired.catalog), disk=_disk(wired.settings.spool_url), python=python_version(), version=VERSION,
        packages={name: version(name) for name in _PACKAGES},
    )  # fmt: skip


@routes.get("/drift")
@signed_in("admin")
def drift() -> ResponseReturnValue:
    """Show which control files no longer fit the target, and what has changed in their tables."""
    found, is_whole = drifting.looked_at()
    changed = [one for one in found if drifting.word_of(one) != "ok"]
    return page("drift.html", standings=changed, good=len(found) - len(changed), total=len(found), is_whole=is_whole)


@routes.post("/drift/<digest>")
@signed_in("admin")
def take(digest: str) -> ResponseReturnValue:
    """Take a control file's tables as they are now."""
    drifting.take_as_it_is(digest)
    return redirect(url_for("pages.system.show"), 303)


def _disk(spool_url: str) -> tuple[int, int] | None:
    """Return the free bytes, and all, of the disk that the spool is on; None for a bucket, and where it cannot be seen."""
    if not spool_url.startswith("file:"):
        return None
    try:
        used = shutil.disk_usage(spool_url.removeprefix("file:"))
    except OSError:
        return None
    return used.free, used.total
