"""The queue on a real Valkey: what a hint is, and what becomes of one that is not ours."""

from __future__ import annotations

import pickle
import socket
import time
import zlib
from typing import Any

import pytest
from redis import Redis
from rq.job import Job
from rq.serializers import JSONSerializer

from dev.servers import free_port
from jobs import queues


@pytest.fixture
def client(redis_url: str) -> Redis:
    """Give a client of an empty Valkey."""
    return queues.connect(redis_url, 5)


def fetch(client: Redis, name: str) -> Job:
    """Read a message back as the worker does."""
    return Job.fetch(name, connection=client, serializer=JSONSerializer)


def test_a_hint_holds_the_batch_id_and_nothing_else(client: Redis) -> None:
    """The message is JSON, calls our one function with the id, and never ends a batch by RQ's own time-out (T24, T88)."""
    assert queues.enqueue(client, 42)
    assert queues.hints(client) == ["42"]
    job = fetch(client, "42")
    assert zlib.decompress(client.hget("rq:job:42", "data")) == b'["jobs.run_batch.run", null, [42], {}]'  # type: ignore[arg-type]
    assert (job.timeout, job.result_ttl) == (-1, 0)
    assert queues.is_ours(job)


@pytest.mark.parametrize("host", ["closed", "silent"])
def test_a_dead_redis_is_told_within_two_seconds(host: str) -> None:
    """A Redis that refuses, or that takes the connection and says nothing, costs a request two seconds at most."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1] if host == "silent" else free_port()
        started = time.monotonic()
        assert queues.enqueue(queues.connect(f"redis://127.0.0.1:{port}/0"), 1) is False
        assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("url", "verifies"),
    [
        ("rediss://h:1/0", False),
        ("rediss://h:1/0?ssl_cert_reqs=none", False),
        ("rediss://h:1/0?ssl_cert_reqs=required", True),
    ],
)
def test_self_signed_certificates_are_taken_unless_the_url_asks_for_more(url: str, verifies: bool) -> None:
    """Heroku signs its Redis's certificates itself; one's own server may be checked."""
    options = queues.connect(url).connection_pool.connection_kwargs
    assert (options["ssl_cert_reqs"] == "required") is verifies
    assert options.get("ssl_check_hostname", True) is verifies


def test_only_lost_hints_are_sent_again(client: Redis) -> None:
    """What still is in the queue is left alone, so that sweeps do not pile up messages."""
    queues.enqueue(client, 1)
    assert queues.enqueue_lost(client, [1, 2, 3]) == [2, 3]
    assert queues.enqueue_lost(client, [1, 2, 3]) == []
    assert queues.hints(client) == ["1", "2", "3"]


def test_forgetting_takes_hints_and_their_messages_away(client: Redis) -> None:
    """Nothing of a forgotten hint is left in Redis, and the others stay."""
    for batch_id in (1, 2, 3):
        queues.enqueue(client, batch_id)
    queues.forget(client, ["1", "3"])
    assert queues.hints(client) == ["2"]
    assert [key for key in client.keys("rq:job:*")] == [b"rq:job:2"]  # noqa: C416


def test_waiting_takes_a_hint_at_once(client: Redis) -> None:
    """A hint that comes is taken out of the queue, message and all; without one the wait ends in time."""
    queues.enqueue(client, 7)
    assert queues.wait(client, 1) == (True, None)
    assert queues.hints(client) == []
    assert not client.exists("rq:job:7")
    started = time.monotonic()
    assert queues.wait(client, 0.3) is None
    assert 0.2 < time.monotonic() - started < 1


def test_invitations_are_as_many_as_may_help(client: Redis) -> None:
    """As many are sent as other workers live, at most so many, less those that help or are invited; waiting takes them after hints."""
    for worker in ("a", "b", "c", "d"):
        queues.say_alive(client, worker, "spool1")
    waiting = queues.hands_queue(client).key
    queues.invite(client, 7, most=4, present=0)
    queues.invite(client, 7, most=4, present=1)
    assert client.lrange(waiting, 0, -1) == [b"7-0", b"7-1", b"7-2"]
    queues.invite(client, 8, most=2, present=1)
    queues.invite(client, 8, most=1, present=1)
    assert client.llen(waiting) == 4
    job = fetch(client, "7-0")
    assert queues.is_ours(job) and (job.func_name, job.args) == ("jobs.run_chunks.run", [7])
    queues.enqueue(client, 5)
    assert [queues.wait(client, 1) for _ in range(3)] == [(True, None), (True, 7), (True, 7)]
    client.hset("rq:job:8-0", "data", zlib.compress(b'["jobs.run_batch.run", null, [8], {}]'))
    assert queues.wait(client, 1) == (True, 7)
    assert queues.wait(client, 1) == (False, 8)
    assert client.lrange(waiting, 0, -1) == [b"8-0"]


def forged(client: Any, name: str, **fields: object) -> Job:
    """Put a message into the queue that somebody else has written."""
    queues.enqueue(client, 5)
    raw = {key.decode(): value for key, value in client.hgetall("rq:job:5").items()}
    queues.forget(client, ["5"])
    client.hset(f"rq:job:{name}", mapping=raw | fields)
    client.rpush(queues.queue(client).key, name)
    return fetch(client, name)


@pytest.mark.parametrize(
    "fields",
    [
        {"data": pickle.dumps(("os.system", None, ("true",), {}))},
        {"data": zlib.compress(b'["os.system", null, ["true"], {}]')},
        {"data": zlib.compress(b'["jobs.run_batch.run", null, ["5"], {}]')},
        {"data": zlib.compress(b'["jobs.run_batch.run", null, [6], {}]')},
        {"data": zlib.compress(b'["run", "jobs.run_batch", [5], {}]')},
        {"data": zlib.compress(b'["jobs.run_batch.run", null, [5], {"x": 1}]')},
        {"data": zlib.compress(b'["jobs.run_chunks.run", null, [5], {}]')},
        {"data": b"[]"},
        {"success_callback_name": "os.abort"},
        {"failure_callback_name": "os.abort"},
        {"stopped_callback_name": "os.abort"},
        {"webhooks": b'[{"url": "http://127.0.0.1/", "job_status": "finished"}]'},
        {"repeats_left": 5},
    ],
)
def test_a_forged_message_is_not_ours(client: Redis, fields: dict[str, object]) -> None:
    """A pickle, another function or argument, and RQ's callbacks and web hooks are no hints; waiting puts them back (T88)."""
    assert not queues.is_ours(forged(client, "5", **fields))
    assert queues.wait(client, 1) == (False, None)
    assert queues.hints(client) == ["5"]


def test_a_message_that_rq_cannot_read_is_put_back(client: Redis) -> None:
    """Garbage in a message's fields does not end the job that waits."""
    client.hset("rq:job:5", mapping={"data": b"x", "timeout": "soon", "created_at": "never"})
    client.rpush(queues.queue(client).key, "5")
    assert queues.wait(client, 1) == (False, None)
    assert queues.hints(client) == ["5"]


def test_workers_are_alive_until_they_say_nothing_any_more(client: Redis) -> None:
    """The last sign of life counts by Redis's own clock; a worker that ends in order is gone at once."""
    queues.say_alive(client, "a", "spool1")
    queues.say_alive(client, "b", "spool2")
    assert queues.alive(client) == {"a": "spool1", "b": "spool2"}
    queues.say_dead(client, "b", "spool2")
    client.zadd(queues.WORKERS, {"a spool1": client.time()[0] - queues.ALIVE_SECONDS - 2})
    assert queues.alive(client) == {}
