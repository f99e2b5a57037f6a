"""A server of live sessions for one test: real TCP, the server's end of the wire, a tick that gives each frame its number back.

async with TickingServer(reactor) as server:
    ...                     # server.address; server.mute, .late, .closes say how it is worse than a good one
    server.cut()            # all connections are gone; the next ones are taken
"""

from __future__ import annotations

import itertools
import time
from types import TracebackType
from typing import Any, Self

from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from proto import atelier_pb2 as pb
from server.futures import as_future
from server.wire.connection import Connection, Received, Role, State

HZ = 100.0


class _Session:
    def __init__(self, request_id: int, number: int) -> None:
        self.request_id = request_id
        self.number = number  # in the order of opening, over the server's life
        self.newest: pb.LiveFrame | None = None
        self.dropped = 0
        self.sequence = 0


class _Connection(Protocol):
    def __init__(self, server: TickingServer) -> None:
        self._server = server
        self._wire = Connection(Role.SERVER, handshake_frame_bytes=4096, open_frame_bytes=1 << 20)
        self._sessions: dict[str, _Session] = {}

    def connectionMade(self) -> None:
        self._server.connections.add(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._server.connections.discard(self)

    def dataReceived(self, data: bytes) -> None:
        self._wire.receive_data(data)
        while (event := self._wire.next_event()) is not None:
            assert isinstance(event, Received), event
            self._take(event.request_id, event.kind, event.message)

    def tick(self, tick_us: int) -> None:
        for live_id, session in self._sessions.items():
            frame, session.newest = session.newest, None
            if frame is None or session.number in self._server.mute:
                continue
            session.sequence += 1
            result = pb.LiveResult(
                live_id=live_id, number=frame.number, captured_us=frame.captured_us, tick_us=tick_us,
                sequence=session.sequence, dropped=session.dropped,
            )  # fmt: skip
            self.says(session.request_id, live_result=result)

    def says(self, request_id: int, **message: Any) -> None:
        if self._wire.state is State.OPEN or "welcome" in message:
            transport: Any = self.transport
            transport.write(self._wire.send(pb.Envelope(request_id=request_id, **message)))

    def _take(self, request_id: int, kind: str, message: Any) -> None:
        server = self._server
        if kind == "hello":
            limits = pb.Limits(max_frame_bytes=1 << 20, idle_timeout_seconds=300.0)
            self.says(request_id, welcome=pb.Welcome(protocol_version=1, limits=limits))
        elif kind == "get_server_status":
            self.says(request_id, server_status=pb.ServerStatus(state=pb.READY, server_version="ticks"))
        elif kind == "ping":
            self.says(request_id, pong=pb.Pong(server_time_us=int((time.time() + server.ahead) * 1e6)))
        elif kind == "list_models":
            models = [
                pb.Model(name="painter", model_type="text-to-image"),
                pb.Model(name="face", model_type=server.model_type),
            ]
            self.says(request_id, models=pb.Models(models=models))
        elif kind == "open_live":
            self._open(request_id, message)
        elif kind == "live_frame":
            self._frame(request_id, message)
        elif kind == "close_live":
            session = self._sessions.pop(message.live_id)
            for number in (request_id, session.request_id):
                self.says(number, live_closed=pb.LiveClosed(live_id=message.live_id))

    def _open(self, request_id: int, message: pb.OpenLive) -> None:
        server = self._server
        session = _Session(request_id, next(server.numbers))
        server.asked.append(message)
        if session.number in server.refuses:
            error = pb.Error(code=pb.RESOURCE_EXHAUSTED, message="no more sessions")
            self.says(request_id, error=error)
            return
        live_id = f"live-{session.number}"
        self._sessions[live_id] = session
        opened = pb.LiveOpened(
            live_id=live_id, model=message.model, inputs=["smile", "jaw"], outputs=["smile"], tick_hz=HZ,
            next_tick_us=int((time.time() + server.ahead) * 1e6),
        )  # fmt: skip
        self.says(request_id, live_opened=opened)
        if session.number in server.closes:
            del self._sessions[live_id]
            closed = pb.LiveClosed(live_id=live_id, code=pb.LIVE_FAILED, message="the model fails")
            self.says(request_id, live_closed=closed)

    def _frame(self, request_id: int, frame: pb.LiveFrame) -> None:
        session = self._sessions.get(frame.live_id)
        if session is None:
            self.says(request_id, error=pb.Error(code=pb.LIVE_NOT_FOUND, message="no such session"))
            return
        assert len(frame.values) == 2
        self._server.frames.append(frame)
        session.dropped += session.newest is not None
        session.newest = frame


class TickingServer(Factory):
    """`mute` sessions have no results, `closes` ends some, `refuses` some; its clock is `ahead` of ours by so many seconds."""

    noisy = False

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._port: Any = None
        self.address = ""
        self.connections: set[_Connection] = set()
        self.numbers = itertools.count()
        self.asked: list[pb.OpenLive] = []
        self.frames: list[pb.LiveFrame] = []
        self.mute: set[int] = set()
        self.closes: set[int] = set()
        self.refuses: set[int] = set()
        self.ahead = 0.0
        self.model_type = "stream"
        self._ticks: Any = LoopingCall(self._tick)

    def buildProtocol(self, addr: Any) -> Protocol:
        return _Connection(self)

    def cut(self) -> None:
        """All connections, at once."""
        for connection in tuple(self.connections):
            transport: Any = connection.transport
            transport.abortConnection()

    def _tick(self) -> None:
        tick_us = int((time.time() + self.ahead) * 1e6)
        for connection in tuple(self.connections):
            connection.tick(tick_us)

    async def __aenter__(self) -> Self:
        endpoint: Any = TCP4ServerEndpoint(self._reactor, 0, interface="127.0.0.1")  # type: ignore[no-untyped-call]
        self._port = await as_future(endpoint.listen(self))
        self.address = f"tcp:127.0.0.1:{self._port.getHost().port}"
        self._ticks.start(1 / HZ)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ticks.stop()
        self.cut()
        await as_future(self._port.stopListening())
