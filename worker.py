"""The worker: `python worker.py`. Takes hints from the queue, forks a process that carries out what waits, and keeps a sweep beside it."""

from __future__ import annotations

import gc
import importlib
import logging
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from types import FrameType
from typing import Any

import redis.exceptions
from rq import Queue, Worker
from rq.exceptions import StopRequested
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.timeouts import HorseMonitorTimeoutException
from rq.worker import WorkerStatus
from rq.worker_registration import clean_worker_registry

import catalog
import clock
import logs
import memory
import observe
from engine.target import open_target
from jobs import carry, queues, run_batch, run_chunks
from jobs.notices import Notices
from jobs.sweep import Sweep
from settings import Settings
from spool import open_spool

STOP_SECONDS = 20  # a run that has not come to a chunk border by then is killed; platforms kill everything 30 s after SIGTERM
SWEEP_STOP_SECONDS = 5
RETRY_SECONDS = 2
REDIS_SECONDS = 40  # a worker that hears nothing from Redis for so long looks whether it still is there
SWEEP = "--sweep"

# What a run imports when it first needs it is imported before the fork, so that no batch waits for it.
PRELOADED = ("encodings.utf_8_sig", "spool.directory")
OF_TARGET = {
    "postgresql": ("engine.target.postgresql.reflect", "engine.target.postgresql.session"),
    "sqlite": ("engine.target.sqlite.connect", "engine.target.sqlite.reflect", "engine.target.sqlite.session"),
}

log = logging.getLogger("worker")


class BatchWorker(Worker):
    """RQ's forking worker, which refuses every message but ours, and whose fork stops at a chunk border when it is told to."""

    log_result_lifespan = False
    max_connection_wait_time = 5.0  # seconds: what waits should not wait for a minute once Redis is back
    is_stopping = False

    def subscribe(self) -> None:
        """Listen to no commands: whoever can write to Redis could end workers by them. Signals do."""

    def dequeue_job_and_maintain_ttl(self, timeout: int | None, max_idle_time: int | None = None) -> tuple[Job, Queue] | None:
        """Wait for a message; one whose fields RQ cannot read is refused."""
        while True:
            try:
                return super().dequeue_job_and_maintain_ttl(timeout, max_idle_time)
            except Exception as error:
                name, queue = getattr(error, "job_id", None), getattr(error, "queue", None)
                if name is None or queue is None:
                    raise
                self._take(name, queue)
                self._refuse(name)

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Fork and carry out the message, if it is ours. RQ keeps no record of it: what became of the batch stands in the catalog."""
        try:
            self._execute(job, queue)
        except StopRequested:  # SIGTERM, before there was a fork that could hand anything back
            if queues.is_ours(job) and queues.invited_to(job) is None:
                queues.enqueue(self.connection, int(job.id))
            raise

    def _execute(self, job: Job, queue: Queue) -> None:
        self._take(job.id, queue)
        if not queues.is_ours(job):
            self._refuse(job.id)
            return
        self.set_state(WorkerStatus.BUSY)
        self.fork_work_horse(job, queue)
        if self.is_stopping:  # since the state was set, but before there was a fork to tell
            self._stop_fork()
        self._wait_for_fork()
        self.set_state(WorkerStatus.IDLE)

    def _take(self, name: str, queue: Queue) -> None:
        pipeline = self.connection.pipeline(transaction=False)
        pipeline.delete(Job.key_for(name))
        pipeline.lrem(queue.intermediate_queue_key, 1, name)
        pipeline.execute()

    def _refuse(self, name: str) -> None:
        # Its content is not shown: whoever sent it would choose what stands in our log.
        log.error("refused message %r: it is not the call of %s or %s with a batch's id", name[:80], queues.RUN_BATCH, queues.RUN_CHUNKS)

    def clean_registries(self) -> None:
        """Tidy up after workers that died: RQ would look for messages to run again, but those are the sweep's to send."""
        for queue in self.queues:
            self.connection.delete(queue.intermediate_queue_key)
            clean_worker_registry(queue)
        self.last_cleaned_at = clock.now()  # type: ignore[assignment]

    def _wait_for_fork(self) -> None:
        """Wait for the fork as long as it takes, whatever becomes of Redis in the meantime."""
        while self._horse_pid:
            try:
                with self.death_penalty_class(self.job_monitoring_interval, HorseMonitorTimeoutException):
                    _, status, _ = self.wait_for_horse()
                self._horse_pid = 0
                if status:
                    log.error("the fork ended with %d; what it held is handed back when its lease ends", os.waitstatus_to_exitcode(status))
            except HorseMonitorTimeoutException:
                self._say_busy()

    def _say_busy(self) -> None:
        try:
            self.heartbeat(self.job_monitoring_interval + 60)
        except redis.exceptions.RedisError as error:
            log.warning("Redis cannot be reached: %s", error)

    def main_work_horse(self, job: Job, queue: Queue) -> None:
        """Carry out what waits, in the fork; never returns."""
        status = 1
        try:
            self._is_horse = True
            self.setup_work_horse_signals()
            random.seed()
            batch_id = queues.invited_to(job)
            if batch_id is None:
                run_batch.run(int(job.id))
            else:
                run_chunks.run(batch_id)
            status = 0
        except BaseException:
            log.exception("the fork broke off")
        finally:
            observe.flush()
            os._exit(status)

    def fork_work_horse(self, job: Job, queue: Queue) -> None:
        """Fork; a signal that comes before the child listens waits until it does."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            super().fork_work_horse(job, queue)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    def setup_work_horse_signals(self) -> None:
        """Have the fork stop at the next chunk border on SIGTERM, and leave Ctrl-C to its parent."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, run_batch.stop)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    def handle_warm_shutdown_request(self) -> None:
        """Pass SIGTERM on to the fork, and kill it if it does not end in time."""
        self.is_stopping = True
        if self.horse_pid:
            self._stop_fork()

    def _stop_fork(self) -> None:
        self.kill_horse(signal.SIGTERM)
        timer = threading.Timer(STOP_SECONDS, self.kill_horse)
        timer.daemon = True
        timer.start()

    def kill_horse(self, sig: signal.Signals = signal.SIGKILL) -> None:
        """Send the fork a signal: to it alone, since for an instant it still is in its parent's process group."""
        if self.horse_pid:
            try:
                os.kill(self.horse_pid, sig)
            except ProcessLookupError:
                log.debug("the fork has ended already")


