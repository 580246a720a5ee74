"""The queues and their messages, which are hints: `there is work`, or an invitation, `help with this batch`, and nothing else.

A message holds a batch id, as JSON. Losing one costs time (the sweep, or whoever invited, sends another), a doubled or forged one costs a
look at the catalog and the target: what is to be done stands there alone.
"""

import logging
import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from rq import Queue
from rq.exceptions import DeserializationError, NoSuchJobError
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.utils import as_text

BATCHES = "batches"  # every worker serves it
HANDS = "hands"  # of invitations; every worker serves it where nothing waits in the other
RUN_BATCH = "jobs.run_batch.run"  # the one function that a message of batches may name
RUN_CHUNKS = "jobs.run_chunks.run"  # the one function that an invitation may name
ANSWER_SECONDS = 0.8  # a Redis that says nothing for so long is taken to be dead
NO_LIMIT_SECONDS = -1  # a batch may run for hours: the lease ends it, never RQ's time-out
FAILED_SECONDS = 3600  # how long RQ remembers a message that failed
WORKERS = "lading:workers"  # a sorted set: `<name> <marker of the spool it sees>`, by Redis's time of its last sign of life
ALIVE_SECONDS = 15  # a worker that gave none for so long is taken to be dead

log = logging.getLogger(__name__)


def connect(redis_url: str, answer_seconds: float = ANSWER_SECONDS) -> Redis:
    """Return a client of this Redis; nothing is sent yet, so this never fails because Redis is down.

    With the usual `answer_seconds` a dead Redis makes a call raise within two seconds: one try again at once (for a connection that the
    server closed while it was idle), and no back-off. `rediss://` trusts self-signed certificates, as Heroku's are, unless the URL itself
    asks for more by `ssl_cert_reqs`.
    """
    tls: dict[str, object] = {}
    if redis_url.startswith("rediss://") and not re.search("ssl_cert_reqs=(required|optional)", redis_url):
        tls = {"ssl_cert_reqs": "none", "ssl_check_hostname": False}
    return Redis.from_url(
        redis_url,
        socket_connect_timeout=ANSWER_SECONDS,
        socket_timeout=answer_seconds,
        retry=Retry(NoBackoff(), 1),
        **tls,
    )


def queue(redis: Redis) -> Queue:
    """Return RQ's queue of batches."""
    return Queue(BATCHES, connection=redis, serializer=JSONSerializer)


def hands_queue(redis: Redis) -> Queue:
    """Return RQ's queue of invitations."""
    return Queue(HANDS, connection=redis, serializer=JSONSerializer)


def enqueue(redis: Redis, batch_id: int) -> bool:
    """Send the hint that this batch waits; False where Redis cannot be reached, so that only the sweep will start it.

    The message's id is the batch's: sending it again makes no second message, as RQ drops ids whose message is done.
    """
    try:
        _send(queue(redis), RUN_BATCH, {str(batch_id): batch_id})
    except (RedisError, OSError) as error:
        log.warning("batch %d: no hint sent, the sweep will start it: %s", batch_id, error)
        return False
    return True


def enqueue_lost(redis: Redis, batch_ids: Collection[int]) -> list[int]:
    """Send hints for those of these batches whose hints are not in the queue; return them. RedisError where Redis cannot be reached."""
    known = set(hints(redis))
    lost = [batch_id for batch_id in batch_ids if str(batch_id) not in known]
    if lost:
        _send(queue(redis), RUN_BATCH, {str(batch_id): batch_id for batch_id in lost})
    return lost


def hints(redis: Redis) -> list[str]:
    """Return the ids of the messages that wait. RedisError where Redis cannot be reached."""
    return [as_text(name) for name in redis.lrange(queue(redis).key, 0, -1)]


def forget(redis: Redis, names: Collection[str]) -> None:
    """Take messages away: their batches were claimed without them, or nothing could be claimed after they were seen.

    Redis may be down: a hint too many does no harm.
    """
    key = queue(redis).key
    try:
        pipeline = redis.pipeline(transaction=False)
        for name in names:
            pipeline.lrem(key, 1, name)
        pipeline.delete(*map(Job.key_for, names))
        pipeline.execute()
    except (RedisError, OSError) as error:
        log.warning("%d hints stay in the queue: %s", len(names), error)


