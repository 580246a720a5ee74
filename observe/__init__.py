"""What an error tracker (Sentry) and a collector of traces (OpenTelemetry) are told, where the settings name one.

All that leaves is put together here, name by name: of an error its kind, its place in the code and the words that our own log has for it;
of a request or a batch what docs/how-to/watch.md lists. No exception's own words are among it (a driver's may quote a row), and no
variable, header, query or body is looked at.

What is told is sent by threads of the two packages, which drop what cannot be sent: an import waits for neither. Each process makes its own
when it first has something to tell, and so does a fork, since threads and connections do not outlive one.
"""

from __future__ import annotations

import atexit
import importlib
import logging
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Protocol

from errors import SettingInvalid
from settings import Settings

Value = str | int | float | bool
Kind = Literal["request", "batch"]

INSTALL = "pip install --require-hashes -r requirements-observe.txt"
FLUSH_SECONDS = 2.0
SENT_WITHIN_SECONDS = 10.0  # what was told so long ago has been sent, or could not be
TAGS = ("request_id", "batch_id", "run")
# Whose words are ours, so that they hold nothing but what the code says; a package's may be put together from anything.
_OURS = {"app", "worker", "wsgi", "jobs", "routes", "pages", "catalog", "engine", "spool", "cli"}
_SENDERS = {"opentelemetry", "sentry_sdk", "urllib3", "requests"}  # what they say of their own troubles is for the log alone
_RECEIVERS = {
    "sentry_dsn": ("observe.sentry", "sentry-sdk"),
    "otel_exporter_otlp_endpoint": ("observe.traces", "opentelemetry-sdk and opentelemetry-exporter-otlp-proto-http"),
}  # by their settings: the module, and the packages that it needs

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Raised:
    """An exception, without its words."""

    module: str
    name: str
    frames: tuple[traceback.FrameSummary, ...]  # the innermost last


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that was logged as an error."""

    at: int  # nanoseconds since 1970
    logger: str
    said: str
    tags: Mapping[str, str]
    raised: tuple[Raised, ...]  # the one that was logged first, then what caused it


@dataclass(slots=True)
class Span:
    """A request, or a batch's way through a worker: from when to when, and what came of it."""

    kind: Kind
    name: str = ""
    parent: str | None = None  # the caller's span, as the header `traceparent` has it
    attributes: dict[str, Value] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    is_failed: bool = False
    began: int = field(default_factory=time.time_ns)  # nanoseconds since 1970
    ended: int = 0
    _clock: int = field(default_factory=time.monotonic_ns, repr=False)

    def end(self) -> None:
        """Take the time; by a clock that nobody sets, so that nothing ends before it began."""
        self.ended = self.began + time.monotonic_ns() - self._clock


class Receiver(Protocol):
    """Where things are told."""

    def fault(self, fault: Fault, span: Span | None) -> None:
        """Tell of an error, and in what it happened."""

    def span(self, span: Span) -> None:
        """Tell of a request or a batch that has ended."""

    def flush(self, seconds: float) -> None:
        """Wait until all is sent, for so long at most."""


@dataclass(slots=True)
class _State:
    settings: Settings | None = None
    receivers: list[Receiver] | None = None  # None: to be made in this process
    told_at: float = float("-inf")  # time.monotonic()
    lock: threading.Lock = field(default_factory=threading.Lock)


_state = _State()
_current: ContextVar[Span | None] = ContextVar("span", default=None)


def start(settings: Settings, about: Callable[[], Mapping[str, object]] = dict) -> None:
    """Have errors that are logged told from now on, and spans; SettingInvalid where a package lacks. `about` gives a moment's ids."""
    stop()
    for variable, said in lacking(settings).items():
        raise SettingInvalid(f"{variable} is set, but {said}")
    if any(getattr(settings, name) for name in _RECEIVERS):
        _state.settings = settings
        atexit.register(flush)  # a fork, which ends without it, flushes by itself
        logging.getLogger().addHandler(_Faults(about))
        for sender in _SENDERS:  # one line says that a receiver does not answer, not one for each time it was tried
            logging.getLogger(sender).setLevel(logging.ERROR)


