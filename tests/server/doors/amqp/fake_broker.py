"""A broker in memory: what it is asked it checks, and it is away, slow or forgetful when a test says so."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from server.doors.amqp.broker import Clash, Delivery, LinkLost, Properties, Publication, Refused, publish_one


class FakeBroker:
    """A `Broker`. `away` is why nobody can connect; `arguments` are the queues that stand, `queues` what lies in them."""

    def __init__(self) -> None:
        self.away = ""
        self.asked: list[str] = []  # purposes of the links that were asked for, also in vain
        self.links: list[FakeLink] = []
        self.queues: dict[str, deque[Delivery]] = {}
        self.arguments: dict[str, Mapping[str, Any]] = {}
        self.forbidden: set[str] = set()  # queues that we may not declare
        self.down: set[str] = set()  # queues that lie on a node that is down
        self.bindings: set[tuple[str, str, str]] = set()
        self.confirming = asyncio.Event()  # while it is not set, nothing is confirmed
        self.confirming.set()
        self.refusing: set[str] = set()  # queues that are full
        self.names = itertools.count(1)  # of queues that get theirs from the broker

    async def connect(self, purpose: str) -> FakeLink:
        """A new link."""
        self.asked.append(purpose)
        if self.away:
            raise LinkLost(self.away)
        link = FakeLink(self, purpose)
        self.links.append(link)
        return link

    def fall(self, why: str = "killed") -> None:
        """Every link is lost, and what was not acknowledged lies in its queue again."""
        for link in self.links:
            link.fall(why)
        self.links.clear()

    def stand(self, name: str, arguments: Mapping[str, Any] | None = None) -> None:
        """A queue that was there before."""
        self.queues.setdefault(name, deque())
        self.arguments[name] = dict(arguments or {})

    def put(self, queue: str, body: bytes, properties: Properties | None = None) -> None:
        """A message for a queue."""
        self.queues[queue].append(Delivery(tag=0, body=body, properties=properties or Properties(), routing_key=queue))
        self.deliver()

    def deliver(self) -> None:
        """Give out what may be given out."""
        for link in self.links:
            for channel in link.channels:
                channel.deliver()

    def delete(self, queue: str) -> None:
        """A queue is gone, and its consumers hear of it."""
        del self.queues[queue], self.arguments[queue]
        for link in self.links:
            for channel in link.channels:
                for consumer in channel.consumers:
                    if consumer.queue == queue:
                        consumer.messages.put_nowait("its queue is gone")

    def bodies(self, queue: str) -> list[bytes]:
        """What lies in a queue and was given to nobody."""
        return [delivery.body for delivery in self.queues[queue]]

    @property
    def unacknowledged(self) -> int:
        """Of all channels."""
        return sum(len(channel.given) for link in self.links for channel in link.channels)


class FakeLink:
    """A `Link`."""

    def __init__(self, broker: FakeBroker, purpose: str) -> None:
        self.broker = broker
        self.purpose = purpose
        self.channels: list[FakeChannel] = []
        self.closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def channel(self, *, confirming: bool = False) -> FakeChannel:
        """A new channel."""
        if self.closed.done():
            raise LinkLost(self.closed.result())
        channel = FakeChannel(self, confirming)
        self.channels.append(channel)
        return channel

    async def close(self) -> None:
        """Hang up."""
        self.fall("closed")
        if self in self.broker.links:
            self.broker.links.remove(self)
        self.broker.deliver()

    def fall(self, why: str) -> None:
        """Lose it."""
        for channel in self.channels:
            channel.fall(why)
        if not self.closed.done():
            self.closed.set_result(why)


class _Consumer:
    def __init__(self, queue: str, tag: str) -> None:
        self.queue = queue
        self.tag = tag
        self.messages: asyncio.Queue[Delivery | str] = asyncio.Queue()

    async def next(self) -> Delivery:
        message = await self.messages.get()
        if isinstance(message, str):
            raise LinkLost(message)
        return message


class FakeChannel:
    """A `Channel`."""

    def __init__(self, link: FakeLink, confirming: bool) -> None:
        self.broker = link.broker
        self.confirms = confirming
        self.prefetch = 0
        self.consumers: list[_Consumer] = []
        self.given: dict[int, Delivery] = {}
        self.acked: list[bytes] = []
        self._tags = itertools.count(1)
        self.closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def fall(self, why: str) -> None:
        """Closed; what was not acknowledged lies in front of its queue again."""
        if self.closed.done():
            return
        for delivery in reversed(self.given.values()):
            self.broker.queues.setdefault(delivery.routing_key, deque()).appendleft(replace(delivery, redelivered=True))
        self.given.clear()
        for consumer in self.consumers:
            consumer.messages.put_nowait(why)
        self.consumers.clear()
        self.closed.set_result(why)

    async def declare_queue(self, name: str, arguments: Mapping[str, Any] | None = None, **flags: bool) -> str:
        """A queue."""
        self._check()
        name = name or f"own-{next(self.broker.names)}"
        stands = self.broker.arguments.get(name)
        if name in self.broker.down:
            self.fall("404 NOT_FOUND")
            raise Clash("404 NOT_FOUND")
        if flags.get("passive"):
            clash = "404 NOT_FOUND" if stands is None else ""
        elif name in self.broker.forbidden:
            clash = "403 ACCESS_REFUSED"
        else:
            clash = "406 PRECONDITION_FAILED" if stands is not None and stands != dict(arguments or {}) else ""
        if clash:
            self.fall(clash)
            raise (LinkLost if clash.startswith("404") else Clash)(clash)
        if stands is None:
            self.broker.stand(name, arguments)
        return name

    async def declare_exchange(self, name: str, kind: str, *, passive: bool = False) -> None:
        """An exchange; they are taken as they come."""
        self._check()

    async def bind(self, queue: str, exchange: str, routing_key: str) -> None:
        """Bind."""
        self._check()
        assert queue in self.broker.queues
        self.broker.bindings.add((exchange, routing_key, queue))

    async def unbind(self, queue: str, exchange: str, routing_key: str) -> None:
        """Unbind."""
        self._check()
        self.broker.bindings.discard((exchange, routing_key, queue))

    async def consume(self, queue: str, *, prefetch: int, tag: str = "") -> _Consumer:
        """Take messages."""
        self._check()
        if queue not in self.broker.queues:
            self.fall("404 NOT_FOUND")
            raise LinkLost("404 NOT_FOUND")
        self.prefetch = prefetch
        consumer = _Consumer(queue, tag)
        self.consumers.append(consumer)
        self.deliver()
        return consumer

    async def cancel(self, tag: str) -> None:
        """Take no more."""
        self._check()
        for consumer in [consumer for consumer in self.consumers if consumer.tag == tag]:
            self.consumers.remove(consumer)
            consumer.messages.put_nowait("cancelled")

    async def get(self, queue: str) -> tuple[Delivery, int] | None:
        """One message."""
        self._check()
        waiting = self.broker.queues[queue]
        return (self._give(waiting.popleft()), len(waiting)) if waiting else None

    async def count(self, queue: str) -> int:
        """How many messages wait."""
        self._check()
        if queue not in self.broker.queues:
            self.fall("404 NOT_FOUND")
            raise Clash("404 NOT_FOUND")
        return len(self.broker.queues[queue])

    async def purge(self, queue: str) -> int:
        """Empty a queue."""
        self._check()
        count = len(self.broker.queues[queue])
        self.broker.queues[queue].clear()
        return count

    def ack(self, tag: int) -> None:
        """Acknowledge; a tag that is none of this channel's is a fault of ours."""
        if not self.closed.done():
            self.acked.append(self.given.pop(tag).body)
            self.deliver()

    async def publish(self, exchange: str, routing_key: str, body: bytes, properties: Properties) -> None:
        """Publish."""
        await publish_one(self, Publication(exchange, routing_key, body, properties))

    async def publish_all(self, messages: Sequence[Publication]) -> frozenset[int]:
        """Publish several."""
        self._check()
        assert self.confirms
        held: asyncio.Future[Any] = asyncio.ensure_future(self.broker.confirming.wait())
        until: list[asyncio.Future[Any]] = [held, self.closed]
        await asyncio.wait(until, return_when=asyncio.FIRST_COMPLETED)
        held.cancel()
        self._check()
        return frozenset(place for place, message in enumerate(messages) if not self._routed(message))

    def _routed(self, message: Publication) -> bool:
        """Whether it lies in a queue now, or was not to be returned if none takes it."""
        queues = [message.routing_key] if not message.exchange else self._bound(message.exchange, message.routing_key)
        taking = [queue for queue in queues if queue in self.broker.queues]
        for queue in taking:
            if queue in self.broker.refusing:
                raise Refused
            self.broker.put(queue, message.body, message.properties)
        return bool(taking) or not message.properties.mandatory

    def close(self) -> None:
        """Close."""
        self.fall("closed")
        self.broker.deliver()

    def deliver(self) -> None:
        """Give the consumers what they may have."""
        for consumer in self.consumers:
            waiting = self.broker.queues.get(consumer.queue, deque())
            while waiting and len(self.given) < self.prefetch:
                consumer.messages.put_nowait(self._give(waiting.popleft()))

    def _give(self, delivery: Delivery) -> Delivery:
        given = replace(delivery, tag=next(self._tags))
        self.given[given.tag] = given
        return given

    def _bound(self, exchange: str, routing_key: str) -> list[str]:
        return [
            queue
            for name, pattern, queue in self.broker.bindings
            if name == exchange and _matches(pattern.split("."), routing_key.split("."))
        ]

    def _check(self) -> None:
        if self.closed.done():
            raise LinkLost(self.closed.result())


def _matches(pattern: list[str], words: list[str]) -> bool:
    if not pattern or not words:
        return pattern == words or pattern == ["#"]
    if pattern[0] == "#":
        return any(_matches(pattern[1:], words[skip:]) for skip in range(len(words) + 1))
    return pattern[0] in ("*", words[0]) and _matches(pattern[1:], words[1:])
