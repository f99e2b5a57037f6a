"""The storage of pictures, and what was fetched of adapters."""

from __future__ import annotations

import errno
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from prometheus_client import Counter, Histogram
from prometheus_client.metrics_core import Metric

from server.fetching.adapters import FetchCounts
from server.fetching.cache import AdapterCache
from server.interfaces import ArtifactStore
from server.metrics.registry import Metrics, Read, counter, gauge

T = TypeVar("T")

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_OK = "ok"
_ERRORS = {
    errno.ENOSPC: "full",
    errno.EDQUOT: "full",
    errno.EROFS: "denied",
    errno.EACCES: "denied",
    errno.EPERM: "denied",
    errno.ENOENT: "missing",
    errno.ETIMEDOUT: "timeout",
}
"""What is told apart of errors of a disk; object stores give no number, and are "error"."""


_OPERATIONS = ("put", "read", "delete")
OUTCOMES = (_OK, *sorted(set(_ERRORS.values())), "error")


class MeasuredArtifacts:
    """An `ArtifactStore` that is timed."""

    def __init__(self, store: ArtifactStore, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        registry = metrics.registry
        self._seconds = Histogram(
            "atelier_storage_seconds",
            "One operation of the storage, whatever became of it.",
            ("operation",),
            registry=registry,
            buckets=SECONDS,
        )
        self._outcomes = Counter(
            "atelier_storage_operations",
            "Operations of the storage: ok, full, denied, missing, timeout, error.",
            ("operation", "outcome"),
            registry=registry,
        )
        self._bytes = Counter(
            "atelier_storage_bytes", "Bytes of pictures stored and read.", ("operation",), registry=registry
        )
        # All of them made now, so that the first of a kind is an increase, and none is looked up again.
        self._seconds_of = {operation: self._seconds.labels(operation) for operation in _OPERATIONS}
        self._bytes_of = {operation: self._bytes.labels(operation) for operation in ("put", "read")}
        self._outcomes_of = {
            (operation, outcome): self._outcomes.labels(operation, outcome)
            for operation in _OPERATIONS
            for outcome in OUTCOMES
        }

    async def put(self, key: str, data: bytes, content_type: str, sha256: str) -> None:
        """As the store's."""
        await self._measured("put", self._store.put(key, data, content_type, sha256))
        self._bytes_of["put"].inc(len(data))

    async def read(self, key: str, offset: int, size: int) -> bytes:
        """As the store's."""
        data = await self._measured("read", self._store.read(key, offset, size))
        self._bytes_of["read"].inc(len(data))
        return data

    async def delete(self, key: str) -> None:
        """As the store's."""
        await self._measured("delete", self._store.delete(key))

    async def address(self, key: str) -> str:
        """As the store's; made here, so there is nothing to time."""
        return await self._store.address(key)

    async def _measured(self, operation: str, work: Awaitable[T]) -> T:
        began, outcome = self._clock(), _OK
        try:
            return await work
        except OSError as error:
            outcome = _outcome(error)
            raise
        finally:
            self._seconds_of[operation].observe(self._clock() - began)
            self._outcomes_of[operation, outcome].inc()


def _outcome(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, FileNotFoundError):
        return "missing"
    return _ERRORS.get(error.errno or 0, "error")


def adapter_families(counts: FetchCounts, cache: AdapterCache) -> Read:
    """Adapters that are fetched, and the disk that they are kept on."""

    def read() -> Iterable[Metric]:
        yield counter("atelier_adapter_cache_hits", "Fetched adapters found on the disk.", [((), counts.hits)])
        yield counter(
            "atelier_adapter_cache_misses", "Fetched adapters that had to be downloaded.", [((), counts.misses)]
        )
        outcomes = [((_OK,), counts.downloads), (("failed",), counts.failures)]
        yield counter("atelier_adapter_downloads", "Downloads of adapters that came to an end.", outcomes, ("outcome",))
        yield counter(
            "atelier_adapter_download_bytes", "Bytes of adapters downloaded.", [((), counts.downloaded_bytes)]
        )
        yield gauge("atelier_adapter_cache_bytes", "The adapter cache's bytes, taken or promised.", [((), cache.used)])
        yield gauge("atelier_adapter_cache_limit_bytes", "What it may have.", [((), cache.limit)])
        yield gauge("atelier_adapter_cache_entries", "Adapters in it.", [((), cache.entries)])

    return read
