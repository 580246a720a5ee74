"""HTTP only, one file a step. A route parses, calls one function and replies; its docstring is its API text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import BoundedSemaphore
from typing import Any, cast

from flask import current_app
from redis import Redis
from sqlalchemy import Engine

from engine.control.template import ValuesOf
from engine.plan import Plan
from engine.tables import Tables
from spool import Spool


@dataclass(frozen=True, slots=True)
class Parts:
    """What app.py wires together for the routes; `parts()` gives it to them."""

    settings: Any  # a settings.Settings; routes import no settings, they only read fields of it
    catalog: Engine
    spool: Spool
    redis: Redis
    compile: Callable[[bytes], Plan]  # control-file bytes against the target's tables; raises ControlFileInvalid, TargetUnavailable
    waiters: BoundedSemaphore  # the requests that may wait for batches; each holds a thread, and some must be left for the others
    tables: Callable[[], Tables]  # of the target; raises TargetUnavailable
    values_of: ValuesOf  # of a column of the target, where there are few
    send_test_mail: Callable[[Sequence[str]], None]  # raises OSError; only where settings say how mails are sent
    try_sample: Callable[..., dict[str, Any]]  # see jobs.trial.Trials.run
    check_target: Callable[[], object]  # raises what is wrong with the target
    close_target: Callable[[], None]

    def close(self) -> None:
        """Close every connection, as a process does that goes on without the application."""
        self.close_target()
        self.catalog.dispose()
        self.redis.close()


def parts() -> Parts:
    """Return the parts of the app that serves this request."""
    return cast(Parts, current_app.extensions["lading"])
