"""Moving the events of records from the target's outbox to the deliveries, for every webhook that listens.

Pages go in the order of their writing, by one process at a time. They are deliveries before they leave the outbox: whoever dies in between
leaves both, and the next one finds that the deliveries are made, by their ids.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from sqlalchemy import Engine

import clock
from catalog import batches, holds, markers, notices, turns, webhooks
from catalog.batches import Batch
from catalog.database import writing
from catalog.notices import Kind, NewDelivery
from catalog.webhooks import Webhook
from engine.outbox import StoredPage
from engine.target import Target
from jobs.webhooks import body_of
from settings import Settings

MARKER = "outbox"  # of an installation that has had event handlers: where there was none, nobody looks into the target
TURN_SECONDS = 30.0
PAGES_AT_ONCE = 20
TYPE = "records"


def note_use(catalog: Engine) -> None:
    """Have the outbox looked at from now on."""
    markers.record_marker(catalog, MARKER, "used")


@dataclass
class Mover:
    """What moves pages on."""

    catalog: Engine
    target: Target
    settings: Settings
    holder: str  # the name of the worker it stands beside

    def move(self) -> bool:
        """Move some pages on; False where there was nothing to do, too much waits already, or it is another's turn.

        Nor while a backup is made: of a page that moved between the catalog's copy and the target's, neither would have anything.
        """
        if markers.marker(self.catalog, MARKER) is None or not turns.take(self.catalog, "events", self.holder, TURN_SECONDS):
            return False
        is_full = notices.waiting_events(self.catalog) >= self.settings.event_outbox_records
        if is_full or holds.held_until(self.catalog) is not None:
            return False
        found = self.target.oldest_events(PAGES_AT_ONCE)
        if not found:
            return False
        told = [one for run in dict.fromkeys(page.run for page in found) for one in self._told(run, [p for p in found if p.run == run])]
        with writing(self.catalog) as connection:
            notices.add(connection, told)
        self.target.drop_events([page.id for page in found])
        return True

    def _told(self, run: str, pages: list[StoredPage]) -> list[NewDelivery]:
        """Return what the listeners are told of some pages of a run."""
        batch = batches.get(self.catalog, int(run.partition("-")[0]))
        if batch is None:
            return []
        listening = webhooks.listening(self.catalog, batch, webhooks.RECORD_EVENTS)
        return [one for page in pages for hook in listening if (one := _delivery(batch, page, hook)) is not None]


def _delivery(batch: Batch, page: StoredPage, hook: Webhook) -> NewDelivery | None:
    """Return what one webhook is told of a page; None where nothing in it matters to it."""
    events = [
        event for event in json.loads(page.body) if event["type"] in hook.events and (not hook.entities or event["entity"] in hook.entities)
    ]
    if not events:
        return None
    number = int(page.run.partition("-")[2])
    data = {"batch": batch.id, "run": number, "control": batch.control, "events": events}
    return NewDelivery(
        id=notices.id_of("events", hook.id, page.run, page.chunk, page.part), kind=Kind.WEBHOOK, recipient=hook.id, event=TYPE,
        batch_id=batch.id, run=number, body=body_of(TYPE, clock.now(), data), events=len(events), is_ordered=True,
    )  # fmt: skip
