"""The one registry of a server, and its text."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ai.histogram import Histogram
from server.interfaces import Pool

K = TypeVar("K")
V = TypeVar("V")

Read = Callable[[], Iterable[Metric]]
"""Looks up some families as they are now. On the reactor thread; must not wait."""

Samples = Iterable[tuple[Sequence[str], float]]
"""Labels' values, and the number."""


class Kept(dict[K, V]):
    """What `make` gives for each key, made once: to look up an instrument's labels takes longer than to count by it."""

    def __init__(self, make: Callable[[K], V]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, key: K) -> V:
        """The first time."""
        made = self[key] = self._make(key)
        return made


class _Readings(Collector):
    """What was looked up last."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._families: tuple[Metric, ...] = ()
        self.look()

    def look(self) -> None:
        """Once more."""
        self._families = tuple(self._read())

    def collect(self) -> Iterable[Metric]:
        """On any thread."""
        return self._families


class Metrics:
    """Everything that is measured. `registry` is for instruments that are told; `add` takes what is looked up.

    The text is written on a thread of `pool`, since it takes a few milliseconds; who asks while it is written gets the same.
    """

    def __init__(self, pool: Pool) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each: when it began to be counted
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._pool = pool
        self._readings: list[_Readings] = []
        self._under_way: dict[str, asyncio.Task[tuple[bytes, str]]] = {}

    def add(self, read: Read) -> None:
        """Look these up, too, whenever the text is asked for."""
        readings = _Readings(read)
        self.registry.register(readings)
        self._readings.append(readings)

    async def text(self, accept: str = "") -> tuple[bytes, str]:
        """The text and its content type: OpenMetrics for whoever accepts it, else Prometheus's own."""
        encode, content_type = choose_encoder(accept)
        task = self._under_way.get(content_type)
        if task is None:
            task = self._under_way[content_type] = asyncio.ensure_future(self._written(encode, content_type))
            task.add_done_callback(lambda _: self._under_way.pop(content_type))
        return await asyncio.shield(task)

    async def _written(self, encode: Callable[[CollectorRegistry], bytes], content_type: str) -> tuple[bytes, str]:
        for readings in self._readings:
            readings.look()
        return await self._pool.run(encode, self.registry), content_type


def gauge(name: str, text: str, samples: Samples, labels: Sequence[str] = ()) -> Metric:
    """A number that goes up and down."""
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def counter(name: str, text: str, samples: Samples, labels: Sequence[str] = ()) -> Metric:
    """A number that only grows; the name is told with _total."""
    family = CounterMetricFamily(name, text, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def histogram(
    name: str, text: str, samples: Iterable[tuple[Sequence[str], Histogram]], labels: Sequence[str] = ()
) -> Metric:
    """How often a number lay in which range."""
    family = HistogramMetricFamily(name, text, labels=labels)
    for values, value in samples:
        family.add_metric(values, buckets=_cumulative(value), sum_value=value.total)
    return family


def _cumulative(value: Histogram) -> list[tuple[str, float]]:
    buckets, so_far = [], 0
    for bound, count in zip([*map(str, value.bounds), "+Inf"], value.counts, strict=True):
        so_far += count
        buckets.append((bound, float(so_far)))
    return buckets
