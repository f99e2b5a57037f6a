"""HTTP to addresses that users give: webhooks, adapters.

A name is resolved once, and its addresses are looked at (server.addresses). The connection goes to one of those very
addresses, so that a name which means something else a moment later gains nothing; Host and SNI stay the name's. No redirect
is followed, no cookie kept, nothing decompressed, and no exchange outlives its seconds.

OSError
├── AddressRefused    the address may not be called, now or ever: nothing was sent (server.addresses)
├── NotSent           nobody was reached, or nobody that could be trusted: nothing was sent (server.addresses)
├── OutcomeUnknown    the request may have arrived, but no whole answer came
└── TimeoutError      the seconds are over; whether anything was sent, `Outgoing.request` says
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from OpenSSL import SSL
from service_identity import VerificationError
from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, BrowserLikePolicyForHTTPS, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IAgentEndpointFactory
from zope.interface import implementer

from server.addresses import LookUp, Network, NotSent, check_url, look_up, resolve_global
from server.clock import Clock, within
from server.futures import as_deferred, as_future
from server.interfaces import Pool

CONNECT_TIMEOUT = 5.0  # seconds for each address of a name; further ones wait for it
MAX_HEAD = 256 * 1024
"""Bytes until an answer's headers have ended: TLS's certificates, 16 kB that servers allow themselves, one read of the body."""


class OutcomeUnknown(OSError):
    """The request may have arrived; no answer came, or not the whole of it."""


class Answer:
    """What came back: `status`, `headers`, the body in pieces, and its `length` where that is told before."""

    def __init__(self, status: int, headers: Headers, body: _Body, length: int | None = None) -> None:
        self.status = status
        self.headers = headers
        self.length = length
        self._body = body

    def header(self, name: str) -> str:
        """The last value of a header; "" without it."""
        values = self.headers.getRawHeaders(name) or [""]
        return values[-1]

    async def read(self) -> bytes:
        """The next piece of the body, b"" at its end. Raises OutcomeUnknown, TimeoutError."""
        return await self._body.read()

    async def read_at_most(self, limit: int) -> bytes:
        """The body's first `limit` bytes; the rest is not waited for."""
        read = bytearray()
        while len(read) < limit and (piece := await self.read()):
            read += piece
        return bytes(read[:limit])


class Outgoing:
    """Makes requests. One connection each, which nothing else uses."""

    def __init__(
        self,
        reactor: Any,
        clock: Clock,
        pool: Pool,
        *,
        networks: Sequence[Network] = (),
        tls: Any = None,  # an IPolicyForHTTPS
        look_up: LookUp = look_up,
    ) -> None:
        self._reactor = reactor
        self._clock = clock
        self._pool = pool  # for the resolver, which may take its time
        self._networks = networks
        self._tls = tls or BrowserLikePolicyForHTTPS()  # type: ignore[no-untyped-call]
        self._look_up = look_up

    @asynccontextmanager
    async def request(
        self,
        method: str,
        url: str,
        *,
        seconds: float,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        schemes: Sequence[str] = ("http", "https"),
    ) -> AsyncIterator[Answer]:
        """An answer, whatever its status; its connection is gone when the block is left.

        `seconds` are for everything, from the resolver to the last byte. Raises AddressRefused, NotSent (a time-out before
        anybody was connected to, too), OutcomeUnknown, TimeoutError (which may have been after the request arrived).
        """
        host, port = check_url(url, schemes)
        ends_at = self._clock.seconds() + seconds
        way = _Way(self._reactor, port)
        try:
            sending = self._send(way, host, port, method, url, headers or {}, body)
            response = await within(self._clock, seconds, sending)
        except TimeoutError as error:
            way.cut()
            if not way.was_open:
                raise NotSent(f"{host}: not reached within {seconds:g} s") from error
            raise TimeoutError(f"{host}: no answer within {seconds:g} s") from error
        except BaseException:
            way.cut()
            raise
        reading = _Body(host)
        timer = self._clock.callLater(max(0.0, ends_at - self._clock.seconds()), self._expire, way, reading, seconds)
        try:
            response.deliverBody(reading)
            length = None if response.length is UNKNOWN_LENGTH else response.length
            yield Answer(response.code, response.headers, reading, length)
        finally:
            if timer.active():
                timer.cancel()
            way.cut()

    async def _send(
        self, way: _Way, host: str, port: int, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> Any:
        way.addresses = await resolve_global(
            host, port, pool=self._pool, networks=self._networks, look_up=self._look_up
        )
        client = HTTPClient(cast(Any, GuardedAgent(self._reactor, way, self._tls)))
        told = Headers({name: [value] for name, value in headers.items()})
        try:
            asked = client.request(method, url, headers=told, data=body, allow_redirects=False, unbuffered=True)
            response = await as_future(asked)
            way.head_ended()
            return response
        except Exception as error:
            if way.too_much:
                raise OutcomeUnknown(f"{host}: the headers of its answer have more than {MAX_HEAD} bytes") from error
            if isinstance(error, ConnectError) or not way.was_open:
                raise NotSent(f"{host}: cannot be connected to: {_words(error)}") from error
            if _distrusted(error):
                raise NotSent(f"{host}: its certificate is not trusted") from error
            raise OutcomeUnknown(f"{host}: the connection ended before an answer came") from error

    @staticmethod
    def _expire(way: _Way, reading: _Body, seconds: float) -> None:
        reading.expire(seconds)
        way.cut()


@implementer(IAgent)
class GuardedAgent:
    """An agent for one request, which goes to addresses that were chosen before. What comes back is not decompressed."""

    def __init__(self, reactor: Any, way: _Way, tls: Any) -> None:
        self._agent = cast(Any, Agent).usingEndpointFactory(reactor, _OneWay(way, tls))

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: Any = None,  # noqa: N803  # Twisted's name
    ) -> Any:
        """As `IAgent.request`."""
        headers = Headers() if headers is None else headers.copy()
        headers.setRawHeaders("accept-encoding", ["identity"])
        return self._agent.request(method, uri, headers, bodyProducer).addCallback(_as_sent)


