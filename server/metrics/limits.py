"""Limits that were reached, and whether they are counted together."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import Counter
from prometheus_client.metrics_core import Metric

from server.limits import NAMES
from server.metrics.registry import Metrics, Read, gauge


class LimitMeter:
    """`reached` is told the name of each limit that refused something."""

    def __init__(self, metrics: Metrics) -> None:
        self._refusals = Counter(
            "atelier_limit_refusals",
            "Jobs and logins refused, by the limit of their owner that was reached (docs/limits.md).",
            ("limit",),
            registry=metrics.registry,
        )
        for name in NAMES:
            self._refusals.labels(name)

    def reached(self, name: str) -> None:
        """One of `server.limits.NAMES`."""
        self._refusals.labels(name).inc()


def counting_families(away: Callable[[], bool]) -> Read:
    """Whether Redis is away."""

    def read() -> Iterable[Metric]:
        text = "1 while Redis is away and this node counts rates for itself."
        yield gauge("atelier_limits_redis_away", text, [((), float(away()))])

    return read
