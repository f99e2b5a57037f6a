"""Connections to RabbitMQ by pika's Twisted adapter, behind the types of `broker`. Only this module and the pika_… ones
know pika.

Some of pika's ways are kept from the rest (others are kept by `pika_protocol`):

- A Deferred of pika's is never cancelled, nor given away: whoever waits gets a future of its own, and may stop waiting.
- Which of several messages was returned as unroutable is guessed from the order of confirmations; here it is known by number.
- A message costs it dozens of calls; those of every job go past it, as bytes (`pika_frames`).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pika
from pika import exceptions
from twisted.internet import ssl
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from server import __version__
from server.clock import Clock
from server.doors.amqp.broker import Delivery, LinkLost, Properties, Publication, Refused, publish_one
from server.doors.amqp.pika_errors import asked, lost, shielded, words
from server.doors.amqp.pika_frames import Confirmation, Given, acknowledgement, publication
from server.doors.amqp.pika_messages import PUBLICATION, delivery, described
from server.doors.amqp.pika_protocol import Protocol

CONNECT_WITHIN = 30.0  # seconds for name, TCP, TLS and login; a broker that is only slow has answered by then


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerAddress:
    """Where the broker is, and who we are to it. Seconds.

    `hosts`: name and port of each node of a cluster, any of which will do.
    `heartbeat`: a silent peer is given up after about twice this and ten more. `blocked_timeout`: a broker that takes no
    messages (an alarm) is left and tried anew after so long.
    """

    hosts: Sequence[tuple[str, int]]
    user: str
    password: Any  # a SecretStr
    vhost: str = "/"
    tls: bool = False
    ca_file: Path | None = None  # instead of the system's authorities
    heartbeat: int = 10
    blocked_timeout: float = 30.0


class RabbitMQ:
    """A `Broker`. Raises OSError or ValueError, when made, for a CA file that is none."""

    def __init__(self, reactor: Any, address: BrokerAddress, clock: Clock) -> None:
        logging.getLogger("pika").setLevel(logging.CRITICAL)  # it logs what it raises, and bodies; we log what we catch
        self._clock = clock
        self._address = address
        self._within = CONNECT_WITHIN / len(address.hosts)  # so that all have been tried by then
        self._endpoints = [_endpoint(reactor, address, *host, self._within) for host in address.hosts]
        self._turn = -1  # of the hosts: one that has just been lost is tried last

    async def connect(self, purpose: str) -> _Link:
        """A new connection, to the first host that takes it; each time another one is asked first. Raises LinkLost."""
        hosts = self._address.hosts
        self._turn += 1
        problems: dict[int, str] = {}
        for nth in range(len(hosts)):
            place = (self._turn + nth) % len(hosts)
            try:
                return await self._connect(self._endpoints[place], purpose)
            except LinkLost as lost:
                problems[place] = str(lost)
        told = [f"{hosts[place][0]}:{hosts[place][1]}: {problems[place]}" for place in sorted(problems)]
        raise LinkLost("; ".join(told) if len(told) > 1 else problems[0])

    async def _connect(self, endpoint: Any, purpose: str) -> _Link:
        factory = Factory.forProtocol(lambda: Protocol(self._clock, self._parameters(purpose)))
        factory.noisy = False
        try:
            protocol = cast(Protocol, await shielded(endpoint.connect(factory)))
        except LinkLost:
            raise
        except Exception as error:
            raise LinkLost(words(error)) from None
        timer = self._clock.callLater(self._within, protocol.abort)
        try:
            await protocol.opened
        except LinkLost as lost:
            protocol.abort()
            raise LinkLost(protocol.problem or str(lost)) from None
        finally:
            if timer.active():
                timer.cancel()
        return _Link(protocol)

    def _parameters(self, purpose: str) -> pika.ConnectionParameters:
        address = self._address
        return pika.ConnectionParameters(
            virtual_host=address.vhost,
            credentials=pika.PlainCredentials(address.user, address.password.get_secret_value()),
            heartbeat=address.heartbeat,
            blocked_connection_timeout=address.blocked_timeout,
            client_properties={"connection_name": f"atelier {purpose}", "product": "Atelier", "version": __version__},
        )


class _Link:
    """A `Link`."""

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol
        self.closed = protocol.ended

    async def channel(self, *, confirming: bool = False) -> _Channel:
        """A new channel."""
        if self.closed.done():
            raise LinkLost(self.closed.result())
        channel = await asked(lambda: self._protocol.channel())
        made = _Channel(channel, self._protocol)
        if confirming:
            await made.confirm()
        return made

    async def close(self) -> None:
        """Say goodbye, and hang up."""
        with suppress(exceptions.AMQPError):  # it is closing
            self._protocol.close()
        self._protocol.cut_off_later()
        await asyncio.wait([self.closed])


class _Awaited:
    """Messages that were published together, and the broker's word about them."""

    __slots__ = ("done", "first", "left", "refused", "unroutable")

    def __init__(self, first: int, count: int) -> None:
        self.first = first
        self.left = count
        self.refused = False
        self.unroutable: set[int] = set()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def answered(self, number: int, *, refused: bool, returned: bool) -> None:
        """One of them."""
        self.left -= 1
        self.refused |= refused
        if returned:
            self.unroutable.add(number - self.first)
        if not self.left and not self.done.done():
            self.done.set_result(None)


