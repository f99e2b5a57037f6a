"""A server for one test: real TCP on a free port, the server's end of the wire, and the test itself as its script.

async with FakeServer(reactor) as server:
    ...
    connection = await server.greeted()          # the next client, let in
    asked = await connection.hears("submit")     # anything else fails the test
    connection.says(asked.request_id, accepted=pb.Accepted(job_id="job-1"))
"""

from __future__ import annotations

import asyncio
from hashlib import sha256
from types import TracebackType
from typing import Any, Self

from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from proto import atelier_pb2 as pb
from server.futures import as_future
from server.wire.connection import PROTOCOL_VERSION, Connection, Received, Rejected, Role

FRAME_BYTES = 1 << 20
PATIENCE = 20.0  # seconds until a test that waits for a message in vain fails


class FakeConnection(Protocol):
    """One client's connection. Keeps what it hears until the test asks for it."""

    def __init__(self) -> None:
        self._wire = Connection(Role.SERVER, handshake_frame_bytes=4096, open_frame_bytes=FRAME_BYTES)
        self._heard: asyncio.Queue[Received | Rejected] = asyncio.Queue()
        self._lost = asyncio.get_running_loop().create_future()
        self.made = asyncio.get_running_loop().create_future()

    def connectionMade(self) -> None:
        self.made.set_result(None)

    def dataReceived(self, data: bytes) -> None:
        self._wire.receive_data(data)
        while (event := self._wire.next_event()) is not None:
            self._heard.put_nowait(event)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lost.set_result(None)

    async def hears(self, kind: str) -> Any:
        """The next message, which must be of that kind."""
        event = await asyncio.wait_for(self._heard.get(), PATIENCE)
        assert isinstance(event, Received), event
        assert event.kind == kind, f"{event.kind} came, {kind} should have"
        return event

    def heard_nothing(self) -> bool:
        """Whether every message was asked for."""
        return self._heard.empty()

    def says(self, request_id: int, **message: Any) -> None:
        """Send a message: `says(3, pong=pb.Pong())`."""
        self.writes(self._wire.send(pb.Envelope(request_id=request_id, **message)))

    def writes(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._transport.write(data)

    async def welcomes(self, idle_timeout: float = 300.0, token: str = "") -> None:
        """Hello, which must be as the protocol says, and Welcome."""
        hello = await self.hears("hello")
        assert hello.message.protocol_version == PROTOCOL_VERSION
        assert hello.message.token == token
        limits = pb.Limits(max_frame_bytes=FRAME_BYTES, idle_timeout_seconds=idle_timeout)
        welcome = pb.Welcome(protocol_version=PROTOCOL_VERSION, owner="ada", limits=limits)
        self.says(hello.request_id, welcome=welcome)

    async def accepts(self, job_id: str, seed: int = 7) -> Received:
        """Submit and Accepted; gives the Submit."""
        asked: Received = await self.hears("submit")
        self.says(asked.request_id, accepted=pb.Accepted(job_id=job_id, seed=seed))
        return asked

    def progresses(self, request_id: int, job_id: str, number: int, step: int, total: int = 20) -> None:
        """One Progress."""
        progress = pb.Progress(
            job_id=job_id,
            event_number=number,
            phase=pb.DENOISING,
            step=step,
            total_steps=total,
            percent=100 * step / total,
        )
        self.says(request_id, progress=progress)

    def sends_picture(self, request_id: int, job_id: str, picture: bytes, piece: int = 1000) -> None:
        """The chunks of one picture."""
        for offset in range(0, len(picture), piece):
            data = picture[offset : offset + piece]
            self.says(request_id, chunk=pb.Chunk(job_id=job_id, offset=offset, size=len(picture), data=data))

    def finishes(self, request_id: int, job_id: str, number: int, picture: bytes) -> None:
        """The Result of one picture."""
        self.says(request_id, result=result(job_id, number, picture))

    def drop(self) -> None:
        """Cut the connection."""
        self._transport.abortConnection()

    async def lost(self) -> None:
        """Until the client has gone."""
        await asyncio.wait_for(asyncio.shield(self._lost), PATIENCE)

    @property
    def _transport(self) -> Any:
        return self.transport


def result(job_id: str, number: int, *pictures: bytes) -> pb.Result:
    """The Result that announces these pictures."""
    artifacts = [
        pb.Artifact(
            image_index=index,
            key=f"jobs/{job_id}/{index}.png",
            size=len(picture),
            sha256=sha256(picture).hexdigest(),
            content_type="image/png",
            width=128,
            height=128,
            seed=7 + index,
        )
        for index, picture in enumerate(pictures)
    ]
    return pb.Result(job_id=job_id, event_number=number, artifacts=artifacts, processing_seconds=0.5)


class FakeServer(Factory):
    """Listens while it is a context; at its end every connection is cut."""

    noisy = False

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._connections: list[FakeConnection] = []
        self._new: asyncio.Queue[FakeConnection] = asyncio.Queue()
        self._port: Any = None
        self.number = 0

    @property
    def address(self) -> str:
        """For a client."""
        return f"tcp:host=127.0.0.1:port={self.number}"

    def buildProtocol(self, addr: Any) -> Protocol:
        connection = FakeConnection()
        self._connections.append(connection)
        self._new.put_nowait(connection)
        return connection

    async def connection(self) -> FakeConnection:
        """The next client that connects."""
        connection = await asyncio.wait_for(self._new.get(), PATIENCE)
        await connection.made
        return connection

    async def greeted(self, idle_timeout: float = 300.0, token: str = "") -> FakeConnection:
        """The next client that connects, let in."""
        connection = await self.connection()
        await connection.welcomes(idle_timeout, token)
        return connection

    async def listen(self) -> None:
        """Take connections, on the same port as before if there was one."""
        endpoint: Any = TCP4ServerEndpoint(self._reactor, self.number, interface="127.0.0.1")  # type: ignore[no-untyped-call]
        self._port = await as_future(endpoint.listen(self))
        self.number = self._port.getHost().port

    async def stop_listening(self) -> None:
        """Refuse connections from now on."""
        if self._port is not None:
            port, self._port = self._port, None
            await as_future(port.stopListening())

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop_listening()
        for connection in self._connections:
            if connection.made.done():
                connection.drop()
                await connection.lost()
