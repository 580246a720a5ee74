"""Event handlers: each changed record is told to webhooks, once it is certain and not before, in order, and the import waits for them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import clock
from catalog import batches, holds, keys, notices, webhooks
from catalog.batches import State
from catalog.notices import Progress
from engine import events as told_of, writers
from engine.target import open_target
from jobs.events import Mover
from tests.engine_parts import sql
from tests.jobs_parts import wait_for
from tests.notice_parts import ONE_FILE, TABLE, notices_of
from tests.security_parts import work_off
from tests.test_webhooks import verify_of_the_docs
from tests.web_parts import Web, settings_for, working
from tests.webhook_parts import Receiver, hook, receiver

__all__ = ["receiver"]
HANDLERS = "?withEventHandlers=true"
RECORDS = "record.created,record.updated,record.deleted"


def web_for(target_url: str, folder: Path, redis_url: str, **settings: str) -> Web:
    """Make an application with one table, which may reach 127.0.0.1 and cuts files into small chunks."""
    sql(target_url, TABLE)
    more = {"WEBHOOK_NETWORKS": "127.0.0.1/32", "CHUNK_RECORDS": "10"} | settings
    made = Web(settings_for(target_url, folder, redis_url, **more))
    made.control(ONE_FILE)
    made.app.test_cli_runner().invoke(args=["db", "upgrade"])
    return made


@pytest.fixture
def web(target_url: str, tmp_path: Path, redis_url: str) -> Iterator[Web]:
    """Give the application; once on SQLite, once on PostgreSQL."""
    made = web_for(target_url, tmp_path, redis_url)
    yield made
    made.close()


@pytest.fixture
def lite(target_url_sqlite: str, tmp_path: Path, redis_url: str) -> Iterator[Web]:
    """Give the same on SQLite, for what no database can change."""
    made = web_for(target_url_sqlite, tmp_path, redis_url)
    yield made
    made.close()


def imported(web: Web, data: str, query: str = HANDLERS) -> int:
    """Import some airlines to the end; return the batch."""
    reply = web.post(f"/api/import/airlines{query}", data.encode(), content_type="text/csv")
    assert reply.status_code == 202, reply.text
    work_off(web)
    return int(reply.text)


@contextmanager
def mover_of(web: Web) -> Iterator[Mover]:
    """Give what moves events on."""
    target = open_target(web.settings.target_url)
    yield Mover(web.catalog, target, web.settings, "a test")
    target.close()


def waiting(web: Web) -> list[dict[str, Any]]:
    """Return the events that are in the outbox."""
    prefix = "lading_" if web.settings.target_url.startswith("sqlite") else "lading."
    pages = sql(web.settings.target_url, f"SELECT body, events FROM {prefix}events ORDER BY id")
    found = [json.loads(body) for body, _ in pages]
    assert [len(page) for page in found] == [size for _, size in pages]
    return [event for page in found for event in page]


def tell(web: Web) -> None:
    """Move on and deliver all that can be."""
    made = notices_of(web)
    with mover_of(web) as mover:
        while mover.move() or made.tell_by_request():
            pass


def heard(receiver: Receiver) -> list[dict[str, Any]]:
    """Return the events that a receiver has got, in their order."""
    return [event for _, body in receiver.got for event in json.loads(body)["data"]["events"]]


def test_each_change_of_a_record_is_told(web: Web, receiver: Receiver) -> None:
    """Created and updated records are told with id, line and values; unchanged and refused ones are not, and no masked column is."""
    made = hook(web, receiver.url, events=RECORDS)
    imported(web, "carrier,name\nAA,American\nUA,United\nDL,Delta\n", "")
    batch = imported(web, "carrier,name\nAA,American\nUA,United Airlines\nXYZ,Too long\nBA,British\n")
    tell(web)
    ((headers, body),) = receiver.got
    said = verify_of_the_docs()(made.secrets[0], headers, body)
    assert said["type"] == "records" and {k: said["data"][k] for k in ("batch", "run")} == {"batch": batch, "run": 1}
    common = {"entity": "Airline", "action": "Merge", "file": "airlines.csv"}
    assert said["data"]["events"] == [
        {"type": "record.updated", "id": "UA", "line": 3, "values": {"carrier": "UA", "name": "United Airlines"}} | common,
        {"type": "record.created", "id": "BA", "line": 5, "values": {"carrier": "BA", "name": "British"}} | common,
    ]
    web.control(ONE_FILE.replace(b"action: Merge", b"action: Delete").replace(b"  - name:\n", b"  - name: {masked: true}\n"))
    imported(web, "carrier,name\nUA,x\n")
    web.control(ONE_FILE.replace(b"  - name:\n", b"  - name: {masked: true}\n"))
    imported(web, "carrier,name\nBA,Secret\n")
    tell(web)
    deleted, masked = heard(receiver)[2:]
    assert (deleted["type"], deleted["id"], "values" in deleted) == ("record.deleted", "UA", False)
    assert masked["values"] == {"carrier": "BA"}


@pytest.mark.parametrize("query", ["", "?mode=dry-run&withEventHandlers=true", "?execution=AllOrNone&withEventHandlers=true"])
def test_what_does_not_stay_is_not_told(web: Web, query: str) -> None:
    """Without event handlers, in a dry run, and where AllOrNone took all back, nothing is told."""
    imported(web, "carrier,name\nAA,American\nXYZ,Too long\n", query)
    assert waiting(web) == []


def test_all_or_none_tells_with_its_commit(web: Web, receiver: Receiver) -> None:
    """An AllOrNone import that is kept tells all of its records."""
    hook(web, receiver.url, events=RECORDS)
    imported(web, "carrier,name\n" + "".join(f"A{n},x\n" for n in range(10)) + "B0,y\nB1,y\n", f"{HANDLERS}&execution=AllOrNone")
    tell(web)
    assert [event["id"] for event in heard(receiver)] == [*(f"A{n}" for n in range(10)), "B0", "B1"]


def test_events_of_a_record_come_in_order(web: Web, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """However chunks and writers take turns, what is told of one record is told in the order in which it happened."""
    monkeypatch.setattr(writers, "WORTH_A_THREAD", 1, raising=False)
    monkeypatch.setattr(told_of, "PAGE_EVENTS", 4)
    hook(web, receiver.url, events=RECORDS)
    imported(web, "carrier,name\n" + "".join(f"A{n % 7},{n}\n" for n in range(200)))
    tell(web)
    found = heard(receiver)
    assert len(found) == 200
    for n in range(7):
        assert [int(event["values"]["name"]) for event in found if event["id"] == f"A{n}"] == list(range(n, 200, 7))


def test_what_is_not_taken_holds_back_what_follows(lite: Web, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a request is tried again, no later one overtakes it, and another webhook is told meanwhile."""
    other = Receiver()
    monkeypatch.setattr(told_of, "PAGE_EVENTS", 4)
    receiver.status = 500
    hook(lite, receiver.url, events=RECORDS)
    hook(lite, other.url, events="record.created", entities="Airline,Other")
    hook(lite, other.url, events="record.deleted")
    hook(lite, other.url, events=RECORDS, entities="Other")
    imported(lite, "carrier,name\n" + "".join(f"A{n},x\n" for n in range(10)))
    tell(lite)
    assert len(receiver.got) == 1 and [event["id"] for event in heard(other)] == [f"A{n}" for n in range(10)]
    receiver.status = 200
    moved = clock.now() + timedelta(seconds=8)
    monkeypatch.setattr(clock, "now", lambda: moved)
    tell(lite)
    other.close()
    assert [event["id"] for event in heard(receiver)] == [f"A{n}" for n in [0, 1, 2, 3, *range(10)]]
    assert receiver.got[0][0]["webhook-id"] == receiver.got[1][0]["webhook-id"]
    assert all(one.body is None for one in notices.listed(lite.catalog) if one.state is Progress.DELIVERED)


