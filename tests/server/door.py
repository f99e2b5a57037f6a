"""The TCP door in memory: real protocols on a transport that fills up like a socket, and the client's end of the wire."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

from factory.tcp import TcpDoor
from proto import atelier_pb2 as pb
from server.door_parts import DoorLimits, DoorParts
from server.futures import Tasks
from server.vigil import Vigil
from server.wire.connection import Connection, Received, Role
from server.wire.framing import encode_frame
from tests.server.fakes import settle
from tests.server.house import ADA, TOKENS, House

LIMITS = DoorLimits(
    handshake_frame_bytes=4096,
    max_frame_bytes=1 << 20,
    chunk_bytes=1024,
    handshake_timeout=10.0,
    frame_timeout=30.0,
    idle_timeout=300.0,
    slow_reader_timeout=60.0,
    max_requests=5,
    told=pb.Limits(max_frame_bytes=1 << 20, max_width=512),
)
TOKEN = TOKENS[ADA].get_secret_value()
CAPACITY = 64 * 1024  # bytes a transport holds before it calls itself full: Twisted's own


class FakeTransport:
    """A socket to a peer that reads when the test lets it. It pauses its producer when full and resumes it when empty."""

    def __init__(self, host: str, capacity: int) -> None:
        self._peer = IPv4Address("TCP", host, 50_000)
        self._capacity = capacity
        self.protocol: Any = None
        self.producer: Any = None
        self.outgoing = b""
        self.incoming: list[bytes] = []  # what the peer sent while nobody read
        self.reading = True
        self.full = False
        self.connected = True
        self.closing = False
        self.aborted = False
        self.most_outgoing = 0
        self.options: dict[str, bool] = {}

    # Twisted's side

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.options["nodelay"] = enabled

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self.options["keepalive"] = enabled

    def getPeer(self) -> IPv4Address:
        return self._peer

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming, "push producers only"
        assert self.producer is None
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def write(self, data: bytes) -> None:
        assert isinstance(data, bytes)
        assert not self.closing, "written after loseConnection"
        if not self.connected:
            return
        self.outgoing += data
        self.most_outgoing = max(self.most_outgoing, len(self.outgoing))
        if self.producer is not None and len(self.outgoing) > self._capacity:
            self.full = True
            self.producer.pauseProducing()

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        assert not self.closing, "resumed after loseConnection"
        self.reading = True
        while self.incoming and self.reading and self.connected:
            self.protocol.dataReceived(self.incoming.pop(0))

    def loseConnection(self) -> None:
        self.closing = True
        self.reading = False

    def abortConnection(self) -> None:
        self.aborted = True
        self._lose(ConnectionAborted())

    # The peer's side

    def deliver(self, data: bytes) -> None:
        """The peer sends."""
        if not self.connected or self.closing:
            return
        if self.reading:
            self.protocol.dataReceived(data)
        else:
            self.incoming.append(data)

    def take(self) -> bytes:
        """The peer reads everything that lies there."""
        data, self.outgoing = self.outgoing, b""
        if self.producer is not None and self.full:
            self.full = False
            self.producer.resumeProducing()
        elif self.closing and not self.outgoing:
            self._lose(ConnectionDone())
        return data

    def hang_up(self) -> None:
        """The peer is gone."""
        self._lose(ConnectionDone())

    def _lose(self, reason: Exception) -> None:
        if self.connected:
            self.connected = False
            if self.producer is not None:
                self.producer.stopProducing()
            self.protocol.connectionLost(Failure(reason))  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class Heard:
    """A message as the client heard it."""

    request_id: int
    kind: str
    message: Any


class Peer:
    """A client's end of a connection."""

    def __init__(self, protocol: Protocol, transport: FakeTransport) -> None:
        self.transport = transport
        self.protocol: Any = protocol
        self.wire = Connection(Role.CLIENT, handshake_frame_bytes=4096, open_frame_bytes=1 << 20)
        self.wire.receive_data(b"")
        self._number = 0
        transport.protocol = protocol
        self.protocol.makeConnection(transport)  # type: ignore[no-untyped-call]

    def frame(self, request_id: int = 0, **message: Any) -> bytes:
        """An Envelope as bytes, whatever the protocol has to say of it."""
        return encode_frame(pb.Envelope(request_id=request_id, **message).SerializeToString())

    def say(self, request_id: int | None = None, **message: Any) -> int:
        """Send a message, and give its number."""
        if request_id is None:
            self._number += 1
            request_id = self._number
        self.transport.deliver(self.frame(request_id, **message))
        return request_id

    async def hear(self) -> list[Heard]:
        """Everything that the server has to say until it waits for something."""
        heard: list[Heard] = []
        while True:
            await settle()
            data = self.transport.take()
            heard += self._understood(data)
            if not data:
                return heard

    def glance(self) -> list[Heard]:
        """Read once what lies there, and no more."""
        return list(self._understood(self.transport.take()))

    async def ask(self, request_id: int | None = None, **message: Any) -> Heard:
        """Send a message, and give the one answer that has its number."""
        number = self.say(request_id, **message)
        (answer,) = [heard for heard in await self.hear() if heard.request_id == number]
        return answer

    async def greet(self, token: str = TOKEN, **hello: Any) -> Heard:
        """Say Hello."""
        return await self.ask(hello=pb.Hello(**{"protocol_version": 1, "token": token, **hello}))

    def _understood(self, data: bytes) -> Iterator[Heard]:
        self.wire.receive_data(data)
        while (event := self.wire.next_event()) is not None:
            assert isinstance(event, Received), f"the client could not take {event}"
            yield Heard(event.request_id, event.kind, event.message)


class Door:
    """A server behind the TCP door."""

    def __init__(
        self,
        house: House | None = None,
        *,
        max_connections: int = 100,
        max_per_address: int = 100,
        **limits: Any,
    ) -> None:
        self.house = house or House()
        self.clock = self.house.clock
        self.parts = DoorParts(
            handlers=self.house.handlers,
            board=self.house.board,
            artifacts=self.house.artifacts,
            identities=self.house.identities,
            vigil=Vigil(self.house.identities, self.clock),
            clock=self.clock,
            tasks=Tasks(),
            live=self.house.live,
            limits=replace(LIMITS, **limits),
        )
        self.tcp = TcpDoor(self.parts, max_connections=max_connections, max_per_address=max_per_address)

    def connect(self, host: str = "127.0.0.1", *, capacity: int = CAPACITY) -> Peer:
        """Someone connects."""
        transport = FakeTransport(host, capacity)
        return Peer(self.tcp.buildProtocol(transport.getPeer()), transport)

    async def client(self, token: str = TOKEN, *, capacity: int = CAPACITY) -> Peer:
        """Someone connected and was welcomed."""
        peer = self.connect(capacity=capacity)
        assert (await peer.greet(token)).kind == "welcome"
        return peer

    async def job(self, peer: Peer, **wishes: Any) -> tuple[int, str]:
        """A Submit that was accepted: its request's number and the job's id."""
        number = peer.say(submit=pb.Submit(**{"prompt": "a star", **wishes}))
        (accepted,) = await peer.hear()
        assert (accepted.kind, accepted.request_id) == ("accepted", number)
        return number, accepted.message.job_id


def kinds(heard: list[Heard]) -> list[str]:
    """What was heard, by kind."""
    return [one.kind for one in heard]
