"""Connections to RabbitMQ by pika's Twisted adapter, behind the types of `broker`. The only module that knows pika.

Some of pika's ways are kept from the rest:

- A Deferred of pika's is never cancelled, nor given away: whoever waits gets a future of its own, and may stop waiting.
- `loseConnection` waits until everything is written, so for ever if a peer is dead: the transport is cut off after a grace.
- A refused login is told as AMQPConnectionError without its cause; the broker's own words are kept.
- A header field that pika cannot decode (a time in milliseconds, an infinite number) ends the connection, and the broker then
  delivers the message again, for ever: such a message is taken without its properties.
- Which of several messages was returned as unroutable is guessed from the order of confirmations; here it is known by number.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import pika
import structlog
from pika import exceptions
from pika.adapters import twisted_connection
from pika.frame import decode_frame
from twisted.internet import ssl
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.protocol import Factory, connectionDone
from twisted.python.failure import Failure

from server import __version__
from server.clock import Clock, Timer
from server.doors.amqp.broker import Clash, Delivery, LinkLost, NotPublished, Properties, Unroutable

log = structlog.get_logger("atelier.amqp")
T = TypeVar("T")

CONNECT_WITHIN = 30.0  # seconds for name, TCP, TLS and login; a broker that is only slow has answered by then
GRACE = 5.0  # seconds that the last bytes get to leave before a connection is cut
PUBLICATION = "x-atelier-publication"  # the header that numbers a channel's messages, to know a returned one by

_CLASHES = frozenset(
    {403, 404, 405, 406}
)  # access refused, its home node is down, resource locked, precondition failed
_HEADER_FRAME = 2
_UNDESCRIBED = struct.Struct(">HHQH")  # a header frame's class, weight, size of the body, and flags of properties: none


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
        factory = Factory.forProtocol(lambda: _Protocol(self._clock, self._parameters(purpose)))
        factory.noisy = False
        try:
            protocol = cast(_Protocol, await shielded(endpoint.connect(factory)))
        except LinkLost:
            raise
        except Exception as error:
            raise LinkLost(_words(error)) from None
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

    def __init__(self, protocol: _Protocol) -> None:
        self._protocol = protocol
        self.closed = protocol.ended

    async def channel(self, *, confirming: bool = False) -> _Channel:
        """A new channel."""
        if self.closed.done():
            raise LinkLost(self.closed.result())
        channel = await _asked(lambda: self._protocol.channel())
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
        await _asked(self._channel.confirm_delivery)

    async def declare_queue(self, name: str, arguments: Mapping[str, Any] | None = None, **flags: bool) -> str:
        """Declare a queue."""
        given = {"durable": True, **flags}
        frame = await _asked(lambda: self._channel.queue_declare(name, arguments=dict(arguments or {}), **given))
        return str(frame.method.queue)

    async def declare_exchange(self, name: str, kind: str, *, passive: bool = False) -> None:
        """Declare an exchange."""
        await _asked(lambda: self._channel.exchange_declare(name, kind, durable=True, passive=passive))

    async def bind(self, queue: str, exchange: str, routing_key: str) -> None:
        """Bind a queue."""
        await _asked(lambda: self._channel.queue_bind(queue, exchange, routing_key))

    async def unbind(self, queue: str, exchange: str, routing_key: str) -> None:
        """Unbind a queue."""
        await _asked(lambda: self._channel.queue_unbind(queue, exchange, routing_key))

    async def consume(self, queue: str, *, prefetch: int, tag: str = "") -> _Deliveries:
        """Take messages."""
        await _asked(lambda: self._channel.basic_qos(prefetch_count=prefetch))
        messages, _ = await _asked(lambda: self._channel.basic_consume(queue, consumer_tag=tag or None))
        return _Deliveries(messages)

    async def cancel(self, tag: str) -> None:
        """Take no more."""
        await _asked(lambda: self._channel.basic_cancel(tag))

    async def get(self, queue: str) -> tuple[Delivery, int] | None:
        """One message."""
        got = await _asked(lambda: self._channel.basic_get(queue))
        return None if got is None else (_delivery(got), int(got.method.message_count))

    async def count(self, queue: str) -> int:
        """How many messages wait."""
        frame = await _asked(lambda: self._channel.queue_declare(queue, passive=True))
        return int(frame.method.message_count)

    async def purge(self, queue: str) -> int:
        """Empty a queue."""
        frame = await _asked(lambda: self._channel.queue_purge(queue))
        return int(frame.method.message_count)

    def ack(self, tag: int) -> None:
        """Acknowledge."""
        if self._channel.is_open:
            self._channel.basic_ack(tag)

    async def publish(self, exchange: str, routing_key: str, body: bytes, properties: Properties) -> None:
        """Publish, and wait for the broker's word."""
        self._published += 1
        number = self._published
        described, mandatory = _described(properties, number), properties.mandatory
        try:
            await _asked(
                lambda: self._channel.basic_publish(exchange, routing_key, body, described, mandatory=mandatory)
            )
        except _Confirmed as confirmed:
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
            self.closed.set_result(_words(error))


