"""Batches: made, given files, scheduled, looked at."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy import Engine

import clock
from catalog import batches, controls, keys
from catalog.batches import Attached, Counts, Execution, Mode, Options, Scheduled, State
from errors import Refusal
from tests.catalog_parts import CONTROL, FILE, OTHER_FILE, at_once, done, fresh, new, only, scheduled

LANES = [(None, "a")]
DRY_RUN = Options(Mode.DRY_RUN)


@pytest.fixture
def engine(target_url: str) -> Iterator[Engine]:
    """Give a fresh catalog on each database."""
    with fresh(target_url) as made:
        yield made


def run_next(engine: Engine, state: State = State.COMPLETED, **counts: int) -> None:
    """Run the next batch as a worker does, to this end."""
    claimed = batches.claim(engine, "w", 30)
    assert claimed is not None
    assert batches.finish(engine, claimed.batch_id, claimed.fence, state=state, counts=Counts(**counts))


def code_of(result: object) -> str:
    """Return the code of a refusal."""
    assert isinstance(result, Refusal), result
    return f"{result.status} {result.code}"


def test_a_new_batch_is_as_it_was_asked_for(engine: Engine) -> None:
    """What a batch is made with can be read again; its id is a number that no JSON reader rounds."""
    before = clock.now()
    batch_id = batches.create(
        engine, control=CONTROL, key_id="k", comment="nightly", file_name="a.csv", creation_path="/in/a.csv", addresses=["a@example.org"]
    )
    assert 0 < batch_id < 2**53
    batch = batches.get(engine, batch_id)
    assert batch is not None
    assert (batch.control, batch.comment, batch.file_name, batch.creation_path) == (CONTROL, "nightly", "a.csv", "/in/a.csv")
    assert (batch.addresses, batch.key_id, batch.state, batch.run, batch.mode) == (("a@example.org",), "k", State.UPLOADING, None, None)
    assert before <= batch.created_at <= clock.now()
    assert batch.created_at.tzinfo is not None


def test_ids_are_not_guessable(engine: Engine) -> None:
    """Ids of batches made one after another do not follow each other."""
    ids = [new(engine) for _ in range(20)]
    assert len(set(ids)) == 20
    assert ids != sorted(ids)


def test_a_key_sees_its_own_batches_only(engine: Engine) -> None:
    """A batch of another key is as unknown as one that is not there, but for keys that may read all."""
    own, other, reader, admin = (keys.verify(engine, keys.create(engine, p, [p])) for p in ("import", "read", "read:all", "admin"))
    assert own
    batch_id = batches.create(engine, control=CONTROL, key_id=own.id)
    assert [batches.get(engine, batch_id, key=k) is not None for k in (own, other, reader, admin)] == [True, False, True, True]
    assert batches.get(engine, 1, key=admin) is None


def test_files_keep_the_order_of_their_upload(engine: Engine) -> None:
    """Files are listed in the order in which they came, whatever their names; a replaced one keeps its position."""
    batch_id = new(engine)
    for name in ("b.csv", "a.csv", "c.csv"):
        assert batches.attach(engine, batch_id, name, FILE) is Attached.ADDED
    assert batches.attach(engine, batch_id, "b.csv", OTHER_FILE, replace=True) is Attached.REPLACED
    found = [(file.name, file.digest, file.position, file.size) for file in batches.files(engine, batch_id)]
    assert found == [("b.csv", OTHER_FILE, 1, 10), ("a.csv", FILE, 2, 10), ("c.csv", FILE, 3, 10)]
    batches.schedule(engine, batch_id, Options(), [(None, "t")])
    claimed = batches.claim(engine, "worker", 30)
    assert claimed is not None and claimed.files == tuple(batches.files(engine, batch_id))


def test_a_name_holds_one_file(engine: Engine) -> None:
    """The same file again under the same name changes nothing; another one is refused unless it is to replace it."""
    batch_id = new(engine)
    batches.attach(engine, batch_id, "a.csv", FILE)
    assert batches.attach(engine, batch_id, "a.csv", FILE) is Attached.REPEATED
    with pytest.raises(Refusal, match=r"another file named 'a\.csv'") as refused:
        batches.attach(engine, batch_id, "a.csv", OTHER_FILE)
    assert code_of(refused.value) == "409 name_taken"
    assert [file.digest for file in batches.files(engine, batch_id)] == [FILE]


def test_files_are_frozen_by_scheduling(engine: Engine) -> None:
    """A batch that was scheduled takes no file, not even after a dry run; a repeated upload is still answered."""
    batch_id = new(engine)
    batches.attach(engine, batch_id, "a.csv", FILE)
    batches.schedule(engine, batch_id, DRY_RUN, LANES)
    for is_over in (False, True):
        if is_over:
            run_next(engine)
        for name, digest in (("b.csv", FILE), ("a.csv", OTHER_FILE)):
            with pytest.raises(Refusal) as refused:
                batches.attach(engine, batch_id, name, digest, replace=True)
            assert code_of(refused.value) == "409 not_uploading"
        assert batches.attach(engine, batch_id, "a.csv", FILE) is Attached.REPEATED
    with pytest.raises(Refusal) as unknown:
        batches.attach(engine, 1, "a.csv", FILE)
    assert code_of(unknown.value) == "404 batch_unknown"


def test_one_of_two_uploads_at_once_wins(engine: Engine) -> None:
    """Of two different files that come under one name at one instant exactly one is taken; files of other names all are."""
    for _ in range(50):
        batch_id = new(engine)
        results = at_once(
            partial(batches.attach, engine, batch_id, "a.csv", FILE),
            partial(batches.attach, engine, batch_id, "a.csv", OTHER_FILE),
            partial(batches.attach, engine, batch_id, "b.csv", FILE),
        )
        assert results[2] is Attached.ADDED
        winners = [r for r in results[:2] if r is Attached.ADDED]
        losers = [code_of(r) for r in results[:2] if r is not Attached.ADDED]
        assert (len(winners), losers) == (1, ["409 name_taken"])
        assert [file.position for file in batches.files(engine, batch_id)] == [1, 2]


def test_uploads_and_scheduling_at_once(engine: Engine) -> None:
    """A file that comes while its batch is scheduled is in the batch before, or refused: never added to a scheduled one."""
    for _ in range(50):
        batch_id = new(engine)
        attached, put = at_once(
            partial(batches.attach, engine, batch_id, "a.csv", FILE), partial(batches.schedule, engine, batch_id, Options(), LANES)
        )
        assert isinstance(put, Scheduled)
        assert len(batches.files(engine, batch_id)) == (1 if attached is Attached.ADDED else 0)
        if attached is not Attached.ADDED:
            assert code_of(attached) == "409 not_uploading"


def test_an_equal_schedule_answers_as_the_first_did(engine: Engine) -> None:
    """Scheduling again in the same way makes no second run, whether the batch waits, runs or is over; in another way it is refused."""
    batch_id = new(engine)
    options = Options(Mode.IMPORT, Execution.ALL_OR_NONE, is_ordered=True, start_at=clock.now() - timedelta(minutes=1))
    assert batches.schedule(engine, batch_id, options, LANES) == Scheduled(batch_id, 1, is_repeat=False)
    for step in ("scheduled", "running", "completed"):
        batch = batches.get(engine, batch_id)
        assert batch is not None
        assert batch.state == step
        assert batches.schedule(engine, batch_id, options, LANES) == Scheduled(batch_id, 1, is_repeat=True)
        for other in (Options(), DRY_RUN, Options(Mode.IMPORT, Execution.ALL_OR_NONE, is_ordered=True)):
            with pytest.raises(Refusal, match=str(batch_id)) as refused:
                batches.schedule(engine, batch_id, other, LANES)
            assert code_of(refused.value) == "409 already_scheduled"
        if step == "scheduled":
            claimed = batches.claim(engine, "w", 30)
        elif step == "running":
            assert claimed
            batches.finish(engine, batch_id, claimed.fence, state=State.COMPLETED, counts=Counts())
    assert len(batches.runs_of(engine, batch_id)) == 1


def test_scheduling_at_once_makes_one_run(engine: Engine) -> None:
    """Of equal requests at one instant one schedules and the others repeat it; of different ones exactly one wins."""
    for _ in range(30):
        batch_id = new(engine)
        equal = only(at_once(*[partial(batches.schedule, engine, batch_id, Options(), LANES)] * 4))
        assert sorted(result.is_repeat for result in equal) == [False, True, True, True]
        other_id = new(engine)
        different = at_once(
            *[partial(batches.schedule, engine, other_id, o, LANES) for o in (Options(), DRY_RUN, Options(is_ordered=True))]
        )
        assert sum(isinstance(result, Scheduled) for result in different) == 1
        assert {code_of(r) for r in different if not isinstance(r, Scheduled)} == {"409 already_scheduled"}
        assert [len(batches.runs_of(engine, b)) for b in (batch_id, other_id)] == [1, 1]


def test_an_import_may_follow_its_dry_run(engine: Engine) -> None:
    """After a dry run the batch runs again for good; both runs keep their counts, and the last is the one that is shown."""
    batch_id = new(engine)
    batches.schedule(engine, batch_id, DRY_RUN, LANES)
    with pytest.raises(Refusal):
        batches.schedule(engine, batch_id, Options(), LANES)
    run_next(engine, input=3, created=2, errors=1)
    assert batches.schedule(engine, batch_id, Options(), LANES) == Scheduled(batch_id, 2, is_repeat=False)
    waiting = batches.get(engine, batch_id)
    assert waiting is not None
    assert (waiting.state, waiting.mode, waiting.counts) == (State.SCHEDULED, Mode.IMPORT, Counts())
    run_next(engine, input=3, created=3)
    last, dry = batches.get(engine, batch_id), batches.get(engine, batch_id, mode=Mode.DRY_RUN)
    assert last is not None
    assert dry is not None
    assert (last.mode, last.counts.created, last.state) == (Mode.IMPORT, 3, State.COMPLETED)
    assert (dry.mode, dry.counts, dry.state) == (Mode.DRY_RUN, Counts(input=3, created=2, errors=1), State.COMPLETED)
    assert batches.schedule(engine, batch_id, DRY_RUN, LANES) == Scheduled(batch_id, 1, is_repeat=True)
    with pytest.raises(Refusal):
        batches.schedule(engine, batch_id, Options(Mode.DRY_RUN, is_ordered=True), LANES)


def test_a_dry_run_may_be_followed_by_another(engine: Engine) -> None:
    """A dry run in another way may follow a dry run; while the import waits, the dry run still shows as it ended."""
    batch_id = new(engine)
    batches.schedule(engine, batch_id, DRY_RUN, LANES)
    run_next(engine)
    assert batches.schedule(engine, batch_id, Options(Mode.DRY_RUN, Execution.ALL_OR_NONE), LANES).run == 2
    run_next(engine, State.FAILED, input=1, errors=1)
    assert batches.schedule(engine, batch_id, Options(), LANES).run == 3
    dry = batches.get(engine, batch_id, mode=Mode.DRY_RUN)
    assert dry is not None
    assert dry.run is not None
    assert (dry.run.number, dry.state) == (2, State.FAILED)


def test_a_mode_without_a_run(engine: Engine) -> None:
    """Asked for a run of a mode that there was none of, the batch shows none."""
    batch_id = scheduled(engine, "a")
    batch = batches.get(engine, batch_id, mode=Mode.DRY_RUN)
    assert batch is not None
    assert batch.run is None


def test_a_wish_to_cancel_ends_with_its_run(engine: Engine) -> None:
    """A dry run that ended before it heard of its cancelling does not take the import down with it."""
    batch_id = scheduled(engine, "a", options=DRY_RUN)
    claimed = batches.claim(engine, "w", 30)
    assert claimed
    batches.cancel(engine, batch_id)
    batches.finish_and_claim(engine, batch_id, claimed.fence, done(), "w", 30)
    batches.schedule(engine, batch_id, Options(), LANES)
    again = batches.claim(engine, "w", 30)
    assert again is not None
    assert not again.is_cancel_wanted


def test_a_cancelled_batch_is_not_scheduled(engine: Engine) -> None:
    """A cancelled batch stays so, and one that is not there cannot be scheduled."""
    batch_id = new(engine)
    batches.cancel(engine, batch_id)
    for known, code in ((batch_id, "409 already_scheduled"), (1, "404 batch_unknown")):
        with pytest.raises(Refusal) as refused:
            batches.schedule(engine, known, Options(), LANES)
        assert code_of(refused.value) == code


def test_a_busy_lane_may_be_refused(engine: Engine) -> None:
    """With refuse_if_busy a batch is scheduled only if all its lanes are free and unwanted; the refusal says when to come back."""
    first, second = new(engine), new(engine)
    assert batches.schedule(engine, first, Options(), LANES, refuse_if_busy=True).run == 1

    def refusal() -> Refusal:
        with pytest.raises(Refusal) as refused:
            batches.schedule(engine, second, Options(), [(None, "b"), (None, "a")], refuse_if_busy=True)
        return refused.value

    assert code_of(refusal()) == "409 blocked", "the lane is waited for"
    assert refusal().headers["Retry-After"].isdigit()
    claimed = batches.claim(engine, "w", 30)
    assert claimed is not None
    assert code_of(refusal()) == "409 blocked", "the lane is held"
    batch = batches.get(engine, second)
    assert batch is not None
    assert batch.state is State.UPLOADING
    batches.finish(engine, first, claimed.fence, state=State.COMPLETED, counts=Counts())
    assert not batches.schedule(engine, second, Options(), LANES, refuse_if_busy=True).is_repeat
    assert batches.schedule(engine, second, Options(), LANES, refuse_if_busy=True).is_repeat


def test_of_two_that_refuse_to_wait_one_is_blocked(engine: Engine) -> None:
    """A hundred times, two batches that refuse a busy lane are scheduled at one instant: exactly one gets it."""
    for number in range(100):
        ids = [new(engine), new(engine)]
        lanes = [(None, f"t{number}")]
        results = at_once(*[partial(batches.schedule, engine, b, Options(), lanes, refuse_if_busy=True) for b in ids])
        assert sum(isinstance(result, Scheduled) for result in results) == 1
        assert [code_of(r) for r in results if not isinstance(r, Scheduled)] == ["409 blocked"]


def test_a_name_is_pinned_by_its_first_use(engine: Engine) -> None:
    """What a batch takes a control file's name for stays so when the name moves; another batch gets the new one."""
    newer = "d" * 64
    first = new(engine)
    assert batches.control_pin(engine, first, "items") is None
    controls.add(engine, CONTROL, key_id="k", tables=LANES, name="items")
    assert batches.control_pin(engine, first, "items") == CONTROL
    controls.add(engine, newer, key_id="k", tables=LANES, name="items")
    assert batches.control_pin(engine, first, "items") == CONTROL
    assert batches.control_pin(engine, new(engine), "items") == newer


def test_times_do_not_run_backwards(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that is set back while a batch runs makes no negative duration (T31)."""
    batch_id = scheduled(engine, "a")
    assert batches.claim(engine, "w", 30)
    earlier = clock.now() - timedelta(hours=1)
    monkeypatch.setattr(clock, "now", lambda: earlier)
    batch = batches.get(engine, batch_id)
    assert batch is not None
    assert batch.run is not None
    assert (batch.run.elapsed_seconds, batch.rows_per_second, batch.eta_seconds) == (0.0, None, None)
