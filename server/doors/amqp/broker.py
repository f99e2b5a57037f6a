"""A message broker as the door sees it: links, channels, deliveries, and what goes wrong with them. Plain types."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


class LinkLost(Exception):
    """The connection, or the channel, is of no more use. `str(error)` is why, in the broker's words where it gave any."""


class Clash(LinkLost):
    """The channel was closed because what was declared stands already with other arguments, or may not be declared; or, in a
    cluster, lies on a node that is down."""


class NotPublished(Exception):
    """It is not known that the broker has the message: it may be published again."""


class Refused(NotPublished):
    """The broker does not take it: its queue is full, or cannot be reached from here."""

    def __init__(self) -> None:
        super().__init__("the broker refused it")


class Unroutable(NotPublished):
    """The broker has no queue for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Properties:
    """What comes with a body. Left out are those that would harm a copy: its expiry, its publisher's name.

    `mandatory` is for publishing alone: whether its publisher is to hear that no queue takes it.
    """

    content_type: str = ""
    content_encoding: str = ""
    headers: Mapping[str, Any] = field(default_factory=dict)
    priority: int | None = None
    correlation_id: str = ""
    reply_to: str = ""
    message_id: str = ""
    timestamp: int | None = None
    type: str = ""
    app_id: str = ""
    mandatory: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A message, as one channel was given it: `tag` means something to that channel alone."""

    tag: int
    body: bytes = field(repr=False)
    properties: Properties
    exchange: str = ""
    routing_key: str = ""
    redelivered: bool = False


@dataclass(frozen=True, slots=True)
class Publication:
    """A message, and where it is to go."""

    exchange: str
    routing_key: str
    body: bytes = field(repr=False)
    properties: Properties


class Deliveries(Protocol):
    """A consumer."""

    async def next(self) -> Delivery:
        """The next message. Raises LinkLost when there will be none: the channel is closed, the queue is gone."""
        ...


class Channel(Protocol):
    """One channel. Everything asynchronous raises LinkLost."""

    @property
    def closed(self) -> asyncio.Future[str]:
        """Done when it is closed, with the reason. Not to be cancelled."""
        ...

    async def declare_queue(self, name: str, arguments: Mapping[str, Any] | None = None, **flags: bool) -> str:
        """A durable queue unless `flags` (durable, exclusive, auto_delete, passive) say otherwise; gives its name."""
        ...

    async def declare_exchange(self, name: str, kind: str, *, passive: bool = False) -> None:
        """A durable exchange."""
        ...

    async def bind(self, queue: str, exchange: str, routing_key: str) -> None:
        """Let a queue hear of an exchange's messages."""
        ...

    async def unbind(self, queue: str, exchange: str, routing_key: str) -> None:
        """No more."""
        ...

    async def consume(self, queue: str, *, prefetch: int, tag: str = "") -> Deliveries:
        """Take messages, at most `prefetch` that are not acknowledged."""
        ...

    async def cancel(self, tag: str) -> None:
        """Take no more; what was delivered can still be acknowledged."""
        ...

    async def get(self, queue: str) -> tuple[Delivery, int] | None:
        """One message, and how many more there are; None where there is none."""
        ...

    async def count(self, queue: str) -> int:
        """How many messages wait in a queue."""
        ...

    async def purge(self, queue: str) -> int:
        """Throw away what nobody was given; says how many."""
        ...

    def ack(self, tag: int) -> None:
        """Done with it. Does nothing on a closed channel: the broker delivers it again."""
        ...

    async def publish(self, exchange: str, routing_key: str, body: bytes, properties: Properties) -> None:
        """Persistent; returns when the broker has it. Raises NotPublished, and Unroutable where it is mandatory."""
        ...

    async def publish_all(self, messages: Sequence[Publication]) -> frozenset[int]:
        """Several at once, in this order; returns when the broker has all of them. Gives the places of those that are mandatory,
        and that no queue takes. Raises NotPublished where one or more may not be there."""
        ...

    def close(self) -> None:
        """Give it up; what was not acknowledged is delivered again."""
        ...


class Link(Protocol):
    """One connection."""

    @property
    def closed(self) -> asyncio.Future[str]:
        """Done when it is closed, with the reason. Not to be cancelled."""
        ...

    async def channel(self, *, confirming: bool = False) -> Channel:
        """A new channel; one that publishes is confirming. Raises LinkLost."""
        ...

    async def close(self) -> None:
        """Say goodbye, and hang up whether or not it is answered."""
        ...


class Broker(Protocol):
    """Where links come from."""

    async def connect(self, purpose: str) -> Link:
        """A new connection, which the broker's operators see under this name. Raises LinkLost."""
        ...


async def publish_one(channel: Channel | Publishes, message: Publication) -> None:
    """By `publish_all`. Raises NotPublished, Unroutable."""
    if await channel.publish_all([message]):
        raise Unroutable(f"no queue for {message.routing_key!r} in exchange {message.exchange!r}")


class Publishes(Protocol):
    """Confirmed publishing, whatever becomes of connections."""

    async def publish(self, exchange: str, routing_key: str, body: bytes, properties: Properties) -> None:
        """Returns when the broker has the message. Raises NotPublished, or Unroutable."""
        ...

    async def publish_all(self, messages: Sequence[Publication]) -> frozenset[int]:
        """Several at once, in this order; gives the places of those that no queue takes. Raises NotPublished where one or more
        may not be there."""
        ...
