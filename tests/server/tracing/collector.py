"""A collector for tests: a real HTTP server that takes OTLP's protobuf at /v1/traces, and keeps the spans."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True)
class Told:
    """A span as it was received. Ids are hexadecimal, times in seconds; `status` is ERROR's text, "" for any other."""

    name: str
    trace: str
    id: str
    parent: str
    began: float
    ended: float
    attributes: dict[str, Any]
    events: tuple[str, ...]
    status: str
    resource: dict[str, Any]


@dataclass
class Collector:
    """What was received. While it is not `open` it answers nothing."""

    url: str = ""
    spans: list[Told] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    open: threading.Event = field(default_factory=threading.Event)

    def of(self, name: str) -> Told:
        """The one span of a name."""
        (span,) = [span for span in self.spans if span.name == name]
        return span

    def tree(self, root: Told) -> dict[str, list[str]]:
        """The names below each name of a trace, in the order in which they began."""
        below: dict[str, list[str]] = {}
        names = {span.id: span.name for span in self.spans}
        for span in sorted(self.spans, key=lambda span: span.began):
            if span.trace == root.trace and span.parent in names:
                below.setdefault(names[span.parent], []).append(span.name)
        return below


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector that listens."""
    collector = Collector()
    collector.open.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            collector.open.wait(60)
            assert self.path == "/v1/traces", self.path
            assert self.headers["content-type"] == "application/x-protobuf"
            if self.headers["content-encoding"] == "gzip":
                body = gzip.decompress(body)
            collector.headers.append({name.lower(): value for name, value in self.headers.items()})
            collector.spans += read(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.end_headers()
            self.wfile.write(ExportTraceServiceResponse().SerializeToString())

        def log_message(self, *args: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    collector.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        collector.open.set()
        server.shutdown()
        server.server_close()
        thread.join()


def read(request: Any) -> Iterator[Told]:
    """The spans of one request."""
    for group in request.resource_spans:
        resource = _values(group.resource.attributes)
        for scope in group.scope_spans:
            for span in scope.spans:
                yield Told(
                    name=span.name,
                    trace=span.trace_id.hex(),
                    id=span.span_id.hex(),
                    parent=span.parent_span_id.hex(),
                    began=span.start_time_unix_nano / 1e9,
                    ended=span.end_time_unix_nano / 1e9,
                    attributes=_values(span.attributes),
                    events=tuple(event.name for event in span.events),
                    status=span.status.message if span.status.code == 2 else "",
                    resource=resource,
                )


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
