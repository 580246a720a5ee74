"""What the sweep deletes: uploads that broke off, files and results after their time.

The catalog gives a thing up first, in a transaction; then its bytes go, and only those that nothing in the catalog refers to and that
nobody has sent for long: others may be on their way to a name. A kill in between costs nothing: the next sweep finds the bytes.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from itertools import islice

from sqlalchemy import Engine

import clock
from catalog import retention
from settings import Settings
from spool import Spool

PARTIAL_SECONDS = 24 * 3600  # how long an upload that nobody writes to any more is kept
LOOKED_UP = 500  # digests that one query asks for
DAY_SECONDS = 24 * 3600

log = logging.getLogger(__name__)


def broken_off_uploads(_catalog: Engine, spool: Spool, settings: Settings) -> None:
    """Delete what uploads left that broke off, and those in parts that nobody has gone on with."""
    gone = spool.sweep_partials(PARTIAL_SECONDS) + spool.uploads.expire(settings.resume_hours * 3600)
    if gone:
        log.info("deleted %d broken-off uploads", gone)


def files_and_results(catalog: Engine, spool: Spool, settings: Settings) -> None:
    """Give up files and results whose time is over, and delete the bytes that nothing refers to."""
    unused_since = clock.now() - timedelta(days=settings.keep_files_days)
    while expired := retention.expire_files(catalog, unused_since):
        for digest in expired:
            log.info("the file %s was not used for %d days", digest, settings.keep_files_days)
    results = retention.expire_results(catalog, clock.now() - timedelta(days=settings.keep_results_days))
    if results:
        log.info("the results of %d runs were kept for %d days", results, settings.keep_results_days)
    # Not younger than all that is kept: where the catalog is not the one that the spool belongs to, somebody will have noticed by then.
    unused_seconds = min(settings.keep_files_days, settings.keep_results_days) * DAY_SECONDS
    stored = spool.digests(unused_seconds)
    while some := list(islice(stored, LOOKED_UP)):
        for digest in sorted(retention.unnamed(catalog, some)):
            if spool.delete(digest, unused_seconds):
                log.info("deleted %s from the spool", digest)
