"""`flask spool`: the stored bytes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta

import click

import clock
from catalog import holds, retention as kept
from cli.base import Exit, Group, Unreachable, json_option, opened_catalog, put, say
from errors import DigestMismatch, DigestUnknown, LadingError
from settings import Settings
from spool import Spool, open_spool


def group(settings: Settings) -> click.Group:
    """Return `flask spool`."""
    made = Group("spool", help="Look after the stored files and results.")

    @made.command("verify")
    @json_option
    def verify(is_json: bool) -> None:
        """Read all that is stored, and name what was altered and what is missing."""
        with opened_catalog(settings) as engine, _opened(settings) as store:
            broken, checked = _broken(store)
            missing: dict[str, str] = {}
            for digest, what in kept.named(engine):
                if store.size(digest) is None:
                    missing.setdefault(digest, what)
        lines = [*(f"altered {digest}" for digest in broken), *(f"missing {digest} ({what})" for digest, what in missing.items())]
        put(is_json, {"checked": checked, "altered": broken, "missing": missing}, "\n".join([*lines, f"{checked} checked"]))
        if lines:
            say("Send the files again, or take them from a backup: docs/how-to/backup.md.")
            raise click.exceptions.Exit(Exit.FAILED)

    @made.command("sweep")
    @json_option
    def sweep(is_json: bool) -> None:
        """Delete what is kept no longer, as the workers do once an hour, and tell what that was."""
        from jobs import retention

        with opened_catalog(settings) as engine, _opened(settings) as store:
            if (until := holds.held_until(engine)) is not None:
                raise click.ClickException(f"a backup is being made: nothing is deleted until {until:%Y-%m-%dT%H:%M:%SZ}")
            deleted = retention.everything(engine, store, settings)
        lines = [f"{deleted.uploads} uploads that broke off", f"{len(deleted.files)} files", f"{deleted.batches} batches"]
        lines.append(f"the results of {deleted.results} runs")
        put(is_json, asdict(deleted), "\n".join([*lines, *(f"deleted {digest}" for digest in deleted.blobs)]))

    @made.command("hold")
    @click.option("--minutes", type=click.IntRange(1, 7 * 24 * 60), default=120, show_default=True, help="How long it lasts at most.")
    def hold(minutes: int) -> None:
        """Have nothing deleted for a while: for as long as a backup takes. In force when this command has ended."""
        from jobs.hold import FRESH_SECONDS

        with opened_catalog(settings) as engine:
            holds.hold(engine, clock.now() + timedelta(minutes=minutes))
        time.sleep(2 * FRESH_SECONDS)  # until every worker has seen it

    @made.command("release")
    def release() -> None:
        """End what `hold` began."""
        with opened_catalog(settings) as engine:
            holds.release(engine)

    return made


def _broken(store: Spool) -> tuple[list[str], int]:
    """Return the digests whose bytes are others, and of how many blobs those are."""
    broken, checked = [], 0
    for digest in store.digests(0):
        try:
            store.verify(digest)
        except DigestMismatch:
            broken.append(digest)
        except DigestUnknown:
            continue  # The sweep has deleted it in the meantime.
        checked += 1
    return sorted(broken), checked


@contextmanager
def _opened(settings: Settings) -> Iterator[Spool]:
    try:
        yield open_spool(settings.spool_url, settings.spool_cache, settings.spool_cache_bytes)
    except (OSError, LadingError) as error:
        raise Unreachable(f"the spool failed: {error}") from error
