"""Telling people and programs what became of batches: beside the sweep, in threads of their own.

All is in the catalog: what is noted, what is to be told to whom, how often that was tried. So whatever is down or dies delays a notice,
and nothing else; and it is told at least once, with an id by which a second time can be told to be one.
"""

from __future__ import annotations

import logging
import random
import smtplib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from catalog import addresses, notices
from catalog.batches import Batch
from catalog.notices import Delivery, Kind, NewDelivery, Notice
from engine.target import open_target
from errors import LadingError
from jobs import mail
from jobs.events import Mover
from jobs.report import Reporter, batch_with_run
from jobs.webhooks import NotTaken, Undeliverable, tell, told_of_end
from settings import Settings
from spool import Spool

# Before the second try, the third, and so on: twelve tries in about a day. Each with jitter.
PAUSES_SECONDS = (5, 30, 120, 600, 1800, 3600, 2 * 3600, 3 * 3600, 4 * 3600, 6 * 3600, 6 * 3600)
JITTER = 0.2
LOOK_SECONDS = 1.0  # how often is looked for what is to be told
HOLD_SECONDS = 600.0  # longer than a try can last; one that died is made again after this time
MESSAGE_CHARS = 500
REQUESTS_AT_ONCE = 4
MOST_ORDERED_PAUSE_SECONDS = 60.0  # of record's events: an import may wait for them

log = logging.getLogger(__name__)


def event_of(batch: Batch) -> str:
    """Return the event that the end of a batch's run is."""
    return f"batch.{batch.run.state if batch.run else batch.state}"


@dataclass
class Notices:
    """What delivers."""

    catalog: Engine
    spool: Spool
    settings: Settings
    pauses_seconds: Sequence[float] = PAUSES_SECONDS
    _threads: list[threading.Thread] = field(default_factory=list, init=False)

    def start(self, is_over: threading.Event, worker: str) -> None:
        """Begin to deliver, beside the worker of this name, until `is_over`. What the end of the process cuts off is tried again."""
        # Several for requests, since some receivers let one wait.
        events = Mover(self.catalog, open_target(self.settings.target_url), self.settings, worker)
        steps = [("mail", self.tell_by_mail), ("events", events.move)]
        for name, step in (*steps, *[("webhooks", self.tell_by_request)] * REQUESTS_AT_ONCE):
            thread = threading.Thread(target=self._repeat, args=(is_over, step), name=f"notices-{name}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def _repeat(self, is_over: threading.Event, step: Callable[[], bool]) -> None:
        while not is_over.is_set():
            try:
                if step():
                    continue
            except (SQLAlchemyError, LadingError, OSError) as error:
                log.warning("notices go on after: %s", error)
            is_over.wait(LOOK_SECONDS)

    # Who is to be told ----------------------------------------------------------------------------------------------
    def fan_out(self) -> bool:
        """Work out who is to be told of the ends that were noted; False where there were none."""
        found = notices.ended(self.catalog)
        for notice in found:
            batch = batch_with_run(self.catalog, notice.batch_id, notice.run)
            new = [*self._mails(notice, batch), *told_of_end(self.catalog, self.settings, batch, event_of(batch))] if batch else []
            notices.settle(self.catalog, notice, new)
        return bool(found)

    def _mails(self, notice: Notice, batch: Batch) -> list[NewDelivery]:
        outcome: addresses.Outcome = "success" if mail.is_success(batch) else "failure"
        event = event_of(batch)
        named = [address for told_of, _, address in (one.partition(":") for one in batch.addresses) if told_of == outcome]
        return [
            NewDelivery(
                id=notices.id_of("mail", notice.batch_id, notice.run, address), kind=Kind.MAIL, recipient=address, event=event,
                batch_id=notice.batch_id, run=notice.run,
            )
            for address in named or addresses.told_by_default(self.catalog, batch.control, outcome)
        ]  # fmt: skip

    # Mails ----------------------------------------------------------------------------------------------------------
    def tell_by_mail(self) -> bool:
        """Send one mail that is due; False where there was nothing to do."""
        is_busy = self.fan_out()
        held = notices.claim(self.catalog, Kind.MAIL, HOLD_SECONDS)
        if held is not None:
            self._try(held, self._mail)
        return is_busy or held is not None

    def _mail(self, held: Delivery) -> int | None:
        settings = self.settings
        if settings.smtp_url is None or settings.mail_from is None:
            raise NotTaken("SMTP_URL is unset")
        batch = batch_with_run(self.catalog, held.batch_id, held.run)
        if batch is None:
            raise Undeliverable("the batch is gone")
        report = Reporter(self.catalog, self.spool, settings).report(batch)
        try:
            mail.send(mail.message(report, sender=settings.mail_from, recipient=held.recipient, delivery_id=held.id), settings.smtp_url)
        except smtplib.SMTPRecipientsRefused as refusal:
            status, said = next(iter(refusal.recipients.values()))
            text = f"the mail server refused the address: {said.decode(errors='replace')}"
            raise (Undeliverable if status >= 500 else NotTaken)(text, status) from refusal
        except smtplib.SMTPResponseException as refusal:
            raise NotTaken(f"the mail server answered: {refusal.smtp_error!r}", refusal.smtp_code) from refusal
        return 250

    # Requests -------------------------------------------------------------------------------------------------------
    def tell_by_request(self) -> bool:
        """Make one request that is due; False where there was none."""
        held = notices.claim(self.catalog, Kind.WEBHOOK, HOLD_SECONDS)
        if held is not None:
            self._try(held, lambda held: tell(self.catalog, self.settings, held))
        return held is not None

    # Tries ----------------------------------------------------------------------------------------------------------
    def _try(self, held: Delivery, deliver: Callable[[Delivery], int | None]) -> None:
        """Make one try and note what came of it."""
        try:
            status = deliver(held)
        except Undeliverable as error:
            self._give_up(held, error.status, str(error))
        except NotTaken as error:
            self._put_off(held, error.status, str(error), error.after_seconds)
        except SQLAlchemyError:
            raise
        except OSError as error:
            self._put_off(held, None, f"{type(error).__name__}: {error}")
        except Exception:
            log.exception("delivery %s met an internal error", held.id)
            self._put_off(held, None, "internal error; the worker's log tells more")
        else:
            notices.delivered(self.catalog, held, status)
            log.info("batch %d: told by %s (%s)", held.batch_id, held.kind, held.id)

    def _put_off(self, held: Delivery, status: int | None, message: str, after_seconds: float = 0.0) -> None:
        # One of a row is never given up alone, since those behind it would overtake it: the webhook is disabled, after a while.
        if held.tries > len(self.pauses_seconds) and not held.is_ordered:
            self._give_up(held, status, message)
            return
        pause = self.pauses_seconds[min(held.tries, len(self.pauses_seconds)) - 1]
        pause = (min(pause, MOST_ORDERED_PAUSE_SECONDS) if held.is_ordered else pause) * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - jitter
        pause = max(pause, after_seconds)
        notices.put_off(self.catalog, held, pause, status, message[:MESSAGE_CHARS])
        if held.kind is Kind.WEBHOOK:  # the others to this receiver would only let us wait for it again
            notices.hold_back(self.catalog, held.recipient, pause)
        log.warning("batch %d: not told by %s (%s), try %d: %s", held.batch_id, held.kind, held.id, held.tries, message)

    def _give_up(self, held: Delivery, status: int | None, message: str) -> None:
        notices.give_up(self.catalog, held, status, message[:MESSAGE_CHARS])
        log.error("batch %d: will not be told by %s (%s): %s", held.batch_id, held.kind, held.id, message)
