"""The UDP door's numbers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from prometheus_client.metrics_core import Metric

from server.doors.udp.parts import UdpCounts
from server.metrics.registry import Read, counter, gauge


class UdpNumbers(Protocol):
    """What the door knows of itself."""

    @property
    def counts(self) -> UdpCounts:
        """Since the start."""
        ...

    @property
    def peers(self) -> int:
        """Clients that are there."""
        ...

    @property
    def subscriptions(self) -> int:
        """What they hear."""
        ...

    @property
    def keys(self) -> int:
        """Keys that hold."""
        ...


def udp_families(door: UdpNumbers) -> Read:
    """Everything but owners and addresses."""

    def read() -> Iterable[Metric]:
        counts = door.counts
        yield gauge("atelier_udp_peers", "UDP clients that were heard of lately.", [((), door.peers)])
        yield gauge("atelier_udp_subscriptions", "Topics that they hear, together.", [((), door.subscriptions)])
        yield gauge("atelier_udp_keys", "UDP keys that hold.", [((), door.keys)])
        numbers = [(("in",), counts.received), (("out",), counts.sent)]
        yield counter("atelier_udp_datagrams", "Datagrams either way.", numbers, ("direction",))
        sizes = [(("in",), counts.received_bytes), (("out",), counts.sent_bytes)]
        yield counter("atelier_udp_bytes", "Bytes of datagrams either way.", sizes, ("direction",))
        dropped = [((why,), number) for why, number in counts.dropped.items()]
        yield counter("atelier_udp_dropped", "Datagrams that were not answered, by the reason.", dropped, ("reason",))
        messages = [((kind,), number) for kind, number in counts.messages.items()]
        yield counter("atelier_udp_messages", "Messages taken, by kind.", messages, ("kind",))
        refusals = [((code,), number) for code, number in counts.refusals.items()]
        yield counter("atelier_udp_refusals", "Messages refused, by code.", refusals, ("code",))
        evicted = [((code,), number) for code, number in counts.evicted.items()]
        yield counter("atelier_udp_evicted", "Clients put out, by code.", evicted, ("code",))
        unsent = [(("overtaken",), counts.overtaken), (("refused",), counts.unsent)]
        text = "Datagrams not sent: overtaken by newer ones, or refused by the system."
        yield counter("atelier_udp_unsent", text, unsent, ("reason",))

    return read
