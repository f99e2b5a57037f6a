"""What is measured, joined to what there is, and where it is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import structlog
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError

from ai.cards import Card
from config import Settings, SettingsError
from factory.fetching import AdapterFetching
from factory.joining import joined
from factory.records import Records
from factory.tcp import TcpDoor
from server.backlog import BacklogWatch
from server.clock import Clock
from server.futures import as_future
from server.health import Health
from server.interfaces import ArtifactStore, Leases, Painter
from server.jobs.lifecycle import Lifecycle
from server.jobs.places import Places
from server.lag import LagMeter
from server.live.sessions import Sessions
from server.metrics.access import Access
from server.metrics.broker import BrokerMeter
from server.metrics.engine import engine_families
from server.metrics.jobs import CountedLeases, JobMeter, live_families
from server.metrics.limits import LimitMeter, counting_families
from server.metrics.live import live_session_families
from server.metrics.node import door_families, node_families
from server.metrics.page import metrics_site
from server.metrics.records import CommitMeter, records_families
from server.metrics.registry import Metrics
from server.metrics.storage import MeasuredArtifacts, adapter_families
from server.metrics.udp import UdpNumbers, udp_families
from server.metrics.web import WebMeasures, WebMeter
from server.metrics.webhooks import MeasuredSender, delivery_families
from server.pools import ThreadedPool
from server.webhooks.delivery import Delivery, Sender

log = structlog.get_logger("atelier.metrics")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What is looked up whenever the metrics are asked for."""

    painter: Painter
    lifecycle: Lifecycle
    places: Places
    health: Health
    lag: LagMeter
    records: Records
    backlog: BacklogWatch
    adapters: AdapterFetching
    delivery: Delivery
    door: TcpDoor
    udp: UdpNumbers
    limits_away: Callable[[], bool]
    live: Sessions


class Measuring:
    """`metrics` is the registry and its text, `access` who may read it, `web` the HTTP door's part."""

    def __init__(self, settings: Settings, reactor: Any, cards: Sequence[Card]) -> None:
        clock = cast(Clock, reactor)
        self._settings = settings
        self._reactor = reactor
        self._pool = ThreadedPool("metrics", 1)
        self._port: Any = None  # IListeningPort, which mypy cannot read
        self.metrics = Metrics(self._pool)
        self.access = Access(settings.metrics_token)
        self.jobs = JobMeter(self.metrics, [card.name for card in cards], clock.seconds)
        self.commits = CommitMeter(self.metrics)
        self.broker = BrokerMeter(self.metrics)
        self.limits = LimitMeter(self.metrics)
        self.web = WebMeasures(WebMeter(self.metrics), self.metrics, self.access)

    def artifacts(self, store: ArtifactStore) -> ArtifactStore:
        """The same store, timed."""
        return MeasuredArtifacts(store, self.metrics)

    def leases(self, leases: Leases) -> Leases:
        """The same leases, counted."""
        return CountedLeases(leases, self.metrics)

    def sender(self, sender: Sender) -> Sender:
        """The same sender, timed."""
        return MeasuredSender(sender, self.metrics)

    def look_up(self, parts: Measured) -> None:
        """Add what is known where it arises."""
        settings, add = self._settings, self.metrics.add
        devices = settings.engine_devices() if settings.role != "gateway" else ()
        add(node_families(parts.health, parts.lag, settings.role))
        add(engine_families(parts.painter.numbers, devices, settings.max_batch))
        add(live_families(parts.lifecycle.by_state, parts.places, settings.max_pending_jobs))
        add(records_families(parts.records, parts.backlog, self._reactor.seconds))
        add(adapter_families(parts.adapters.source.counts, parts.adapters.cache))
        add(delivery_families(parts.delivery))
        add(counting_families(parts.limits_away))
        add(live_session_families(parts.live.numbers))
        add(door_families(parts.door.counts, lambda: parts.door.connections))
        add(udp_families(parts.udp))

    async def listen(self, health: Health) -> None:
        """Start the thread, and listen where the settings say. Raises SettingsError, CannotListenError."""
        self._pool.start()
        if not self._settings.metrics_listen:
            return
        site = metrics_site(self.metrics, self.access, health)
        try:
            endpoint: Any = serverFromString(self._reactor, self._settings.metrics_listen)  # type: ignore[no-untyped-call]
            self._port = await as_future(endpoint.listen(site))
        except CannotListenError:
            raise
        except Exception as error:
            raise SettingsError(f"ATELIER_METRICS_LISTEN: {error or type(error).__name__}") from error
        log.info("metrics.listening", address=str(self._port.getHost()))

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port of the metrics' own port, if it is open."""
        host: Any = self._port.getHost() if self._port is not None else None
        return (host.host, host.port) if hasattr(host, "port") else None

    async def close(self) -> bool:
        """Tell no more; whether the thread has ended."""
        if self._port is not None:
            stopping = self._port.stopListening()
            if stopping is not None:
                await as_future(stopping)
        return not self._pool.started or await joined(self._reactor, self._pool.stop)