class _Channel:
    """A `Channel`, and a `Lane` of its connection."""

    def __init__(self, channel: Any, protocol: Protocol) -> None:
        self._channel = channel
        self._protocol = protocol
        self._number = int(channel.channel_number)
        self._published = 0
        self._awaited: dict[int, _Awaited] = {}  # by the numbers of their messages
        self._returned: set[int] = set()
        self._plain: tuple[Properties, bytes] | None = None  # those that went out last, where messages have no number
        self._takers: dict[str, _Deliveries] = {}  # by their consumers' names
        self.closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        channel.on_closed.addBoth(self._has_closed)
        protocol.lanes[self._number] = self

    def hear(self, what: Given | Confirmation) -> bool:
        """A message, or the broker's word about some of ours."""
        if isinstance(what, Confirmation):
            if not self._published:
                return False
            self._confirmed(what)
            return True
        taker = self._takers.get(what.consumer)
        if taker is None or what.consumer in self._channel._channel._cancelled:  # which pika gives back
            return False
        taker.put(what.delivery)
        return True

    async def confirm(self) -> None:
        """From here on it is known what became of a message."""
        self._channel.add_on_return_callback(self._was_returned)
        await asked(self._channel.confirm_delivery)

    async def declare_queue(self, name: str, arguments: Mapping[str, Any] | None = None, **flags: bool) -> str:
        """Declare a queue."""
        given = {"durable": True, **flags}
        frame = await asked(lambda: self._channel.queue_declare(name, arguments=dict(arguments or {}), **given))
        return str(frame.method.queue)

    async def declare_exchange(self, name: str, kind: str, *, passive: bool = False) -> None:
        """Declare an exchange."""
        await asked(lambda: self._channel.exchange_declare(name, kind, durable=True, passive=passive))

    async def bind(self, queue: str, exchange: str, routing_key: str) -> None:
        """Bind a queue."""
        await asked(lambda: self._channel.queue_bind(queue, exchange, routing_key))

    async def unbind(self, queue: str, exchange: str, routing_key: str) -> None:
        """Unbind a queue."""
        await asked(lambda: self._channel.queue_unbind(queue, exchange, routing_key))

    async def consume(self, queue: str, *, prefetch: int, tag: str = "") -> _Deliveries:
        """Take messages."""
        await asked(lambda: self._channel.basic_qos(prefetch_count=prefetch))
        messages, name = await asked(lambda: self._channel.basic_consume(queue, consumer_tag=tag or None))
        taker = self._takers[name] = _Deliveries(messages)
        return taker

    async def cancel(self, tag: str) -> None:
        """Take no more."""
        await asked(lambda: self._channel.basic_cancel(tag))

    async def get(self, queue: str) -> tuple[Delivery, int] | None:
        """One message."""
        got = await asked(lambda: self._channel.basic_get(queue))
        return None if got is None else (delivery(got), int(got.method.message_count))

    async def count(self, queue: str) -> int:
        """How many messages wait."""
        frame = await asked(lambda: self._channel.queue_declare(queue, passive=True))
        return int(frame.method.message_count)

    async def purge(self, queue: str) -> int:
        """Empty a queue."""
        frame = await asked(lambda: self._channel.queue_purge(queue))
        return int(frame.method.message_count)

    def ack(self, tag: int) -> None:
        """Acknowledge."""
        if self._channel.is_open:
            self._protocol.write(acknowledgement(self._number, tag))

    async def publish(self, exchange: str, routing_key: str, body: bytes, properties: Properties) -> None:
        """Publish, and wait for the broker's word."""
        await publish_one(self, Publication(exchange, routing_key, body, properties))

    async def publish_all(self, messages: Sequence[Publication]) -> frozenset[int]:
        """The same of several."""
        if not self._channel.is_open:
            raise LinkLost(self.closed.result() if self.closed.done() else "the channel is closing")
        first = self._published + 1
        try:
            data = b"".join([self._framed(message, number) for number, message in enumerate(messages, first)])
        except exceptions.AMQPError as error:
            raise LinkLost(words(error)) from None
        awaited = _Awaited(first, len(messages))
        self._published += len(messages)
        self._awaited.update(dict.fromkeys(range(first, first + len(messages)), awaited))
        self._protocol.write(data)
        await awaited.done
        if awaited.refused:
            raise Refused
        return frozenset(awaited.unroutable)

    def _framed(self, message: Publication, number: int) -> bytes:
        mandatory = message.properties.mandatory
        if mandatory or self._plain is None or self._plain[0] is not message.properties:
            about = b"".join(described(message.properties, number).encode())
            if not mandatory:
                self._plain = (message.properties, about)
        else:
            about = self._plain[1]
        return publication(
            self._number,
            message.exchange,
            message.routing_key,
            message.body,
            about,
            mandatory=mandatory,
            most=self._protocol.most_in_frame,
        )

    def _confirmed(self, word: Confirmation) -> None:
        numbers = [number for number in self._awaited if number <= word.tag] if word.several else [word.tag]
        for number in numbers:
            awaited = self._awaited.pop(number, None)
            if awaited is not None:
                awaited.answered(number, refused=word.refused, returned=number in self._returned)
            self._returned.discard(number)

    def close(self) -> None:
        """Close it."""
        if self._channel.is_open:
            self._channel.close()

    def _was_returned(self, message: Any) -> None:
        self._returned.add(message.properties.headers[PUBLICATION])

    def _has_closed(self, reason: Any) -> None:
        error = reason.value if isinstance(reason, Failure) else reason
        if self._protocol.lanes.get(self._number) is self:
            del self._protocol.lanes[self._number]
        if not self.closed.done():
            self.closed.set_result(words(error))
        for awaited in {id(each): each for each in self._awaited.values()}.values():
            if not awaited.done.done():
                awaited.done.set_exception(lost(error))
        self._awaited.clear()


