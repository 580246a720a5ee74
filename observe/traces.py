"""Requests and batches told to a collector, as OpenTelemetry's spans, over HTTP.

OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS and the like are read by the packages
themselves.
"""

from __future__ import annotations

import threading

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from observe import Fault, Raised, Span
from settings import Settings

_KINDS = {"request": SpanKind.SERVER, "batch": SpanKind.CONSUMER}


def receiver(settings: Settings) -> Traces:
    """Return a connection of this process's own."""
    return Traces(str(settings.otel_exporter_otlp_endpoint))


class Traces:
    """Sends spans, some at a time, from a thread of its own."""

    def __init__(self, endpoint: str) -> None:
        resource = Resource({"service.name": "lading"}).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{endpoint}/v1/traces")))
        self._tracer = self._provider.get_tracer("lading")

    def fault(self, fault: Fault, span: Span | None) -> None:
        """Wait: an error is told with its span."""

    def span(self, span: Span) -> None:
        """Send a span, with its errors."""
        parent = TraceContextTextMapPropagator().extract({"traceparent": span.parent} if span.parent else {}, Context())
        made = self._tracer.start_span(span.name, parent, _KINDS[span.kind], span.attributes, start_time=span.began)
        for fault in span.faults:
            for raised in fault.raised[:1]:
                made.add_event("exception", {"exception.type": _kind(raised), "exception.stacktrace": _stack(raised)}, fault.at)
        if span.is_failed:
            made.set_status(StatusCode.ERROR)
        made.end(span.ended)

    def flush(self, seconds: float) -> None:
        """Wait until all is sent, for so long at most: the package itself would wait for as long as a receiver is silent."""
        thread = threading.Thread(target=self._provider.force_flush, daemon=True)
        thread.start()
        thread.join(seconds)


def _kind(raised: Raised) -> str:
    return f"{raised.module}.{raised.name}"


def _stack(raised: Raised) -> str:
    return "".join(f'  File "{frame.filename}", line {frame.lineno}, in {frame.name}\n' for frame in raised.frames)
