"""Runs that are shared: chunks of one import written by several hands come to what one worker comes to."""

from __future__ import annotations

import gzip
import threading
import time
from itertools import count
from pathlib import Path

import pytest

from engine import hand, segments, sharing, writers
from engine.order import Help, Stop
from engine.target import open_target
from errors import LeaseLost, TargetUnavailable
from tests.engine_parts import sql
from tests.share_parts import TABLES, Installation, pace, rows, written


@pytest.fixture(autouse=True)
def shared_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs of some chunks be shared at once, and their results lie in the store as well as in the ledger."""
    monkeypatch.setattr(sharing, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(writers, "WORTH_A_THREAD", 1)
    monkeypatch.setattr(segments, "INLINE_BYTES", 700)


@pytest.mark.parametrize(("name", "keys"), [("f.csv", 23), ("f.csv", 10_000), ("f.jsonl", 150)])
def test_a_shared_run_comes_to_what_one_alone_comes_to(target_url_pg: str, tmp_path: Path, name: str, keys: int) -> None:
    """Counts, receipts and rows are the same, with keys that come again in most chunks, in some, and in none."""
    site = Installation(target_url_pg, tmp_path, written(rows(400, keys), name), name)
    expected = site.alone()
    assert site.shared() == expected
    assert not site.failed and len(site.written) == 2
    assert min(site.written) > 3, "the hands have written next to nothing"
    assert sql(target_url_pg, "SELECT (SELECT count(*) FROM lading.offers) + (SELECT count(*) FROM lading.hands)") == [(0,)]


def test_chunks_with_keys_in_common_are_never_in_flight_together(target_url_pg: str, tmp_path: Path) -> None:
    """Every other chunk begins with a row that takes long: none behind it, with the same keys, may overtake it."""
    found = [(f"c{n % 10}", f"of chunk {n // 10}", "77" if n % 20 == 0 else "1", "k1") for n in range(120)]
    slow = "BEGIN IF NEW = 77 THEN PERFORM pg_sleep(0.1); END IF; RETURN true; END".replace("NEW", "$1")
    sql(target_url_pg, f"CREATE FUNCTION takes_long(integer) RETURNS boolean LANGUAGE plpgsql AS '{slow}'")
    tables = (*TABLES, "ALTER TABLE item ADD CHECK (takes_long(seat))")
    site = Installation(target_url_pg, tmp_path, written(found, "f.csv"), tables=tables)
    expected = site.alone()
    assert site.shared() == expected
    assert sum(site.written) > 2


def test_what_cannot_be_shared_is_carried_out_alone(target_url_pg: str, tmp_path: Path) -> None:
    """A compressed file can only be read from its beginning, one transaction has one writer, and triggers may write anything."""
    data = written(rows(60, 40), "f.csv")
    packed = Installation(target_url_pg, tmp_path, gzip.compress(data), "f.csv.gz")
    expected = packed.alone()
    assert packed.shared() == expected and packed.written == [0, 0]
    plain = Installation(target_url_pg, tmp_path, data)
    for options in ({"execution": "AllOrNone"}, {"mode": "dry-run"}, {"is_ordered": True}):
        expected = plain.alone(**options)
        assert plain.shared(**options) == expected and plain.threads == []
    body = "LANGUAGE plpgsql AS 'BEGIN RETURN new; END'"
    trigger = "CREATE TRIGGER t BEFORE INSERT ON item FOR EACH ROW EXECUTE FUNCTION passes()"
    sql(target_url_pg, f"CREATE FUNCTION passes() RETURNS trigger {body}")
    triggered = Installation(target_url_pg, tmp_path, data, tables=(*TABLES, trigger))
    expected = triggered.alone()
    assert triggered.shared() == expected and triggered.threads == []


def test_nobody_is_asked_for_help_with_chunks_that_cannot_be_shared(
    target_url_pg: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once some chunks in a row had to be written alone, the others of the run are not looked at for it any more."""
    monkeypatch.setattr(sharing, "MOST_UNFIT", 3)
    site = Installation(
        target_url_pg, tmp_path, written(rows(200, 40), "f.csv"), tables=(*TABLES, "CREATE UNIQUE INDEX ON item (lower(code))")
    )
    site.anew()
    asked: list[int] = []

    def invite(present: int, *_where: int) -> None:
        asked.append(present)
        if not site.threads:
            site.hand()

    with site.holder(Help(invite)) as (result, _):
        assert result.state == "completed"
    assert 3 <= len(asked) < 8