class _Deliveries:
    """A `Deliveries`."""

    def __init__(self, messages: Any) -> None:
        self._messages = messages

    async def next(self) -> Delivery:
        """The next message."""
        return _delivery(await _asked(self._messages.get))


class _Protocol(twisted_connection.TwistedProtocolConnection):  # type: ignore[misc]  # pika is not typed
    """pika's, with an end to its patience."""

    def __init__(self, clock: Clock, parameters: pika.ConnectionParameters) -> None:
        super().__init__(parameters, custom_reactor=clock)
        self._clock = clock
        self._cut_off: Timer | None = None
        self.problem = ""  # why it has ended, in the broker's own words where it said any
        self.opened = shielded(self.ready)
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        connection: Any = self._impl
        connection._read_frame = lambda: _frame(connection._frame_buffer)

    def makeConnection(self, transport: Any) -> None:  # noqa: N802  # Twisted's name
        """Begin."""
        for switch in ("setTcpKeepAlive", "setTcpNoDelay"):
            if hasattr(transport, switch):
                getattr(transport, switch)(True)
        super().makeConnection(cast(Any, _Impatient(transport, self)))

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802  # Twisted's name
        """End."""
        if self._cut_off is not None and self._cut_off.active():
            self._cut_off.cancel()
        self.problem = _words(self._impl._error or reason.value)  # pika forgets it for the transport's "closed cleanly"
        super().connectionLost(reason)
        self.ended.set_result(self.problem)

    def abort(self) -> None:
        """Hang up at once; of a TLS connection that is gone, Twisted would not."""
        if self.transport is not None and not self.ended.done():
            cast(Any, self.transport).abortConnection()

    def cut_off_later(self) -> None:
        """Hang up after a grace, whatever is still to be written."""
        if self._cut_off is None and not self.ended.done():
            self._cut_off = self._clock.callLater(GRACE, self.abort)


class _Impatient:
    """A transport whose `loseConnection` comes to an end."""

    def __init__(self, transport: Any, protocol: _Protocol) -> None:
        self._transport = transport
        self._protocol = protocol

    def loseConnection(self) -> None:  # noqa: N802  # Twisted's name
        """Write what is to be written, for a while."""
        self._protocol.cut_off_later()
        self._transport.loseConnection()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class _Confirmed(Exception):
    """The broker has answered a publish; whether the message had a queue is known elsewhere."""

    def __init__(self, refused: bool) -> None:
        super().__init__(refused)
        self.refused = refused


