"""RabbitMQ as this node sees it: a `Broker` around the broker, whose links, channels and deliveries are counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from prometheus_client import Counter, Gauge

from server.doors.amqp.broker import (
    Broker,
    Channel,
    Deliveries,
    Delivery,
    Link,
    LinkLost,
    NotPublished,
    Properties,
    Publication,
    publish_one,
)
from server.doors.amqp.dead_letters import CODE
from server.doors.amqp.queues import CONTROL, EVENTS, WORK
from server.errors import Code
from server.metrics.registry import Kept, Metrics

_EXCHANGES = {EVENTS: "event", CONTROL: "control"}
_CODES = frozenset(code.name for code in Code)
PURPOSES = ("consuming", "working", "hearing", "publishing")  # of connections; factory.amqp names them


class BrokerMeter:
    """The instruments. `watch` puts them around a broker."""

    def __init__(self, metrics: Metrics) -> None:
        registry, purpose = metrics.registry, ("purpose",)

        def counted(name: str, text: str, labels: Iterable[str]) -> Counter:
            return Counter(name, text, labels, registry=registry)

        self.connected = Gauge(
            "atelier_amqp_connected", "Connections to the broker that are up.", purpose, registry=registry
        )
        self.connects = counted("atelier_amqp_connects", "Tries to connect.", (*purpose, "outcome"))
        self.deliveries = counted("atelier_amqp_deliveries", "Messages delivered to us.", (*purpose, "redelivered"))
        self.acks = counted("atelier_amqp_acks", "Deliveries acknowledged.", purpose)
        self.unacked = Gauge(
            "atelier_amqp_unacked", "Deliveries held and not acknowledged.", purpose, registry=registry
        )
        self.published = counted("atelier_amqp_published", "Messages published, by what they are.", ("kind", "outcome"))
        self.dead_letters = counted("atelier_amqp_dead_letters", "Messages refused, by their code.", ("code",))
        for code in sorted(_CODES):  # so that the first of a kind is an increase
            self.dead_letters.labels(code)
        for kind in ("dead_letter", "retry", "job", "event", "control"):
            self.published.labels(kind, "confirmed")
            self.published.labels(kind, "failed")
        self._published_of = Kept[tuple[str, bool], Counter](
            lambda key: self.published.labels(key[0], "confirmed" if key[1] else "failed")
        )
        self.acks_of = Kept[str, Counter](lambda purpose: self.acks.labels(purpose))
        self.unacked_of = Kept[str, Gauge](lambda purpose: self.unacked.labels(purpose))
        self.deliveries_of = Kept[tuple[str, bool], Counter](
            lambda key: self.deliveries.labels(key[0], "yes" if key[1] else "no")
        )

    def watch(self, broker: Broker) -> Broker:
        """The same broker, counted."""
        return _Broker(broker, self)

    def note_published(self, message: Publication, *, confirmed: bool) -> None:
        """One message; a dead letter counts when the broker has it."""
        kind = _kind(message.exchange, message.routing_key)
        self._published_of[kind, confirmed].inc()
        if kind == "dead_letter" and confirmed:
            code = str(message.properties.headers.get(CODE, ""))
            self.dead_letters.labels(code if code in _CODES else "other").inc()


def _kind(exchange: str, routing_key: str) -> str:
    if exchange:
        return _EXCHANGES.get(exchange, "other")
    if routing_key == WORK:
        return "job"
    if routing_key.endswith(".dead"):
        return "dead_letter"
    return "retry" if ".delay." in routing_key else "other"


class _Broker:
    def __init__(self, broker: Broker, meter: BrokerMeter) -> None:
        self._broker = broker
        self._meter = meter

    async def connect(self, purpose: str) -> Link:
        label = purpose if purpose in PURPOSES else "other"
        up = self._meter.connected.labels(label)  # told as 0 from the first try on
        try:
            link = await self._broker.connect(purpose)
        except LinkLost:
            self._meter.connects.labels(label, "failed").inc()
            raise
        self._meter.connects.labels(label, "connected").inc()
        up.inc()
        link.closed.add_done_callback(lambda _: up.dec())
        return _Link(link, label, self._meter)


class _Link:
    def __init__(self, link: Link, purpose: str, meter: BrokerMeter) -> None:
        self._link = link
        self._purpose = purpose
        self._meter = meter

    @property
    def closed(self) -> asyncio.Future[str]:
        return self._link.closed

    async def channel(self, *, confirming: bool = False) -> Channel:
        return _Channel(await self._link.channel(confirming=confirming), self._purpose, self._meter)

    async def close(self) -> None:
        await self._link.close()


class _Channel:
    """Deliveries that are not acknowledged when the channel is closed are ours no more."""

    def __init__(self, channel: Channel, purpose: str, meter: BrokerMeter) -> None:
        self._channel = channel
        self._purpose = purpose
        self._meter = meter
        self._held: set[int] = set()
        channel.closed.add_done_callback(lambda _: self._let_go())

    @property
    def closed(self) -> asyncio.Future[str]:
        return self._channel.closed

    async def consume(self, queue: str, *, prefetch: int, tag: str = "") -> Deliveries:
        return _Deliveries(await self._channel.consume(queue, prefetch=prefetch, tag=tag), self._take)

    def ack(self, tag: int) -> None:
        self._channel.ack(tag)
        if tag in self._held and not self._channel.closed.done():
            self._held.discard(tag)
            self._meter.acks_of[self._purpose].inc()
            self._meter.unacked_of[self._purpose].dec()

    async def publish(self, exchange: str, routing_key: str, body: bytes, properties: Properties) -> None:
        await publish_one(self, Publication(exchange, routing_key, body, properties))

    async def publish_all(self, messages: Sequence[Publication]) -> frozenset[int]:
        try:
            unroutable = await self._channel.publish_all(messages)
        except (NotPublished, LinkLost):
            for message in messages:
                self._meter.note_published(message, confirmed=False)
            raise
        for place, message in enumerate(messages):
            self._meter.note_published(message, confirmed=place not in unroutable)
        return unroutable

    def _take(self, delivery: Delivery) -> None:
        self._meter.deliveries_of[self._purpose, delivery.redelivered].inc()
        if not self._channel.closed.done():
            self._held.add(delivery.tag)
            self._meter.unacked_of[self._purpose].inc()

    def _let_go(self) -> None:
        self._meter.unacked_of[self._purpose].dec(len(self._held))
        self._held.clear()

    # As they are

    async def declare_queue(self, name: str, arguments: Mapping[str, Any] | None = None, **flags: bool) -> str:
        return await self._channel.declare_queue(name, arguments, **flags)

    async def declare_exchange(self, name: str, kind: str, *, passive: bool = False) -> None:
        await self._channel.declare_exchange(name, kind, passive=passive)

    async def bind(self, queue: str, exchange: str, routing_key: str) -> None:
        await self._channel.bind(queue, exchange, routing_key)

    async def unbind(self, queue: str, exchange: str, routing_key: str) -> None:
        await self._channel.unbind(queue, exchange, routing_key)

    async def cancel(self, tag: str) -> None:
        await self._channel.cancel(tag)

    async def get(self, queue: str) -> tuple[Delivery, int] | None:
        return await self._channel.get(queue)

    async def count(self, queue: str) -> int:
        return await self._channel.count(queue)

    async def purge(self, queue: str) -> int:
        return await self._channel.purge(queue)

    def close(self) -> None:
        self._channel.close()


class _Deliveries:
    def __init__(self, deliveries: Deliveries, take: Callable[[Delivery], None]) -> None:
        self._deliveries = deliveries
        self._take = take

    async def next(self) -> Delivery:
        delivery = await self._deliveries.next()
        self._take(delivery)
        return delivery