def _as_sent(response: Any) -> Any:
    """A few bytes may unpack to gigabytes; whoever asked for them as they are need not be told that they are packed."""
    response.headers.removeHeader("content-encoding")
    return response


@implementer(IAgentEndpointFactory)
class _OneWay:
    def __init__(self, way: _Way, tls: Any) -> None:
        self._way = way
        self._tls = tls

    def endpointForURI(self, uri: URI) -> Any:  # noqa: N802  # Twisted's name
        """The one way there is, whatever stands in the URI; the name in it is only told to the other side, and checked."""
        if uri.scheme != b"https":
            return self._way
        creator = self._tls.creatorForNetloc(uri.host, uri.port)
        return wrapClientTLS(creator, cast(Any, self._way))


@implementer(IStreamClientEndpoint)
class _Way:
    """A connection to the first of `addresses` that takes it."""

    def __init__(self, reactor: Any, port: int) -> None:
        self._reactor = reactor
        self._port = port
        self.addresses: Sequence[str] = ()
        self._transport: Any = None
        self._room: int | None = MAX_HEAD  # None: it is the body that comes, as fast as it is read

    @property
    def was_open(self) -> bool:
        """Whether anybody was connected to."""
        return self._transport is not None

    @property
    def too_much(self) -> bool:
        """Whether it was cut for headers without an end."""
        return self._room is not None and self._room < 0

    def head_ended(self) -> None:
        """Whatever comes now is asked for."""
        self._room = None

    def cut(self) -> None:
        """End the connection, unless it has ended, without waiting for the other side to agree."""
        if self._transport is not None:
            self._transport.abortConnection()

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """As `IStreamClientEndpoint.connect`."""
        return as_deferred(self._connect(factory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        problem: ConnectError | None = None
        for address in self.addresses:
            kind = TCP6ClientEndpoint if ":" in address else TCP4ClientEndpoint
            endpoint = kind(self._reactor, address, self._port, CONNECT_TIMEOUT)
            try:
                protocol = await as_future(cast("Deferred[Any]", endpoint.connect(factory)))
            except ConnectError as error:
                problem = error
            else:
                self._transport = protocol.transport
                protocol.dataReceived = self._counted(protocol.dataReceived)
                return cast(IProtocol, protocol)
        assert problem is not None, "a way without addresses"
        raise problem

    def _counted(self, receive: Callable[[bytes], None]) -> Callable[[bytes], None]:
        """Twisted keeps any number of headers."""

        def received(data: bytes) -> None:
            if self._room is not None:
                self._room -= len(data)
                if self._room < 0:
                    self.cut()
                    return
            receive(data)

        return received


class _Body(Protocol):
    """A body on its way. What has come and was not read waits here, and the sender waits with it."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._pieces: deque[bytes] = deque()
        self._ended = False
        self._problem: OSError | None = None
        self._waiting: asyncio.Future[None] | None = None

    def dataReceived(self, data: bytes) -> None:  # noqa: N802  # Twisted's name
        """Keep it until it is read."""
        self._pieces.append(data)
        cast(Any, self.transport).pauseProducing()
        self._wake()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802  # Twisted's name
        """The body has ended, or the connection before it did."""
        self._ended = True
        if self._problem is None and not isinstance(reason.value, (ResponseDone, PotentialDataLoss)):
            self._problem = OutcomeUnknown(f"{self._host}: the connection ended in the middle of the answer")
        self._wake()

    def expire(self, seconds: float) -> None:
        """Whoever reads is told that it took too long."""
        if not self._ended:
            self._ended, self._problem = True, TimeoutError(f"{self._host}: no whole answer within {seconds:g} s")
            self._wake()

    async def read(self) -> bytes:
        """The next piece, b"" at the end."""
        while not self._pieces and not self._ended:
            self._waiting = asyncio.get_running_loop().create_future()
            cast(Any, self.transport).resumeProducing()
            await self._waiting
        if self._pieces:
            return self._pieces.popleft()
        if self._problem is not None:
            raise self._problem
        return b""

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


def _words(error: Exception) -> str:
    return str(error).rstrip(".") or type(error).__name__


def _distrusted(error: Exception) -> bool:
    """Whether our side ended the handshake, so that nothing of the request had been sent."""
    causes = [reason.value for reason in getattr(error, "reasons", ()) if isinstance(reason, Failure)]
    return any(
        isinstance(cause, VerificationError) or (isinstance(cause, SSL.Error) and "certificate" in str(cause))
        for cause in causes
    )
