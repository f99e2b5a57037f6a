"""The node as a whole: what it is, what it can do now, its reactor, its TCP door."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable

from prometheus_client.metrics_core import Metric

from server import __version__
from server.door_counts import DoorCounts
from server.health import Health
from server.lag import LagMeter
from server.metrics.registry import Read, counter, gauge, histogram
from server.replies import ModelState, ServerState


def node_families(health: Health, lag: LagMeter, role: str) -> Read:
    """Whether it is ready is `atelier_state{state="ready"}`."""

    def read() -> Iterable[Metric]:
        yield gauge(
            "atelier_build_info", "Always 1: what runs here.", [((__version__, role), 1.0)], ("version", "role")
        )
        states = [((state.value,), float(health.state is state)) for state in ServerState]
        yield gauge("atelier_state", "1 for what the node is: loading, ready, draining, failed.", states, ("state",))
        models = [
            ((view.card.name, state.value), float(view.state is state))
            for view in health.models()
            for state in ModelState
        ]
        yield gauge("atelier_model_state", "1 for what each model is.", models, ("model", "state"))
        lags = [((), lag.histogram)]
        yield histogram(
            "atelier_reactor_lag_seconds", "How late timers of the reactor thread are, 20 times a second.", lags
        )
        yield gauge("atelier_process_threads", "Threads of Python.", [((), threading.active_count())])
        yield gauge("atelier_process_tasks", "Tasks of the reactor's loop that have not ended.", [((), _tasks())])

    return read


def _tasks() -> int:
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:  # no loop runs here
        return 0


def door_families(counts: DoorCounts, connections: Callable[[], int]) -> Read:
    """The TCP door's."""

    def read() -> Iterable[Metric]:
        yield gauge("atelier_tcp_connections", "Open connections.", [((), connections())])
        yield counter("atelier_tcp_accepted", "Connections accepted.", [((), counts.connections)])
        requests = [((kind,), number) for kind, number in counts.requests.items()]
        yield counter("atelier_tcp_requests", "Requests, by kind.", requests, ("kind",))
        refusals = [((code,), number) for code, number in counts.refusals.items()]
        yield counter("atelier_tcp_refusals", "Requests and connections refused, by code.", refusals, ("code",))
        ends = [((reason,), number) for reason, number in counts.ends.items()]
        yield counter("atelier_tcp_disconnects", "Connections ended, by reason (docs/protocol.md).", ends, ("reason",))
        sizes = [(("in",), counts.received_bytes), (("out",), counts.sent_bytes)]
        yield counter("atelier_tcp_bytes", "Bytes either way, before TLS.", sizes, ("direction",))

    return read
