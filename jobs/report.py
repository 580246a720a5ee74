"""What a mail tells of a batch, gathered from the catalog and the spool."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from sqlalchemy import Engine

from catalog import batches, controls
from catalog.batches import Batch
from engine.readers import FileRefused
from engine.rollup import Group, roll_up
from errors import DigestUnknown
from jobs.attachments import Attachment, TooMuch, reasons, refused, rows_in
from jobs.mail import Report
from jobs.order import limits_of
from schemas.control import parse
from settings import Settings
from spool import Spool

MOST_GROUPS = 500

GONE = "Its results are no longer kept."
MASKED = "The refused rows are not attached, because a control file of the batch masks a column."
TOO_MANY = "The refused rows are not attached: there are too many of them."
UNREADABLE = "The refused rows are not attached: a file cannot be read."
ATTACHED = "The refused rows and their reasons are attached; cells that a spreadsheet would run begin with an apostrophe there."


def link_of(settings: Settings, batch_id: int) -> str | None:
    """Return the address of a batch's page; None where PUBLIC_URL is unset."""
    return f"{settings.public_url}/imports/{batch_id}" if settings.public_url else None


def batch_with_run(catalog: Engine, batch_id: int, number: int) -> Batch | None:
    """Return a batch as this run of it ended, whatever has been asked of it since."""
    batch = batches.get(catalog, batch_id)
    run = next((run for run in batches.runs_of(catalog, batch_id) if run.number == number), None)
    return replace(batch, run=run, state=run.state) if batch and run else None


def control_title(catalog: Engine, digest: str) -> str:
    """Return the name by which people know a control file, or else the beginning of its digest."""
    known = controls.get(catalog, digest)
    return known.names[0] if known and known.names else known.comment or digest[:12] if known else digest[:12]


@dataclass(frozen=True, slots=True)
class Reporter:
    """What reports are gathered from."""

    catalog: Engine
    spool: Spool
    settings: Settings

    def report(self, batch: Batch) -> Report:
        """Return what is told of a batch and the run that it comes with."""
        groups: list[Group] = []
        attachments: list[Attachment] = []
        said = ""
        if batch.counts.errors:
            try:
                groups = roll_up(self._rows(batch), MOST_GROUPS)
                attachments, said = self._attachments(batch)
            except DigestUnknown:
                groups, said = [], GONE
        title = control_title(self.catalog, batch.control)
        return Report(batch, title, groups, attachments, said, link_of(self.settings, batch.id))

    def _rows(self, batch: Batch) -> Iterator[list[str]]:
        if batch.run is None or batch.run.results_digest is None:
            raise DigestUnknown("the run has no results any more")
        return rows_in(self.spool, batch.run.results_digest)

    def _attachments(self, batch: Batch) -> tuple[list[Attachment], str]:
        """Return what is attached, all or nothing, and what is said of it."""
        files, is_masked = self._control(batch)
        rest = self.settings.mail_attachment_bytes
        try:
            found = [reasons(self._rows(batch), rest)]
            for file in () if is_masked else batches.files(self.catalog, batch.id):
                rest = self.settings.mail_attachment_bytes - sum(len(one.content) for one in found)
                one = refused(self.spool, file, files, partial(self._rows, batch), limits_of(self.settings), rest)
                found += [one] if one else []
        except TooMuch:
            return [], TOO_MANY
        except FileRefused:
            return found, UNREADABLE
        return found, MASKED if is_masked else ATTACHED

    def _control(self, batch: Batch) -> tuple[Mapping[str, Any], bool]:
        """Return what the batch's control file says of its files, and whether one that it uses masks a column."""
        digests = [batch.control, *batches.control_pins_of(self.catalog, batch.id)]
        documents = []
        for digest in digests:
            with self.spool.open(digest) as blob:
                documents.append(parse(blob.read(), self.settings.max_control_bytes))
        return documents[0].data.get("files") or {}, any(document.masks for document in documents)
