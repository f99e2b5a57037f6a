"""Where spans go: a collector that speaks OTLP over HTTP, in batches, from a thread of their own.

A collector that is away costs the spans and nothing else: at most so many wait, each request has its time-out, and at a stop what
is left is sent within a limit. The SDK's own variables (OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER) hold.
"""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from server import __version__
from server.tracing.jobs import JobIds

MOST = 8192  # spans that wait: about a thousand jobs' in a collector's pause
AT_ONCE = 512
EVERY = 2.0  # seconds
TIMEOUT = 5.0  # seconds for one batch, repetitions included


def span_provider(endpoint: str, headers: Mapping[str, str], ids: JobIds, role: str) -> TracerProvider:
    """Spans go to `endpoint`/v1/traces. Starts the thread; `shutdown()` sends what is left, and may take a while."""
    exporter = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", headers=dict(headers), timeout=TIMEOUT)
    ours = {"service.name": "atelier", "service.version": __version__, "atelier.role": role}
    provider = TracerProvider(
        resource=Resource.create(ours).merge(OTELResourceDetector().detect()), id_generator=ids, shutdown_on_exit=False
    )
    provider.add_span_processor(
        BatchSpanProcessor(
            exporter, max_queue_size=MOST, max_export_batch_size=AT_ONCE, schedule_delay_millis=EVERY * 1000
        )
    )
    return provider
