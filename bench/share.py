"""One large file, merged into PostgreSQL by one worker, and by two that share it out; and what its holder alone can do."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
from redis import Redis

import catalog
import clock
from bench.databases import Postgres
from bench.figures import Figure
from bench.load_postgresql import RUN, Items, control
from bench.measure import Failed, say
from bench.small import valkey, worker
from bench.suites import Options, workplace
from catalog import batches
from catalog.batches import Batch
from engine import offers
from engine.control import compile
from engine.offers import Offer
from engine.order import RunFile, RunOrder
from engine.reading import Place, Reading
from engine.target import open_target
from engine.uncollected import uncollected
from engine.writers import Footprint
from engine.writing import Writing
from jobs import queues
from schemas.control import parse

WORKERS = (1, 2)
OFFERS = 500


def postgresql(server: Postgres, options: Options) -> list[Figure]:
    """Measure one worker and two in turns, into an empty table; all processor time is counted, that of the database too."""
    with workplace() as folder, valkey(folder) as redis_url:
        items = Items(server, options, folder, ["clean"])
        items.site.more |= {"REDIS_URL": redis_url, "HANDS": "1"}  # whatever the processors are doing
        seconds: dict[int, list[float]] = {number: [] for number in WORKERS}
        processor: dict[int, list[float]] = {number: [] for number in WORKERS}
        for turn in range(options.rounds):
            for number in WORKERS:
                took, ours, database = _carried_out(items, redis_url, folder, number)
                seconds[number].append(took)
                processor[number].append(ours + database)
                told = f"{took:.2f} s, processor time {ours:.2f} s of the workers and {database:.2f} s of the database"
                say(f"  {turn + 1}/{options.rounds} {number} at work: {told}")
        server.create(RUN, "empty")
        alone, offering = _of_holder(items, folder)
    one, two = (statistics.median(seconds[number]) for number in WORKERS)
    cost_of_one, cost_of_two = (min(processor[number]) for number in WORKERS)
    what = "PostgreSQL: one file, merge of new, clean rows"
    return [
        Figure(f"{what}, shared out to two workers", f"one worker ({one:.2f} s)", two / one),
        Figure(f"{what}, shared out: processor time, the database's too", f"one worker ({cost_of_one:.2f} s)", cost_of_two / cost_of_one),
        Figure("the holder of a shared file: rows read, with their keys told, a second of its processor", "1,000/s", alone / 1000),
        Figure("the holder of a shared file: a chunk offered and seen to be done", "ms", offering * 1000),
    ]


def _carried_out(items: Items, redis_url: str, folder: Path, number: int) -> tuple[float, float, float]:
    """Have so many workers carry the file out; return how many seconds that took, and the processor time of workers and database."""
    items.server.create(RUN, "empty")
    batch_id = items.site.schedule(control("Merge"), {"items.csv": items.files["clean"]})
    with Redis.from_url(redis_url) as redis, _of_database(items.server) as spent, _of_workers(items, folder, redis, number) as ours:
        queues.enqueue(redis, batch_id)
        batch = _over(items.site.catalog_url, batch_id)
    if batch.counts.created != items.options.rows or batch.started_at is None or batch.completed_at is None:
        raise Failed(f"{number} workers: {batch}")
    return (batch.completed_at - batch.started_at).total_seconds(), ours[0], spent[0]


@contextmanager
def _of_workers(items: Items, folder: Path, redis: Redis, number: int) -> Iterator[list[float]]:
    """Run workers; give a list that holds, after the block, how many seconds of processor time they took, their starts left out."""
    redis.flushall()
    taken: list[float] = []
    before = _of_children()
    with _alive(items, folder, redis, number):
        pass
    start = _of_children() - before
    redis.flushall()
    with _alive(items, folder, redis, number):
        yield taken
    taken.append(_of_children() - before - 2 * start)


@contextmanager
def _alive(items: Items, folder: Path, redis: Redis, number: int) -> Iterator[None]:
    with ExitStack() as stack:
        for _ in range(number):
            stack.enter_context(worker(items.site, folder))
        while len(queues.alive(redis)) < number:
            time.sleep(0.05)
        yield


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _over(catalog_url: str, batch_id: int) -> Batch:
    engine = catalog.connect(catalog_url)
    try:
        while (batch := batches.get(engine, batch_id)) is None or not batch.state.is_over:
            time.sleep(0.2)
    finally:
        engine.dispose()
    return batch


@contextmanager
def _of_database(server: Postgres) -> Iterator[list[float]]:
    """Give a list that holds, after the block, how many seconds of processor time the server's sessions that ended in it took."""
    found: list[float] = []
    process = server.server.process
    assert process is not None

    def ended() -> float:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[13]) + int(fields[14])) / 100  # of the children that were waited for, in ticks of 10 ms

    before = ended()
    yield found
    found.append(ended() - before)


def _of_holder(items: Items, folder: Path) -> tuple[float, float]:
    """Return how many rows a second a holder reads and tells the keys of, and how many seconds it takes to offer a chunk."""
    target = open_target(items.site.target_url)
    plan = compile(parse(control("Merge").encode()), target.tables(), target.dialect)
    path = items.files["clean"]
    files = [RunFile("items.csv", lambda: path.open("rb"), lambda: None)]
    order = RunOrder("bench-1", 1, files, plan, "import", "PerRecord", False, clock.now(), folder)
    reading = Reading(order, {}, lambda name: None, lambda shape: (_ for _ in ()).throw(Failed(str(shape))))
    writing = Writing(order, items.site.spool, reading, target.take_over(order.run))
    before = time.process_time()
    last = Footprint()
    with uncollected():
        for chunk in reading.chunks():
            footprint = Footprint.of(chunk, writing.convert_keys(chunk))
            if not footprint.can_go_beside(last):
                raise Failed("chunks of different keys are in each other's way")
            last = footprint
    rate = items.options.rows / (time.process_time() - before)
    started = time.perf_counter()
    for number in range(OFFERS):
        target.ask(
            offers.put, order.run, writing.fence, Offer(Place(0, number, number * 5_000, number, '{"offset": 1}'), 5_000, number + 1)
        )
        target.entries(order.run, [number])
    each = (time.perf_counter() - started) / OFFERS
    with psycopg.connect(items.site.target_url) as connection:
        offers.clear(connection, order.run, writing.fence)
    target.forget(order.run)
    target.close()
    return rate, each
