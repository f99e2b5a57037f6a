"""HTTP requests, for the HTTP door's middleware to tell of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from prometheus_client import Counter, Gauge, Histogram

from server.errors import Code
from server.metrics.access import Access
from server.metrics.registry import Metrics

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
NO_ROUTE = "none"  # a path that no route has: what strangers ask for is no label
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class WebMeasures:
    """What the HTTP door is given: whom to tell of requests, what it shows at /metrics, and to whom."""

    meter: WebMeter
    metrics: Metrics
    access: Access


class WebMeter:
    """`began` when the headers of a request are there, `ended` once for each, when its answer is out or its caller gone.

    `route` is the route's template (/v1/predictions/{prediction_id}), "" where none matched.
    """

    def __init__(self, metrics: Metrics) -> None:
        registry = metrics.registry
        self._under_way = Gauge("atelier_http_requests_under_way", "Requests not yet answered.", registry=registry)
        self._requests = Counter(
            "atelier_http_requests",
            "Requests answered, by the template of their route; status 499: the caller was gone.",
            ("route", "method", "status"),
            registry=registry,
        )
        self._refusals = Counter(
            "atelier_http_refusals",
            "Requests answered with an error, by its code, as clients read it.",
            ("code",),
            registry=registry,
        )
        for code in Code:
            if code is not Code.OK:
                self._refusals.labels(code.name)
        self._seconds = Histogram(
            "atelier_http_request_seconds",
            "From a request's headers to the end of its answer, streams included.",
            ("route", "method"),
            registry=registry,
            buckets=SECONDS,
        )

        self._of = cache(self._found)  # bounded as the labels are; to look both up takes 4 µs

    def _found(self, route: str, method: str, status: int) -> tuple[Counter, Histogram]:
        return self._requests.labels(route, method, str(status)), self._seconds.labels(route, method)

    def refused(self, code: str) -> None:
        """It was answered with an error: its name, of `server.errors.Code`."""
        self._refusals.labels(code).inc()

    def began(self) -> None:
        """A request is under way."""
        self._under_way.inc()

    def ended(self, route: str, method: str, status: int, seconds: float) -> None:
        """It is over."""
        self._under_way.dec()
        counter, histogram = self._of(route or NO_ROUTE, method if method in _METHODS else "other", status)
        counter.inc()
        histogram.observe(seconds)
