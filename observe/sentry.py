"""Errors, and some requests and batches, told to Sentry."""

from __future__ import annotations

import random
import secrets
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from traceback import FrameSummary
from typing import Any

import sentry_sdk
from sentry_sdk.utils import get_default_release

from observe import Fault, Raised, Span
from settings import Settings

_ROOT = Path(__file__).parent.parent
_OPS = {"request": "http.server", "batch": "queue.process"}
_SOURCES = {"request": "route", "batch": "task"}


def receiver(settings: Settings) -> Sentry:
    """Return a connection of this process's own."""
    return Sentry(settings)


class Sentry:
    """A client that sends the events it is given, and collects none: no part of the package that looks at what happens is switched on."""

    def __init__(self, settings: Settings) -> None:
        self._rate = settings.sentry_traces_sample_rate
        self._client = sentry_sdk.Client(
            dsn=settings.sentry_dsn,
            release=_release(),
            default_integrations=False,
            auto_enabling_integrations=False,
            auto_session_tracking=False,
            enable_backpressure_handling=False,
            send_client_reports=False,
        )

    def fault(self, fault: Fault, span: Span | None) -> None:
        """Send an event."""
        event: dict[str, Any] = {
            "level": "error",
            "platform": "python",
            "logger": fault.logger,
            "timestamp": _time(fault.at),
            "logentry": {"message": fault.said},
            "tags": dict(fault.tags),
        }
        if fault.raised:
            event["exception"] = {"values": [_exception(raised) for raised in reversed(fault.raised)]}
        self._client.capture_event(event)  # type: ignore[arg-type]

    def span(self, span: Span) -> None:
        """Send a transaction, unless it is one of those left out."""
        if random.random() >= self._rate:  # noqa: S311 - which of them does not matter
            return
        trace = {
            "trace_id": secrets.token_hex(16),
            "span_id": secrets.token_hex(8),
            "op": _OPS[span.kind],
            "status": "internal_error" if span.is_failed else "ok",
            "data": dict(span.attributes),
        }
        event: dict[str, Any] = {
            "type": "transaction",
            "platform": "python",
            "transaction": span.name,
            "transaction_info": {"source": _SOURCES[span.kind]},
            "start_timestamp": _time(span.began),
            "timestamp": _time(span.ended),
            "contexts": {"trace": trace},
            "tags": {name: str(value) for name, value in span.attributes.items() if name in ("lading.batch_id", "lading.request_id")},
            "spans": [],
        }
        self._client.capture_event(event)  # type: ignore[arg-type]

    def flush(self, seconds: float) -> None:
        """Wait until all is sent, for so long at most."""
        self._client.flush(timeout=seconds)


@cache
def _release() -> str | None:
    """Return what SENTRY_RELEASE, the platform or git calls this version. Asked for once, since git is a process."""
    return get_default_release()


def _time(nanoseconds: int) -> datetime:
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC)


def _exception(raised: Raised) -> dict[str, Any]:
    return {"type": raised.name, "module": raised.module, "stacktrace": {"frames": [_frame(frame) for frame in raised.frames]}}


def _frame(frame: FrameSummary) -> dict[str, Any]:
    path = Path(frame.filename)
    is_ours = path.is_relative_to(_ROOT) and ".venv" not in path.parts
    name = str(path.relative_to(_ROOT)) if is_ours else frame.filename
    return {"filename": name, "function": frame.name, "lineno": frame.lineno, "context_line": frame.line, "in_app": is_ours}