def stop() -> None:
    """Tell nothing any more."""
    root = logging.getLogger()
    for handler in [h for h in root.handlers if isinstance(h, _Faults)]:
        root.removeHandler(handler)
    _state.settings = _state.receivers = None
    atexit.unregister(flush)


def lacking(settings: Settings) -> dict[str, str]:
    """Return, by the variables that are set, what is not installed for them."""
    found = {}
    for name, (module, packages) in _RECEIVERS.items():
        if getattr(settings, name):
            try:
                importlib.import_module(module)
            except ImportError as error:
                found[name.upper()] = f"what it needs is not installed ({error}): {packages}. Install it: {INSTALL}"
    return found


def begin(kind: Kind, parent: str | None = None) -> Span:
    """Begin a span, to which errors of this thread now belong."""
    span = Span(kind, parent=parent)
    _current.set(span)
    return span


def end(span: Span, is_told: bool = True) -> None:
    """End a span, and tell it."""
    span.end()
    _current.set(None)
    if is_told:
        _tell(lambda receiver: receiver.span(span))


@contextmanager
def spanning(kind: Kind) -> Iterator[Span]:
    """Give a span that ends with the block; it has failed if the block raises."""
    span = begin(kind)
    try:
        yield span
    except BaseException:
        span.is_failed = True
        raise
    finally:
        end(span)


def flush() -> None:
    """Before a process ends, let what was told of late be sent; where nobody answers that takes two seconds, and no longer."""
    until = time.monotonic() + FLUSH_SECONDS
    if time.monotonic() - _state.told_at < SENT_WITHIN_SECONDS:
        _tell(lambda receiver: receiver.flush(max(until - time.monotonic(), 0.0)))


def _tell(tell: Callable[[Receiver], None]) -> None:
    """Tell every receiver. Nothing that goes wrong with it may harm what it is about."""
    if _state.settings is None:
        return
    try:
        for receiver in _receivers(_state.settings):
            tell(receiver)
        _state.told_at = time.monotonic()
    except Exception as error:
        log.warning("could not be told to SENTRY_DSN or OTEL_EXPORTER_OTLP_ENDPOINT: %s", error)


def _receivers(settings: Settings) -> list[Receiver]:
    with _state.lock:
        if _state.receivers is None:
            modules = [importlib.import_module(module) for name, (module, _) in _RECEIVERS.items() if getattr(settings, name)]
            _state.receivers = [module.receiver(settings) for module in modules]
        return _state.receivers


def _after_fork() -> None:
    _state.receivers, _state.told_at, _state.lock = None, float("-inf"), threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


class _Faults(logging.Handler):
    """Tells what is logged as an error."""

    def __init__(self, about: Callable[[], Mapping[str, object]]) -> None:
        super().__init__(logging.ERROR)
        self._about = about

    def emit(self, record: logging.LogRecord) -> None:
        owner = record.name.partition(".")[0]
        if owner in _SENDERS:
            return
        tags = {name: str(value) for name, value in self._about().items() if name in TAGS and value is not None}
        said = _said(record) if owner in _OURS else f"an error that {owner} has logged"
        fault = Fault(time.time_ns(), record.name, said, tags, tuple(_raised(record.exc_info[1])) if record.exc_info else ())
        span = _current.get()
        if span is not None:
            span.faults.append(fault)
        _tell(lambda receiver: receiver.fault(fault, span))


def _said(record: logging.LogRecord) -> str:
    """Return the message with its numbers, but without anything else that was put into it."""
    arguments = record.args if isinstance(record.args, tuple) else ()
    return record.getMessage() if all(isinstance(argument, int | float) for argument in arguments) else str(record.msg)


def _raised(error: BaseException | None) -> Iterator[Raised]:
    while error is not None:
        yield Raised(type(error).__module__, type(error).__qualname__, _frames(error.__traceback__))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _frames(found: TracebackType | None) -> tuple[traceback.FrameSummary, ...]:
    return tuple(traceback.extract_tb(found))