def invite(redis: Redis, batch_id: int, most: int, present: int) -> None:
    """Invite workers to help with a batch, until `most` do, or all others that live; `present` do, and some may be invited already.

    RedisError where Redis cannot be reached.
    """
    wanted = min(most, len(alive(redis)) - 1) - present
    waiting = {as_text(name) for name in redis.lrange(hands_queue(redis).key, 0, -1)} if wanted > 0 else set()
    names = [name for number in range(max(wanted, 0)) if (name := f"{batch_id}-{number}") not in waiting]
    if names:
        _send(hands_queue(redis), RUN_CHUNKS, dict.fromkeys(names, batch_id))


class Came(NamedTuple):
    """What came while a job waited."""

    is_ours: bool  # else it has gone back to the head of its queue, for the worker to refuse
    invited_to: int | None = None  # the batch, where it is an invitation


def wait(redis: Redis, seconds: float) -> Came | None:
    """Wait for a hint in a job that would otherwise end, or an invitation, and take it; None where none came.

    The client's answer_seconds must be above `seconds`; RedisError where Redis cannot be reached.
    """
    found = redis.blpop([queue(redis).key, hands_queue(redis).key], timeout=seconds)
    if found is None:
        return None
    try:
        job = Job.fetch(as_text(found[1]), connection=redis, serializer=JSONSerializer)
        came = Came(is_ours(job), invited_to(job))
    except NoSuchJobError:
        return Came(True)  # A hint whose batch was claimed meanwhile: one look at the catalog more.
    except (ValueError, TypeError, KeyError):  # RQ's, of a message that nothing of ours has written.
        came = Came(False)
    if not came.is_ours:
        redis.lpush(as_text(found[0]), found[1])
        return came
    redis.delete(job.key)
    return came


def say_alive(redis: Redis, worker: str, spool_marker: str) -> None:
    """Note that a worker lives, and which spool it sees; RedisError where Redis cannot be reached."""
    seconds = redis.time()[0]
    pipeline = redis.pipeline(transaction=False)
    pipeline.zadd(WORKERS, {f"{worker} {spool_marker}": seconds})
    pipeline.zremrangebyscore(WORKERS, "-inf", seconds - ALIVE_SECONDS)
    pipeline.execute()


def say_dead(redis: Redis, worker: str, spool_marker: str) -> None:
    """Note that a worker ends in order; RedisError where Redis cannot be reached."""
    redis.zrem(WORKERS, f"{worker} {spool_marker}")


def alive(redis: Redis) -> dict[str, str]:
    """Return the workers that live, by name, each with the marker of the spool it sees; RedisError where Redis cannot be reached."""
    found = {}
    for name in redis.zrangebyscore(WORKERS, redis.time()[0] - ALIVE_SECONDS, "+inf"):
        worker, _, marker = as_text(name).rpartition(" ")  # type: ignore[arg-type]
        found[worker] = marker
    return found


def is_ours(job: Job) -> bool:
    """Tell whether a message is one that we send: JSON, our function, the batch's id, and nothing that RQ would do besides.

    RQ imports and calls what a message names as its callbacks, and sends requests to its web hooks: whoever can write to Redis could run
    anything here.
    """
    try:
        call = [job.func_name, job.instance, job.args, job.kwargs]
    except (DeserializationError, ValueError, TypeError):
        return False
    callbacks = (job._success_callback_name, job._failure_callback_name, job._stopped_callback_name)
    has_extras = any(callbacks) or job.webhooks or job.retries_left or job.repeats_left or job.rate_limit_key or job._dependency_ids
    name = re.fullmatch("([0-9]+)(-[0-9]+)?", job.id)
    return name is not None and call == [RUN_CHUNKS if name[2] else RUN_BATCH, None, [int(name[1])], {}] and not has_extras


def invited_to(job: Job) -> int | None:
    """Return the batch that a message of ours, if it is an invitation, asks to help with."""
    batch_id, sign, _ = job.id.partition("-")
    return int(batch_id) if sign and batch_id.isdecimal() else None


def _send(target: Queue, function: str, batch_ids: Mapping[str, int]) -> None:
    """Send messages of these names, each with its batch's id."""
    pipeline = target.connection.pipeline(transaction=False)
    for name, batch_id in batch_ids.items():
        target.enqueue_call(
            function,
            args=(batch_id,),
            job_id=name,
            timeout=NO_LIMIT_SECONDS,
            result_ttl=0,
            failure_ttl=FAILED_SECONDS,
            pipeline=pipeline,
        )
    pipeline.execute()
