"""Several machines that share nothing but a network, and what becomes of imports when one of them is cut off from it."""

from __future__ import annotations

import itertools
import random
import re
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

import catalog
from catalog import keys, migrate
from catalog.batches import State
from engine.target import open_target
from tests.dyno_parts import ask
from tests.hosts_parts import Machine, Network, Site, stores
from tests.jobs_parts import CONTROL, IDS, SLOW_POSTGRESQL, TABLE, rows, wait_for

QUICK = {
    "LEASE_SECONDS": "3", "HEARTBEAT_SECONDS": "0.5", "SWEEP_SECONDS": "1", "CHUNK_RECORDS": "100", "WEB_CONCURRENCY": "1", "HANDS": "4",
    "PORT": "8000",
}  # fmt: skip
MANY = 1500
CHAOS_SECONDS = 90


@pytest.fixture
def network() -> Iterator[Network]:
    """Give a network without machines."""
    with Network() as made:
        yield made


@pytest.fixture
def site(network: Network, tmp_path: Path) -> Iterator[Site]:
    """Give two machines with a web process each and two with a worker each; this process is on a machine of its own from now on."""
    with ExitStack() as stack:
        config = stack.enter_context(stores(network.add("store"))) | QUICK
        machines = {name: Machine(network.add(name), tmp_path, config) for name in ("web.1", "web.2", "worker.1", "worker.2")}
        stack.enter_context(network.add("client").inside())
        migrate.upgrade(config["DATABASE_URL"])
        engine = catalog.connect(config["DATABASE_URL"])
        stack.callback(engine.dispose)
        made = Site(machines, engine, keys.create(engine, "k", ["import", "read"]), config["DATABASE_URL"])
        made.execute(TABLE.format(id=IDS["postgresql"]))
        target = open_target(config["DATABASE_URL"])
        target.create_ledger()
        target.close()
        for machine in machines.values():
            stack.callback(machine.end)
            machine.start()
        for name in ("web.1", "web.2"):
            wait_for(machines[name].is_ready, 120)
        (tmp_path / "control.yaml").write_text(f"name: things\n{CONTROL}")
        sent = ["curl", "-sSf", "-H", f"Authorization: apikey {made.key}", "-F", f"file=@{tmp_path}/control.yaml"]
        subprocess.run([*sent, f"http://{machines['web.1'].host.address}:8000/api/control"], check=True, stdout=subprocess.PIPE)
        yield made


def sessions_of(site: Site, batch_id: int) -> int:
    """Return how many sessions in PostgreSQL are in a chunk of a batch."""
    return int(site.execute(f"SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'lading {batch_id}-%'")[0][0])


def assert_whole(site: Site, web: Machine, batch_id: str, numbers: range) -> None:
    """Each record has its row once, and its one result, in order, as another web host tells."""
    count = len(numbers)
    wait_for(lambda: site.get(int(batch_id)).state.is_over, 120)
    assert web.ask(f"/api/batch/{batch_id}", site.key) == (200, f"completed input={count} success={count} error=0 skip=0")
    results = web.ask(f"/api/batch/{batch_id}/results", site.key)[1]
    lines = re.findall(r"^Core_Data_RecordCreated,[^,]*,Information,(\d+),", results, re.MULTILINE)
    assert list(map(int, lines)) == list(range(2, count + 2))
    sizes = f"BETWEEN {numbers[0]} AND {numbers[-1]}"
    assert site.execute(f"SELECT count(*), count(DISTINCT code) FROM things WHERE size {sizes}") == [(count, count)]