def test_a_hand_with_other_settings_writes_nothing(target_url_pg: str, tmp_path: Path) -> None:
    """A hand whose chunks have another size would write other chunks: it leaves, and its offer is taken by somebody else."""
    site = Installation(target_url_pg, tmp_path, written(rows(160, 1_000), "f.csv"))
    expected = site.alone()
    site.anew()

    def invite(present: int, *_where: int) -> None:
        if not site.threads:
            site.hand(chunk_records=7)

    with site.holder(Help(invite), should_stop=pace) as (result, results):
        assert site.outcome(result, results) == expected
    assert [type(error) for error in site.failed] == [hand.ReadOtherwise]


def test_a_hand_that_falls_silent_is_dismissed(target_url_pg: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it took is on offer again once its transaction is ended, and what it still puts into the store harms nobody."""
    site = Installation(target_url_pg, tmp_path, written(rows(160, 1_000), "f.csv"))
    expected = site.alone()
    site.anew()
    monkeypatch.setattr(segments, "INLINE_BYTES", 0)
    silent = open_target(target_url_pg)
    taken: list[int] = []

    def fall_silent() -> None:
        session = silent.shared_session()
        joined = session.join(site.run, "silent")
        assert joined is not None
        is_joined.set()
        number, fence = joined
        while not taken:
            session.begin(site.run, fence)
            offer = session.take(site.run, fence)
            if offer is None:
                session.rollback()
            else:
                taken.append(offer.place.chunk)
        while not sql(target_url_pg, "SELECT 1 FROM lading.ledger WHERE run = %s AND chunk = %s", site.run, taken[0]):
            time.sleep(0.01)
        site.spool.write_segment(site.run, segments.segment_name(taken[0], fence | number << 32), b"of a hand that wakes up")
        session.close()

    is_joined = threading.Event()
    thread = threading.Thread(target=fall_silent)

    def invite(present: int, *_where: int) -> None:
        if not is_joined.is_set():
            thread.start()
            is_joined.wait(10)

    site.threads.append(thread)
    with site.holder(Help(invite, silent_seconds=2), should_stop=pace) as (result, results):
        assert site.outcome(result, results) == expected
    silent.close()
    assert taken


def test_a_hand_that_loses_its_connection_costs_one_more_try(target_url_pg: str, tmp_path: Path) -> None:
    """Its chunk is rolled back by the server and written by another; the run itself goes on."""
    site = Installation(target_url_pg, tmp_path, written(rows(240, 1_000), "f.csv"))
    expected = site.alone()
    site.anew()
    seen: list[int] = []

    def invite(present: int, *_where: int) -> None:
        while len(site.threads) < 2:
            site.hand()
        ended = "SELECT pg_terminate_backend(backend) FROM lading.hands JOIN lading.head USING (run) WHERE run = %s ORDER BY number LIMIT 1"
        if len(site.failed) < 1 and len(seen) == 3:
            sql(target_url_pg, ended, site.run)
        seen.append(present)

    with site.holder(Help(invite), should_stop=pace) as (result, results):
        assert site.outcome(result, results) == expected
    assert [type(error) for error in site.failed] == [TargetUnavailable] and len(site.written) == 1


@pytest.mark.parametrize("how", ["dies", "hand-back", "cancel"])
def test_a_holder_that_stops(target_url_pg: str, tmp_path: Path, how: str) -> None:
    """What its hands still write counts once; the next holder goes on from the ledger, a cancelled run tells of every record."""
    site = Installation(target_url_pg, tmp_path, written(rows(240, 1_000), "f.csv"))
    expected = site.alone()
    site.anew()
    asked = count()

    def should_stop() -> Stop | None:
        if next(asked) < 8:
            return None
        if how == "dies":
            raise LeaseLost("as if it had died")
        return "hand-back" if how == "hand-back" else "cancel"

    def invite(present: int, *_where: int) -> None:
        while len(site.threads) < 2:
            site.hand()

    if how == "dies":
        with pytest.raises(LeaseLost), site.holder(Help(invite), should_stop=should_stop):
            pass
    else:
        with site.holder(Help(invite), should_stop=should_stop, is_kept=how == "hand-back") as (result, results):
            if how == "cancel":
                state, counts, receipts, _ = site.outcome(result, results)
                assert (state, len(receipts)) == ("cancelled", len(expected[2]))
                assert counts.records == expected[1].records and 0 < counts.unprocessed < 200
                return
            assert result.state == "handed-back"
    with site.holder() as (result, results):
        assert site.outcome(result, results) == expected
    assert site.failed == []
