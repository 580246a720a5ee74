"""The queue: who may run what, in which order, and for how long."""

from __future__ import annotations

import multiprocessing
import random
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import Engine

import catalog
import clock
from catalog import batches
from catalog.batches import Beat, Claim, CountLawBroken, Counts, Ending, Mode, Options, State
from tests.catalog_parts import at_once, done, fresh, new, only, scheduled

LEASE = 30.0


@pytest.fixture
def engine(target_url: str) -> Iterator[Engine]:
    """Give a fresh catalog on each database."""
    with fresh(target_url) as made:
        yield made


def claim(engine: Engine) -> Claim:
    """Claim the next batch, which must be there."""
    claimed = batches.claim(engine, "worker", LEASE)
    assert claimed is not None
    return claimed


def finish(engine: Engine, claimed: Claim) -> bool:
    """End a claimed batch."""
    return batches.finish(engine, claimed.batch_id, claimed.fence, state=State.COMPLETED, counts=Counts())


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Move the clock."""
    moved = clock.now() + timedelta(seconds=seconds)
    monkeypatch.setattr(clock, "now", lambda: moved)


def test_workers_that_claim_at_once_never_share_a_lane(engine: Engine) -> None:
    """A hundred times, four workers at one instant get exactly the batches that may run side by side, in the order of their scheduling."""
    for _ in range(100):
        first, both, second, other = (scheduled(engine, *tables) for tables in ("a", "ab", "b", "c"))
        order = []
        while found := [c for c in only(at_once(*[lambda: batches.claim(engine, "w", LEASE)] * 4)) if c]:
            order.append({c.batch_id for c in found})
            assert all(at_once(*[partial(finish, engine, c) for c in found]))
        assert order == [{first, other}, {both}, {second}]


def drain(url: str, log: Any) -> None:
    """Run whatever waits, as a worker process does, and log when each batch ran."""
    engine = catalog.connect(url)
    idle = 0
    while idle < 10:
        claimed = batches.claim(engine, "w", LEASE)
        if claimed is None:
            idle += 1
            time.sleep(0.02)
            continue
        idle, began = 0, time.monotonic()
        time.sleep(random.random() / 100)
        log.put((claimed.batch_id, began, time.monotonic()))
        assert finish(engine, claimed)
    engine.dispose()
    log.put(None)


def test_worker_processes_keep_the_order_of_every_lane(engine: Engine, target_url: str) -> None:
    """Three processes that drain one queue run each lane's batches one after another, as scheduled, each once, and lanes side by side."""
    chance = random.Random(7)
    wanted = [chance.sample("abcdef", chance.choice((1, 1, 2, 3))) for _ in range(60)]
    ids = [scheduled(engine, *tables) for tables in wanted]
    spawn = multiprocessing.get_context("spawn")
    log = spawn.Queue()
    workers = [spawn.Process(target=drain, args=(target_url, log)) for _ in range(3)]
    for worker in workers:
        worker.start()
    ran: dict[int, tuple[float, float]] = {}
    ended = 0
    while ended < len(workers):
        entry = log.get(timeout=60)
        ended += entry is None
        if entry:
            assert entry[0] not in ran
            ran[entry[0]] = entry[1:]
    for worker in workers:
        worker.join()
    assert sorted(ran) == sorted(ids)
    for lane in "abcdef":
        spans = [ran[batch_id] for batch_id, tables in zip(ids, wanted, strict=True) if lane in tables]
        assert all(before[1] < after[0] for before, after in pairwise(spans))
    by_start = sorted(ran.values())
    assert any(after[0] < before[1] for before, after in pairwise(by_start)), "lanes never ran side by side"


def test_a_younger_batch_waits_for_an_older_one_that_waits(engine: Engine) -> None:
    """A batch whose lane is free still waits if an older batch wants that lane, even though that one waits for another lane."""
    holder, older, younger = scheduled(engine, "a"), scheduled(engine, "a", "b"), scheduled(engine, "b")
    held = claim(engine)
    assert held.batch_id == holder
    assert batches.claim(engine, "w", LEASE) is None
    finish(engine, held)
    assert claim(engine).batch_id == older
    assert batches.claim(engine, "w", LEASE) is None
    assert batches.waiting(engine) == [younger]