def test_hosts_that_are_cut_off(site: Site) -> None:
    """A worker cut off in a chunk for longer than its lease loses the import to another, commits nothing later, and takes the next one.

    A web process cut off meanwhile says so to whoever asks it, and is well when it can be reached again.
    """
    one, two = site.machines["web.1"], site.machines["web.2"]
    site.execute(SLOW_POSTGRESQL)
    status, batch_id = one.ask("/api/import/things", site.key, rows(MANY))
    assert status == 202, batch_id
    wait_for(lambda: site.execute("SELECT count(*) FROM things")[0][0] >= 300)
    first = site.holder(int(batch_id))
    wait_for(lambda: sessions_of(site, int(batch_id)))
    for machine in (first, two):
        machine.host.cut()
    with two.host.inside():
        began = time.monotonic()
        status, said = ask("http://127.0.0.1:8000/readyz")
        assert (status, time.monotonic() - began < 15) == (503, True), said
        assert not {"catalog: ok", "redis: ok", "spool: ok", "target: ok", "worker: ok"} & set(said.splitlines())
    two.host.mend()
    wait_for(two.is_ready)
    wait_for(lambda: site.holder(int(batch_id)) is not first)
    second = site.holder(int(batch_id))
    assert_whole(site, two, batch_id, range(MANY))
    site.execute("DROP TRIGGER slow ON things")
    first.host.mend()
    second.stop()
    status, later = two.ask("/api/import/things", site.key, rows(200, MANY))
    assert status == 202, later
    wait_for(lambda: site.get(int(later)).state is State.COMPLETED)
    assert_whole(site, one, later, range(MANY, MANY + 200))
    assert site.execute("SELECT count(*), count(DISTINCT code) FROM things") == [(MANY + 200,) * 2]
    assert "it goes on elsewhere" in first.logged()


@pytest.mark.slow
def test_a_hand_that_is_cut_off(site: Site) -> None:
    """A machine that helps with a large file and is cut off in a chunk is dismissed; its chunk is written by another, and once only."""
    one, two = site.machines["web.1"], site.machines["web.2"]
    # No trigger, since with one no run is shared.
    body = "BEGIN PERFORM pg_sleep(0.001); RETURN true; END"
    site.execute(f"CREATE FUNCTION takes_long(integer) RETURNS boolean LANGUAGE plpgsql AS $$ {body} $$")
    site.execute("ALTER TABLE things ADD CHECK (takes_long(size))")
    status, batch_id = one.ask("/api/import/things", site.key, rows(10 * MANY))
    assert status == 202, batch_id
    wait_for(lambda: site.execute("SELECT count(*) FROM lading.ledger WHERE fence >> 32 > 0")[0][0] > 3)
    hand = next(m for name, m in site.machines.items() if name.startswith("worker") and m is not site.holder(int(batch_id)))
    hand.host.cut()
    wait_for(lambda: not site.execute("SELECT FROM lading.hands"))
    assert site.get(int(batch_id)).state is State.RUNNING, "too quick for this test"
    hand.host.mend()
    assert_whole(site, two, batch_id, range(10 * MANY))
    assert site.get(int(batch_id)).fence == 1


@pytest.mark.slow
def test_hosts_that_are_cut_off_by_lot(site: Site) -> None:
    """While batches come by both web hosts, one machine after another is cut off for some seconds: each record counts once in the end."""
    chance, numbers = random.Random(random.SystemRandom().randrange(2**32)), itertools.count()
    sent: dict[str, range] = {}
    until = time.monotonic() + CHAOS_SECONDS
    with ThreadPoolExecutor(1) as pool:
        cutting = pool.submit(cut_by_lot, site, chance, until)
        while time.monotonic() < until:
            number = next(numbers)
            mine = range(number * 500, (number + 1) * 500)
            sent[send(site, chance, rows(500, mine[0]), f"batch-{number}")] = mine
        cutting.result()
    for batch_id, mine in sent.items():
        assert_whole(site, site.machines["web.1"], batch_id, mine)
    total = 500 * len(sent)
    assert site.execute("SELECT count(*), count(DISTINCT code) FROM things") == [(total, total)] and len(sent) > 5


def cut_by_lot(site: Site, chance: random.Random, until: float) -> None:
    """Cut one machine off after another; all are on the network again in the end."""
    while time.monotonic() < until:
        machine = chance.choice(list(site.machines.values()))
        machine.host.cut()
        time.sleep(chance.uniform(0.5, 10))
        machine.host.mend()
        time.sleep(chance.uniform(0.5, 3))


def send(site: Site, chance: random.Random, data: bytes, name: str) -> str:
    """Send a batch to either web host, again and again under its name until one has taken it; return its identifier."""
    while True:
        web = site.machines[chance.choice(("web.1", "web.2"))]
        status, said = web.ask("/api/import/things", site.key, data, {"Idempotency-Key": name})
        if status == 202:
            return said
        assert status in (0, 409, 429, 503), (status, said)
        time.sleep(0.2)
