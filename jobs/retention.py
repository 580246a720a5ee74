"""What the sweep deletes: uploads that broke off, files and results after their time.

The catalog gives a thing up first, in a transaction; then its bytes go, and only those that nothing in the catalog refers to and that
nobody has sent for long: others may be on their way to a name. A kill in between costs nothing: the next sweep finds the bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice

from sqlalchemy import Engine

import clock
from catalog import expiry, notices, retention
from settings import Settings
from spool import Spool

PARTIAL_SECONDS = 24 * 3600  # how long an upload that nobody writes to any more is kept
LOOKED_UP = 500  # digests that one query asks for
DAY_SECONDS = 24 * 3600

log = logging.getLogger(__name__)


@dataclass
class Deleted:
    """What is no longer there."""

    uploads: int = 0  # that broke off
    files: list[str] = field(default_factory=list)  # digests of data files whose time is over
    batches: int = 0  # whose time is over
    results: int = 0  # runs whose results were kept long enough
    blobs: list[str] = field(default_factory=list)  # digests of what the spool no longer holds


def everything(catalog: Engine, spool: Spool, settings: Settings) -> Deleted:
    """Do all that follows, and return what was deleted."""
    done = [step(catalog, spool, settings) for step in STEPS]
    return Deleted(
        uploads=sum(each.uploads for each in done),
        files=[digest for each in done for digest in each.files],
        batches=sum(each.batches for each in done),
        results=sum(each.results for each in done),
        blobs=[digest for each in done for digest in each.blobs],
    )


def broken_off_uploads(_catalog: Engine, spool: Spool, settings: Settings) -> Deleted:
    """Delete what uploads left that broke off, and those in parts that nobody has gone on with; return how many there were."""
    gone = spool.sweep_partials(PARTIAL_SECONDS) + spool.uploads.expire(settings.resume_hours * 3600)
    if gone:
        log.info("deleted %d broken-off uploads", gone)
    return Deleted(uploads=gone)


def temporary_files(catalog: Engine, spool: Spool, settings: Settings) -> Deleted:
    """Give up the handles whose time is over, and delete at once the bytes that nothing else refers to; return what that was."""
    return Deleted(blobs=_delete_unnamed(catalog, spool, retention.expire_handles(catalog), settings.temporary_minutes * 60))


def old_batches(catalog: Engine, _spool: Spool, settings: Settings) -> Deleted:
    """Delete the batches whose time is over; their files and results go with the next step, where nothing else refers to them."""
    deleted = Deleted()
    if settings.keep_batches_days is not None:
        before = clock.now() - timedelta(days=settings.keep_batches_days)
        while found := expiry.expire_batches(catalog, before):
            deleted.batches += len(found)
            log.info("deleted %d batches that ended %d days ago or earlier", len(found), settings.keep_batches_days)
    return deleted


def files_and_results(catalog: Engine, spool: Spool, settings: Settings) -> Deleted:
    """Give up files and results whose time is over, and delete the bytes that nothing refers to; return what that was."""
    deleted = Deleted()
    unused_since = clock.now() - timedelta(days=settings.keep_files_days)
    while expired := retention.expire_files(catalog, unused_since):
        deleted.files += expired
        for digest in expired:
            log.info("the file %s was not used for %d days", digest, settings.keep_files_days)
    deleted.results = retention.expire_results(catalog, clock.now() - timedelta(days=settings.keep_results_days))
    if deleted.results:
        log.info("the results of %d runs were kept for %d days", deleted.results, settings.keep_results_days)
    # Not younger than all that is kept: where the catalog is not the one that the spool belongs to, somebody will have noticed by then.
    unused_seconds = min(settings.keep_files_days, settings.keep_results_days) * DAY_SECONDS
    deleted.blobs = _delete_unnamed(catalog, spool, spool.digests(unused_seconds), unused_seconds)
    return deleted


def _delete_unnamed(catalog: Engine, spool: Spool, digests: Iterable[str], unused_seconds: float) -> list[str]:
    deleted = []
    asked = iter(digests)
    while some := list(islice(asked, LOOKED_UP)):
        for digest in sorted(retention.unnamed(catalog, some)):
            if spool.delete(digest, unused_seconds):
                deleted.append(digest)
                log.info("deleted %s from the spool", digest)
    return deleted


def deliveries(catalog: Engine, _spool: Spool, settings: Settings) -> Deleted:
    """Forget the mails and requests that were over long ago. They are no data of anybody's, so nothing of them is returned."""
    gone = notices.forget_old(catalog, clock.now() - timedelta(days=settings.keep_notices_days))
    if gone:
        log.info("deleted %d deliveries that were over for %d days", gone, settings.keep_notices_days)
    return Deleted()


STEPS = (broken_off_uploads, temporary_files, old_batches, files_and_results, deliveries)
