"""Connections to RabbitMQ by pika's Twisted adapter, behind the types of `broker`. Only this module and the pika_… ones
know pika.

Some of pika's ways are kept from the rest (others are kept by `pika_protocol`):

- A Deferred of pika's is never cancelled, nor given away: whoever waits gets a future of its own, and may stop waiting.
- Which of several messages was returned as unroutable is guessed from the order of confirmations; here it is known by number.
"""

from __future__ import annotations

import asyncio
import logging
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
from server.doors.amqp.broker import Delivery, LinkLost, NotPublished, Properties, Unroutable
from server.doors.amqp.pika_errors import Confirmed, asked, shielded, words
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
        made = _Channel(channel)
        if confirming:
            await made.confirm()
        return made

    async def close(self) -> None:
        """Say goodbye, and hang up."""
        with suppress(exceptions.AMQPError):  # it is closing
            self._protocol.close()
        self._protocol.cut_off_later()
        await asyncio.wait([self.closed])


class _Channel:
    """A `Channel`."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._published = 0
        self._returned: set[int] = set()
        self.closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        channel.on_closed.addBoth(self._has_closed)

    async def confirm(self) -> None:
        """From here on `publish` knows what became of a message."""
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
        messages, _ = await asked(lambda: self._channel.basic_consume(queue, consumer_tag=tag or None))
        return _Deliveries(messages)

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
            self._channel.basic_ack(tag)

    async def publish(self, exchange: str, routing_key: str, body: bytes, properties: Properties) -> None:
        """Publish, and wait for the broker's word."""
        self._published += 1
        number = self._published
        about, mandatory = described(properties, number), properties.mandatory
        try:
            await asked(lambda: self._channel.basic_publish(exchange, routing_key, body, about, mandatory=mandatory))
        except Confirmed as confirmed:
            if confirmed.refused:
                raise NotPublished("the broker refused it") from None
        finally:
            was_returned = number in self._returned
            self._returned.discard(number)
        if was_returned:
            raise Unroutable(f"no queue for {routing_key!r} in exchange {exchange!r}")

    def close(self) -> None:
        """Close it."""
        if self._channel.is_open:
            self._channel.close()

    def _was_returned(self, message: Any) -> None:
        self._returned.add(message.properties.headers[PUBLICATION])

    def _has_closed(self, reason: Any) -> None:
        error = reason.value if isinstance(reason, Failure) else reason
        if not self.closed.done():
            self.closed.set_result(words(error))


class _Deliveries:
    """A `Deliveries`."""

    def __init__(self, messages: Any) -> None:
        self._messages = messages

    async def next(self) -> Delivery:
        """The next message."""
        return delivery(await asked(self._messages.get))


def _endpoint(reactor: Any, address: BrokerAddress, host: str, port: int, within: float) -> Any:
    endpoint: Any = HostnameEndpoint(reactor, host, port, timeout=within)
    if not address.tls:
        return endpoint
    roots = None
    if address.ca_file is not None:
        roots = ssl.trustRootFromCertificates([ssl.Certificate.loadPEM(address.ca_file.read_bytes())])  # type: ignore[no-untyped-call]
    return wrapClientTLS(ssl.optionsForClientTLS(host, trustRoot=roots), endpoint)
