"""The metrics of several processes as one page: each sample says which process it is of. Each tells its own by a UNIX socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog
import treq
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.web.client import Agent

from server.clock import Clock, within
from server.futures import as_future
from server.metrics.registry import counter, gauge

log = structlog.get_logger("atelier.metrics")

TIME = 5.0  # seconds that a process has to answer: Prometheus waits for ten


class GatheredMetrics:
    """`folder` has a socket for each process, `names` says which are up, `own` what is told of the supervisor itself."""

    def __init__(
        self,
        reactor: Any,
        folder: Path,
        token: str,
        names: Callable[[], Sequence[str]],
        own: Callable[[], tuple[int, int]],
    ) -> None:
        self._reactor = reactor
        self._clock: Clock = reactor
        self._folder = folder
        self._headers: dict[bytes | str, bytes | str] = {"authorization": f"Bearer {token}"} if token else {}
        self._names = names
        self._own = own

    async def text(self, accept: str) -> tuple[bytes, str]:
        """All of it. A process that does not answer is left out, and is missing from atelier_processes_told."""
        names = self._names()
        told = dict(zip(names, await asyncio.gather(*(self._ask(name) for name in names)), strict=True))
        texts = {name: text for name, text in told.items() if text is not None}
        expected, restarts = self._own()
        own = [
            gauge("atelier_processes", "Processes that there should be.", [((), expected)]),
            gauge("atelier_processes_up", "Processes that are up.", [((), len(names))]),
            gauge("atelier_processes_told", "Processes whose figures are in this answer.", [((), len(texts))]),
            counter("atelier_process_restarts", "How often a process that had ended was started.", [((), restarts)]),
        ]
        encode, content_type = choose_encoder(accept)
        return encode(_registry([*own, *merged(texts)])), content_type

    async def _ask(self, name: str) -> str | None:
        endpoint: Any = UNIXClientEndpoint(self._reactor, str(socket_of(self._folder, name)), timeout=TIME)  # type: ignore[no-untyped-call]
        agent: Any = Agent.usingEndpointFactory(self._reactor, _Always(endpoint))  # type: ignore[no-untyped-call]

        async def ask() -> str:
            response: Any = await as_future(treq.get("http://localhost/metrics", agent=agent, headers=self._headers))
            text: str = await as_future(treq.text_content(response, "utf-8"))
            if response.code != 200:
                raise OSError(f"status {response.code}")
            return text

        try:
            return await within(self._clock, TIME, ask())
        except Exception as error:  # whatever it is, the others' figures are told
            log.warning("metrics.process_silent", process=name, reason=str(error) or type(error).__name__)
            return None


def socket_of(folder: Path, name: str) -> Path:
    """Where a process tells its metrics."""
    return folder / f"{name}.sock"


def merged(texts: Mapping[str, str]) -> list[Metric]:
    """The families of all processes, each once, with the label `process` on each sample."""
    families: dict[str, Metric] = {}
    for process, text in texts.items():
        for family in text_string_to_metric_families(text):
            whole = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            for sample in family.samples:
                whole.samples.append(sample._replace(labels={**sample.labels, "process": process}))
    return list(families.values())


def _registry(families: Iterable[Metric]) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(_Given(list(families)))
    return registry


class _Given:
    """A collector of what there is."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Sequence[Metric]:
        """All of it."""
        return self._families


class _Always:
    """One endpoint for every address."""

    def __init__(self, endpoint: Any) -> None:
        self._endpoint = endpoint

    def endpointForURI(self, uri: Any) -> Any:  # noqa: N802  # Twisted's name
        """The one."""
        return self._endpoint
