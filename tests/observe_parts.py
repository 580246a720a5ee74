"""A receiver of what is told of errors and traces: Sentry's envelopes, and OTLP over HTTP."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from sentry_sdk.envelope import Envelope

PROJECT = "/api/7/envelope/"


class Receiver(ThreadingHTTPServer):
    """Keeps all that arrives; a silent one takes what is sent and never answers."""

    daemon_threads = True

    def __init__(self, is_silent: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.is_silent, self.is_over = is_silent, threading.Event()
        self.arrived: list[tuple[str, bytes]] = []

    @property
    def settings(self) -> dict[str, str]:
        """Return the settings with which all is told here, and soon."""
        port = self.server_address[1]
        told = {"SENTRY_DSN": f"http://dsnkey@127.0.0.1:{port}/7", "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}
        return told | {"SENTRY_TRACES_SAMPLE_RATE": "1", "OTEL_BSP_SCHEDULE_DELAY": "100"}

    def events(self, kind: str = "event") -> list[dict[str, Any]]:
        """Return Sentry's events, or its transactions."""
        items = [item for path, body in self.arrived if path == PROJECT for item in Envelope.deserialize(body).items]
        return [json.loads(item.get_bytes()) for item in items if item.type == kind]

    def spans(self) -> list[tuple[Span, dict[str, Any]]]:
        """Return OpenTelemetry's spans, each with its attributes."""
        requests = [ExportTraceServiceRequest.FromString(body) for path, body in self.arrived if path == "/v1/traces"]
        found = [span for request in requests for of in request.resource_spans for scope in of.scope_spans for span in scope.spans]
        return [(span, {a.key: getattr(a.value, str(a.value.WhichOneof("value"))) for a in span.attributes}) for span in found]

    def all_bytes(self) -> bytes:
        """Return all that has arrived."""
        return b"".join(body for _, body in self.arrived)


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        """Take what is sent."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.arrived.append((self.path, gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body))
        if self.server.is_silent:
            self.server.is_over.wait()
        else:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def receiving(is_silent: bool = False) -> Iterator[Receiver]:
    """Give a receiver that listens."""
    with Receiver(is_silent) as receiver:
        thread = threading.Thread(target=receiver.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield receiver
        finally:
            receiver.is_over.set()
            receiver.shutdown()
            thread.join()