def test_a_mover_that_dies_in_between_doubles_nothing(lite: Web, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages that are among the deliveries already, and in the outbox still, are not told twice."""
    hook(lite, receiver.url, events=RECORDS)
    imported(lite, "carrier,name\nAA,x\n")
    with mover_of(lite) as mover:
        with monkeypatch.context() as patched:
            patched.setattr(mover.target, "drop_events", lambda _: None)
            assert mover.move() and mover.move()
        assert len(waiting(lite)) == 1
    tell(lite)
    assert (len(receiver.got), waiting(lite)) == (1, [])


def test_nothing_moves_while_a_backup_is_made(lite: Web, receiver: Receiver) -> None:
    """A page stays in the outbox while a backup holds what would be deleted; the catalog's copy may be older than the target's."""
    hook(lite, receiver.url, events=RECORDS)
    imported(lite, "carrier,name\nAA,x\n")
    holds.hold(lite.catalog, clock.now() + timedelta(minutes=5))
    tell(lite)
    assert (len(waiting(lite)), receiver.got) == (1, [])
    holds.release(lite.catalog)
    tell(lite)
    assert (waiting(lite), len(receiver.got)) == ([], 1)


BOUND = {"EVENT_OUTBOX_RECORDS": "30", "LEASE_SECONDS": "1.5", "HEARTBEAT_SECONDS": "0.2"}


def test_an_import_waits_rather_than_let_the_outbox_grow(
    target_url: str, tmp_path: Path, redis_url: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the outbox full, an import stops at a chunk border, keeps its lease, says why; and goes on as events are taken away."""
    monkeypatch.setattr(writers, "WORTH_A_THREAD", 1, raising=False)
    web = web_for(target_url, tmp_path, redis_url, **BOUND)
    hook(web, receiver.url, events=RECORDS)
    data = "carrier,name\n" + "".join(f"{a}{b},x\n" for a in "ABCDEFGHIJ" for b in "0123456789")
    batch = int(web.post(f"/api/import/airlines{HANDLERS}", data.encode(), content_type="text/csv").text)

    def known() -> batches.Batch:
        found = batches.get(web.catalog, batch)
        assert found is not None
        return found

    with working(web):
        wait_for(lambda: "webhooks" in known().status_msg)
        first = known().lease_until
        wait_for(lambda: known().lease_until != first)
        assert (len(waiting(web)), known().state) == (30, State.RUNNING)
        most = 0
        while not known().state.is_over:
            most = max(most, len(waiting(web)))
            tell(web)
        tell(web)
    ended = known()
    web.close()
    assert most <= 30 and ended.state is State.COMPLETED and ended.status_msg == ""
    assert len(heard(receiver)) == len({event["id"] for event in heard(receiver)}) == 100


def test_an_import_that_waits_can_be_cancelled(target_url_sqlite: str, tmp_path: Path, redis_url: str) -> None:
    """Waiting for webhooks is a chunk border like any other."""
    web = web_for(target_url_sqlite, tmp_path, redis_url, **BOUND)
    data = "carrier,name\n" + "".join(f"{a}{b},x\n" for a in "ABCDEFGHIJ" for b in "0123456789")
    batch = web.post(f"/api/import/airlines{HANDLERS}", data.encode(), content_type="text/csv").text
    with working(web):
        wait_for(lambda: "webhooks" in web.get(f"/api/batch/{batch}", headers={"Accept": "application/json"}).get_json()["status_msg"])
        assert web.post(f"/api/batch/{batch}/cancel").text == "CANCELLING"
        wait_for(lambda: web.get(f"/api/batch/{batch}").text.startswith("cancelled"))
    web.close()


def test_a_dead_webhook_does_not_block_for_ever(lite: Web, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes no events of records for EVENT_PATIENCE_SECONDS is disabled, and what waits for it makes room."""
    receiver.status = 500
    made = hook(lite, receiver.url, events=RECORDS)
    imported(lite, "carrier,name\n" + "".join(f"A{n},x\n" for n in range(10)))
    tell(lite)
    assert notices.waiting_events(lite.catalog) == 10
    moved = clock.now() + timedelta(seconds=901)
    monkeypatch.setattr(clock, "now", lambda: moved)
    tell(lite)
    known = webhooks.get(lite.catalog, made.id)
    assert known is not None and not known.is_enabled and notices.waiting_events(lite.catalog) == 0
    (dropped,) = notices.listed(lite.catalog)
    assert (dropped.state, dropped.body) == (Progress.DROPPED, None)


def test_a_full_queue_of_deliveries_leaves_events_in_the_outbox(
    target_url_sqlite: str, tmp_path: Path, redis_url: str, receiver: Receiver
) -> None:
    """What waits in the catalog is bounded too."""
    receiver.status = 500
    web = web_for(target_url_sqlite, tmp_path, redis_url, EVENT_OUTBOX_RECORDS="20")
    hook(web, receiver.url, events=RECORDS)
    for letter in "ABCD":
        imported(web, "carrier,name\n" + "".join(f"{letter}{n},x\n" for n in range(10)))
        tell(web)
    assert (notices.waiting_events(web.catalog), len(waiting(web))) == (20, 20)
    web.close()


def test_nobody_looks_where_there_never_were_event_handlers(lite: Web) -> None:
    """Without a run with event handlers the target is not asked; with one, events that no webhook wants go away."""
    imported(lite, "carrier,name\nAA,x\n", "")
    with mover_of(lite) as mover:
        assert not mover.move() and mover.target._kept is None
        imported(lite, "carrier,name\nAB,x\n")
        assert mover.move() and waiting(lite) == [] and not mover.move()


def test_a_webhook_of_a_revoked_key_is_told_nothing(lite: Web, receiver: Receiver) -> None:
    """What was on its way to a webhook when its key was revoked does not leave any more."""
    hook(lite, receiver.url, events=RECORDS)
    imported(lite, "carrier,name\nAA,x\n")
    with mover_of(lite) as mover:
        mover.move()
    keys.revoke(lite.catalog, lite.key.split("_")[1])
    tell(lite)
    assert receiver.got == [] and notices.listed(lite.catalog)[0].state is Progress.DROPPED