class Companion:
    """The sweep's process: started with the worker, started again when it dies, ended with it."""

    def __init__(self, worker: str) -> None:
        self._command = [sys.executable, __file__, SWEEP, worker, str(os.getpid())]
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="companion", daemon=True)

    def start(self) -> None:
        """Start it, and go on watching it."""
        self._thread.start()

    def stop(self) -> None:
        """End it, and wait until it has ended."""
        self._is_over.set()
        self._thread.join()

    def _keep(self) -> None:
        while not self._is_over.is_set():
            with subprocess.Popen(self._command) as process:  # noqa: S603 - our own script
                while process.poll() is None and not self._is_over.wait(1):
                    pass
                _end(process)
            if not self._is_over.is_set():
                log.error("the sweep ended with exit status %s; starting it again", process.returncode)
                self._is_over.wait(RETRY_SECONDS)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process in order, or, where that takes too long, by force."""
    process.terminate()
    try:
        process.wait(SWEEP_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


def work(settings: Settings, name: str) -> None:
    """Take messages until SIGTERM or SIGINT. Redis may be down, at the start or later: it is tried again."""
    worker = None
    while worker is None or not worker.is_stopping:
        try:
            connection = queues.connect(settings.redis_url, REDIS_SECONDS)
            worker = BatchWorker([queues.BATCHES, queues.HANDS], name=_incarnation(name), connection=connection, **_options())
            worker.work(logging_level="WARNING")
        except redis.exceptions.RedisError as error:
            log.warning("Redis cannot be reached: %s", error)
        if worker is None or not worker.is_stopping:
            time.sleep(RETRY_SECONDS)


def _options() -> dict[str, Any]:
    return {"serializer": JSONSerializer, "log_job_description": False, "worker_ttl": REDIS_SECONDS}


def _incarnation(name: str) -> str:
    """Return a name that RQ has not seen: it takes one for alive for minutes after its end."""
    return f"{name}.{secrets.token_hex(3)}"


def sweep(settings: Settings, name: str, worker_pid: int) -> None:
    """Run the sweep until SIGTERM, or until its worker has died."""
    is_over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: is_over.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    store, redis = open_spool(settings.spool_url, settings.spool_cache, settings.spool_cache_bytes), queues.connect(settings.redis_url)
    made = Sweep(catalog.connect(settings.catalog_url), store, redis, name, settings)
    # In a thread of its own: a signal handler that sets an event may not interrupt the very code that waits for it.
    thread = threading.Thread(target=made.run, args=(is_over, worker_pid), name="sweep")
    thread.start()
    Notices(made.catalog, store, settings).start(is_over, name)
    thread.join()


def main(arguments: list[str]) -> None:
    """Start the worker, or, with --sweep and the worker's name and process id, its sweep."""
    settings = Settings.from_environment()
    logs.configure(settings.log_format, carry.about)
    observe.start(settings, carry.about)
    logging.getLogger("rq").setLevel(logging.WARNING)
    if arguments[:1] == [SWEEP]:
        sweep(settings, arguments[1], int(arguments[2]))
        return
    name = f"{socket.gethostname()}.{os.getpid()}.{secrets.token_hex(3)}"
    run_batch.prepare(settings, name)
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    prepare_forks(settings)
    companion = Companion(name)
    companion.start()
    try:
        work(settings, name)
    finally:
        companion.stop()


def prepare_forks(settings: Settings) -> None:
    """Have at hand what every fork needs, and no more memory than that."""
    memory.give_back_early()
    for module in PRELOADED + OF_TARGET[open_target(settings.target_url).dialect]:
        importlib.import_module(module)
    # What was imported until now is never collected: a collector that looked at it would copy its memory into every fork.
    gc.collect()
    gc.freeze()


def _leave(_signal: int, _frame: FrameType | None) -> None:
    """End the worker while it waits for Redis; RQ installs its own handlers while it works."""
    raise SystemExit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