def test_a_start_time_is_waited_for_and_lets_others_pass(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch with a start time in the future is not claimed before it, and no batch waits for it; after it the older goes first."""
    at_noon = scheduled(engine, "a", options=Options(start_at=clock.now() + timedelta(hours=1)))
    first, second = scheduled(engine, "a"), scheduled(engine, "a")
    running = claim(engine)
    assert running.batch_id == first
    assert batches.waiting(engine) == [second]
    finish(engine, running)
    later(monkeypatch, 3600)
    assert batches.waiting(engine) == [at_noon, second]
    assert claim(engine).batch_id == at_noon


def test_schemas_tell_lanes_apart(engine: Engine) -> None:
    """Tables of one name in two schemas are two lanes."""
    for schema in ("x", "y"):
        batches.schedule(engine, new(engine), Options(), [(schema, "t")])
    assert claim(engine)
    assert claim(engine)


def test_a_batch_that_writes_no_table_is_run_too(engine: Engine) -> None:
    """A batch without a single lane does not wait for ever."""
    assert scheduled(engine) == claim(engine).batch_id


def test_a_claim_says_what_the_worker_must_know(engine: Engine) -> None:
    """A claim carries the run's options, control file and attempt, and the batch shows who holds it."""
    options = Options(Mode.DRY_RUN, batches.Execution.ALL_OR_NONE, is_ordered=True, has_event_handlers=True)
    batch_id = scheduled(engine, "a", options=options)
    claimed = batches.claim(engine, "host:7", LEASE)
    assert claimed is not None
    assert (claimed.batch_id, claimed.options, claimed.fence, claimed.run, claimed.attempts) == (batch_id, options, 1, 1, 1)
    batch = batches.get(engine, batch_id)
    assert batch is not None
    assert (batch.state, batch.worker, batch.fence, batch.started_at) == (State.RUNNING, "host:7", 1, claimed.started_at)
    assert batch.lease_until is not None
    assert 0 < (batch.lease_until - clock.now()).total_seconds() <= LEASE


def test_handing_back_keeps_the_place(engine: Engine) -> None:
    """A batch that is handed back waits again, before younger ones of its lane, under a higher fence; the old holder is powerless."""
    first, second = scheduled(engine, "a"), scheduled(engine, "a")
    old = claim(engine)
    assert batches.hand_back(engine, first, old.fence)
    assert batches.waiting(engine) == [first, second]
    new_claim = claim(engine)
    assert (new_claim.batch_id, new_claim.fence, new_claim.attempts) == (first, old.fence + 1, 2)
    assert new_claim.started_at == old.started_at
    assert batches.heartbeat(engine, first, old.fence, LEASE) is Beat.LOST
    assert not batches.hand_back(engine, first, old.fence)
    assert not finish(engine, old)
    assert not batches.add_tables(engine, first, old.fence, [(None, "z")])
    assert finish(engine, new_claim)


def test_a_stop_need_not_count_as_an_attempt(engine: Engine) -> None:
    """A worker that was merely stopped gives the attempt back."""
    batch_id = scheduled(engine, "a")
    batches.hand_back(engine, batch_id, claim(engine).fence, is_counted=False)
    assert claim(engine).attempts == 1


def test_an_expired_lease_is_taken_back_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease that is not renewed ends: its batch waits again at its place, and only once however many look at the same instant."""
    first, _ = scheduled(engine, "a"), scheduled(engine, "a")
    kept = scheduled(engine, "b")
    lost, renewed = claim(engine), claim(engine)
    assert (lost.batch_id, renewed.batch_id) == (first, kept)
    assert batches.hand_back_expired(engine) == []
    later(monkeypatch, LEASE - 1)
    assert batches.heartbeat(engine, kept, renewed.fence, LEASE) is Beat.OK
    later(monkeypatch, 2)
    assert sorted(only(at_once(*[lambda: batches.hand_back_expired(engine)] * 3))) == [[], [], [first]]
    assert claim(engine).batch_id == first


def test_a_heartbeat_tells_how_far_the_run_is(engine: Engine) -> None:
    """What a heartbeat brings is what the status shows while the batch runs."""
    batch_id = scheduled(engine, "a")
    fence = claim(engine).fence
    assert batches.heartbeat(engine, batch_id, fence, LEASE, 0.5, Counts(input=10, created=7, errors=3)) is Beat.OK
    assert batches.heartbeat(engine, batch_id, fence, LEASE) is Beat.OK
    batch = batches.get(engine, batch_id)
    assert batch is not None
    assert (batch.progress, batch.counts) == (0.5, Counts(input=10, created=7, errors=3))
    assert batch.rows_per_second is not None
    assert batch.rows_per_second > 0
    assert batch.eta_seconds is not None


def test_an_ending_is_kept_with_the_run(engine: Engine) -> None:
    """Counts, reason and results of a run stand in its status once it is over, and its lanes are free."""
    batch_id, after = scheduled(engine, "a"), scheduled(engine, "a")
    ending = Ending(State.FAILED, Counts(input=5, unprocessed=5), "the disk is full", "disk_full", "d" * 64, 123)
    ended, claimed = batches.finish_and_claim(engine, batch_id, claim(engine).fence, ending, "w", LEASE)
    assert ended
    assert claimed is not None
    assert claimed.batch_id == after
    batch = batches.get(engine, batch_id)
    assert batch is not None
    assert batch.run is not None
    assert (batch.state, batch.status_msg, batch.code, batch.counts) == (State.FAILED, "the disk is full", "disk_full", ending.counts)
    assert (batch.run.results_digest, batch.run.results_size, batch.progress) == ("d" * 64, 123, 1.0)
    assert batch.completed_at is not None
    assert batch.worker is None


def test_a_lost_lease_still_claims_the_next(engine: Engine) -> None:
    """Whoever ends a batch that is no longer its own learns so, and may go on with another."""
    mine, next_one = scheduled(engine, "a"), scheduled(engine, "b")
    old = claim(engine)
    batches.hand_back(engine, mine, old.fence)
    assert claim(engine).batch_id == mine
    ended, claimed = batches.finish_and_claim(engine, mine, old.fence, done(), "w", LEASE)
    assert not ended
    assert claimed is not None
    assert claimed.batch_id == next_one


def test_counts_must_add_up(engine: Engine) -> None:
    """A run whose outcomes are not as many as its records cannot end, and neither can one in a state that is no end (T50)."""
    batch_id = scheduled(engine, "a")
    fence = claim(engine).fence
    with pytest.raises(CountLawBroken, match="add up"):
        batches.finish(engine, batch_id, fence, state=State.COMPLETED, counts=Counts(input=3, created=1, errors=1))
    with pytest.raises(ValueError, match="does not end running"):
        batches.finish(engine, batch_id, fence, state=State.RUNNING, counts=Counts())
    batch = batches.get(engine, batch_id)
    assert batch is not None
    assert batch.state is State.RUNNING


def test_more_lanes_are_taken_at_once_or_not_at_all(engine: Engine) -> None:
    """A running batch gets free lanes, and keeps others out of them; where one is held it gets none."""
    first, _ = scheduled(engine, "a"), scheduled(engine, "b")
    one, two = claim(engine), claim(engine)
    assert not batches.add_tables(engine, first, one.fence, [(None, "b"), (None, "c")])
    third = scheduled(engine, "c")
    three = claim(engine)
    assert three.batch_id == third
    finish(engine, three)
    finish(engine, two)
    assert batches.add_tables(engine, first, one.fence, [(None, "a"), (None, "b"), (None, "c")])
    scheduled(engine, "c")
    assert batches.claim(engine, "w", LEASE) is None


def test_more_lanes_are_not_taken_before_an_older_batch(engine: Engine) -> None:
    """A running batch hands back rather than overtake an older one that waits for the lane, and then has its turn after it."""
    holder, older = scheduled(engine, "a"), scheduled(engine, "a", "b")
    held = claim(engine)
    younger = scheduled(engine, "c")
    running = claim(engine)
    assert (held.batch_id, running.batch_id) == (holder, younger)
    assert not batches.add_tables(engine, younger, running.fence, [(None, "b")])
    assert batches.hand_back(engine, younger, running.fence, tables=[(None, "b")], is_counted=False)
    assert batches.claim(engine, "w", LEASE) is None
    finish(engine, held)
    run_older = claim(engine)
    assert run_older.batch_id == older
    assert batches.claim(engine, "w", LEASE) is None
    finish(engine, run_older)
    again = claim(engine)
    assert again.batch_id == younger
    scheduled(engine, "b")
    assert batches.claim(engine, "w", LEASE) is None


def test_cancelling(engine: Engine) -> None:
    """A waiting batch is cancelled at once and frees the way; a running one hears of it at its next heartbeat; an ended one stays."""
    holder, waits, after = scheduled(engine, "a"), scheduled(engine, "a", "b"), scheduled(engine, "b")
    held = claim(engine)
    assert batches.cancel(engine, waits) is State.CANCELLED
    cancelled = batches.get(engine, waits)
    assert cancelled is not None
    assert (cancelled.state, cancelled.code) == (State.CANCELLED, "cancelled")
    assert claim(engine).batch_id == after
    assert batches.cancel(engine, holder) is State.RUNNING
    assert batches.heartbeat(engine, holder, held.fence, LEASE) is Beat.CANCEL
    finish(engine, held)
    assert batches.cancel(engine, holder) is State.COMPLETED
    assert batches.cancel(engine, new(engine)) is State.CANCELLED
    assert batches.cancel(engine, 1) is None


def test_a_begun_batch_is_cancelled_by_a_worker(engine: Engine) -> None:
    """A batch that was handed back after it began must still receipt every record, so a worker ends it, told at once."""
    batch_id = scheduled(engine, "a")
    batches.hand_back(engine, batch_id, claim(engine).fence)
    assert batches.cancel(engine, batch_id) is State.SCHEDULED
    assert claim(engine).is_cancel_wanted


def test_cancelling_and_claiming_at_once(engine: Engine) -> None:
    """A hundred times, a batch that is cancelled while it is claimed is either run and told, or not run; the next is found all the same."""
    for _ in range(100):
        batch_id, after = scheduled(engine, "a"), scheduled(engine, "b")
        state, claimed = only(at_once(partial(batches.cancel, engine, batch_id), lambda: batches.claim(engine, "w", LEASE)))
        assert isinstance(claimed, Claim)
        if claimed.batch_id == batch_id:
            assert state is State.RUNNING
            assert batches.heartbeat(engine, batch_id, claimed.fence, LEASE) is Beat.CANCEL
            finish(engine, claimed)
            claimed = claim(engine)
        else:
            assert state is State.CANCELLED
        assert claimed.batch_id == after
        finish(engine, claimed)