class _Deliveries:
    """A `Deliveries`. `messages` is pika's queue of them, which is told here to give on what it gets."""

    def __init__(self, messages: Any) -> None:
        self._came: deque[Delivery] = deque(map(delivery, messages.pending))
        self._waiting: asyncio.Future[Delivery] | None = None
        self._end: LinkLost | None = None
        messages.put = lambda message: self.put(delivery(message))
        messages.close = self._close
        if messages.closed:
            self._close(messages.closed)

    async def next(self) -> Delivery:
        """The next message."""
        if self._came:
            return self._came.popleft()
        if self._end is not None:
            raise type(self._end)(str(self._end))
        self._waiting = asyncio.get_running_loop().create_future()
        return await self._waiting

    def put(self, message: Delivery) -> None:
        """One more."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(message)
        elif self._end is None:
            self._came.append(message)

    def _close(self, reason: BaseException | None) -> None:
        """No more, nor any that nobody has taken yet."""
        self._end = lost(reason)
        self._came.clear()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(self._end)


def _endpoint(reactor: Any, address: BrokerAddress, host: str, port: int, within: float) -> Any:
    endpoint: Any = HostnameEndpoint(reactor, host, port, timeout=within)
    if not address.tls:
        return endpoint
    roots = None
    if address.ca_file is not None:
        roots = ssl.trustRootFromCertificates([ssl.Certificate.loadPEM(address.ca_file.read_bytes())])  # type: ignore[no-untyped-call]
    return wrapClientTLS(ssl.optionsForClientTLS(host, trustRoot=roots), endpoint)