def shielded(deferred: Deferred[T]) -> asyncio.Future[T]:
    """A future of its own for what a Deferred comes to: to stop waiting for it does nothing to the Deferred."""
    future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def came(result: T) -> None:
        if not future.done():
            future.set_result(result)

    def failed(failure: Failure) -> None:
        if not future.done():
            future.set_exception(_error(failure.value))

    deferred.addCallbacks(came, failed)
    return future


async def _asked(ask: Any) -> Any:
    """What pika's Deferred comes to. What pika raises, at once or later, is a LinkLost."""
    try:
        deferred = ask()
    except exceptions.AMQPError as error:
        raise _error(error) from None
    return await shielded(deferred)


def _error(error: BaseException | None) -> Exception:
    if isinstance(error, LinkLost):
        return error
    if isinstance(error, exceptions.UnroutableError | exceptions.NackError):
        return _Confirmed(refused=isinstance(error, exceptions.NackError))
    clash = isinstance(error, exceptions.ChannelClosedByBroker) and error.reply_code in _CLASHES
    return (Clash if clash else LinkLost)(_words(error))


def _words(error: BaseException | None) -> str:
    """Why, for a log: the broker's own words where there are any. Nothing of ours is in them."""
    if isinstance(error, exceptions.ConnectionClosed | exceptions.ChannelClosed):
        return f"{error.reply_code} {error.reply_text}"
    if isinstance(error, exceptions.ConsumerCancelled):
        return "the broker ended the consumer: its queue is gone"
    return str(error or "the connection was closed") or type(error).__name__


def _frame(buffer: bytes) -> tuple[int, Any]:
    """The first frame in a buffer, as pika reads it; a header frame that it cannot read, without its properties."""
    try:
        return cast(tuple[int, Any], decode_frame(buffer))
    except Exception:
        if not buffer or buffer[0] != _HEADER_FRAME:
            raise
        kind, channel, size = struct.unpack_from(">BHL", buffer)
        head = _UNDESCRIBED.pack(*_UNDESCRIBED.unpack_from(buffer, 7)[:3], 0)
        bare = struct.pack(">BHL", kind, channel, len(head)) + head + b"\xce"
        log.warning("amqp.header_unreadable", bytes=size)
        return 7 + size + 1, decode_frame(bare)[1]


def _delivery(message: Any) -> Delivery:
    method = message.method
    return Delivery(
        tag=method.delivery_tag,
        body=message.body,
        properties=_properties(message.properties),
        exchange=_text(method.exchange),
        routing_key=_text(method.routing_key),
        redelivered=bool(method.redelivered),
    )


_TEXTS = ("content_type", "content_encoding", "correlation_id", "reply_to", "message_id", "type", "app_id")


def _properties(given: pika.BasicProperties) -> Properties:
    texts: dict[str, Any] = {name: _text(getattr(given, name)) for name in _TEXTS}
    return Properties(
        headers={_text(name): value for name, value in (given.headers or {}).items()},
        priority=given.priority,
        timestamp=given.timestamp,
        **texts,
    )


def _described(properties: Properties, number: int) -> pika.BasicProperties:
    return pika.BasicProperties(
        delivery_mode=2,
        headers={**properties.headers, PUBLICATION: number},
        priority=properties.priority,
        timestamp=properties.timestamp,
        **{name: getattr(properties, name) or None for name in _TEXTS},
    )


def _text(value: Any) -> str:
    """pika leaves as bytes what is no UTF-8."""
    return value.decode("latin-1") if isinstance(value, bytes) else value or ""


def _endpoint(reactor: Any, address: BrokerAddress, host: str, port: int, within: float) -> Any:
    endpoint: Any = HostnameEndpoint(reactor, host, port, timeout=within)
    if not address.tls:
        return endpoint
    roots = None
    if address.ca_file is not None:
        roots = ssl.trustRootFromCertificates([ssl.Certificate.loadPEM(address.ca_file.read_bytes())])  # type: ignore[no-untyped-call]
    return wrapClientTLS(ssl.optionsForClientTLS(host, trustRoot=roots), endpoint)
