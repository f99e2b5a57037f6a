"""One client's connection: uvicorn's, with what it lacks. Deadlines are absolute; a byte now and then moves none of them.

    connecting, or a request's first byte  → its headers' end      header_timeout
    headers' end                           → the body's last byte  body_timeout, or upload_timeout
    an answer's end                        → the next first byte   idle_timeout
    our output is full                     → it is read            slow_reader_timeout

No connection has a timer: `serving.HttpServer` looks over all of them twice a second.
"""

from __future__ import annotations

import asyncio
import json
import math
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, cast

import structlog
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from server.doors.http.bodies import is_upload
from server.doors.http.errors import STATUSES, body_of
from server.errors import Code, Refusal

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

    from server.doors.http.serving import HttpServer

log = structlog.get_logger("atelier.http")

NEVER = math.inf
MAX_PIPELINED = (
    16  # requests that wait for the answers before theirs; each takes 4 kB, and 64 kB of bytes could be thousands
)
MAX_PIPELINED_BYTES = (
    HIGH_WATER_LIMIT  # of their bodies: so far we read on while they wait, else we would miss the client's end
)
CLOSING_GRACE = 2.0  # seconds that the last bytes get to leave before the connection is cut
HEADERS_TOO_LARGE = 431


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """Seconds, bytes and counts (see config.http for the reasons)."""

    header_timeout: float
    body_timeout: float
    idle_timeout: float
    slow_reader_timeout: float
    max_header_bytes: int
    max_connections: int
    upload_timeout: float = 600.0


class Reading(Enum):
    """Which part of a request the client owes."""

    NOTHING = "nothing"  # between requests, or while we answer
    HEADERS = "headers"
    BODY = "body"


class Writing:
    """By when a client must have read what we wrote, and a connection that is closing be gone."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._read_by = NEVER
        self._gone_by = NEVER

    def full(self, now: float) -> None:
        """There is no more room for output."""
        self._read_by = now + self._limit

    def empty(self) -> None:
        """There is again."""
        self._read_by = NEVER

    def late(self, now: float, closing: bool) -> bool:
        """Whether the connection has to be cut."""
        if closing and self._gone_by == NEVER:
            self._gone_by = now + self._limit
        return now >= self._read_by or now >= self._gone_by


class Flow(FlowControl):
    """uvicorn's, which can be held: then whoever wants to read on waits until it is let go."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__(transport)
        self._held = False

    def hold(self, held: bool) -> None:
        """Read no more, or go on."""
        self._held = held
        if held:
            self.pause_reading()
        else:
            self.resume_reading()

    def resume_reading(self) -> None:
        """Unless it is held."""
        if not self._held:
            super().resume_reading()


class HttpConnection(HttpToolsProtocol):
    """HTTP/1.1."""

    flow: Flow

    def __init__(self, server: HttpServer) -> None:
        super().__init__(server.config, server.state, {}, server.loop)
        self._house = server
        self._limits = server.limits
        self._seconds = server.clock.seconds
        self._writing = Writing(server.limits.slow_reader_timeout)
        self._reading = Reading.NOTHING
        self._due = NEVER
        self._running: RequestResponseCycle | None = (
            None  # the latest that was begun; uvicorn's `cycle` is the latest read
        )
        self._begun_bytes = 0  # of headers that have not ended, or of what is no body where a body is due
        self._header_bytes = 0
        self._went_on = False  # whether the last bytes ended the headers, or brought some of the body
        self._refused = False
        self.ws_protocol_class = cast("Any", self._web_socket)

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the clock; one connection too many is told so, and closed."""
        super().connection_made(cast(asyncio.Transport, transport))
        self.flow = Flow(cast(asyncio.Transport, transport))
        found: socket.socket | None = transport.get_extra_info("socket")
        if found is not None and found.family in (socket.AF_INET, socket.AF_INET6):
            found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else a body waits 40 ms for its head's ack
        self._due = self._seconds() + self._limits.header_timeout
        self._house.opened(self)
        if self._house.connections > self._limits.max_connections:
            limit = f"{self._limits.max_connections} connections"
            self._refuse(Refusal(Code.TOO_MANY_CONNECTIONS, f"the limit of {limit} is reached", limit=limit))

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more is heard or said."""
        self._tell_gone()
        super().connection_lost(exc)
        self._house.closed(self)

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        if self._refused:
            return
        self._went_on = False
        super().data_received(data)
        if self._reading is Reading.HEADERS:
            self._begun_bytes += len(data)
        elif self._reading is Reading.BODY:  # trailers: the parser keeps each of them whole
            self._begun_bytes = 0 if self._went_on else self._begun_bytes + len(data)
        if self._begun_bytes > self._limits.max_header_bytes:
            self._headers_too_large()

    def pause_writing(self) -> None:
        """The client does not read as fast as we write."""
        super().pause_writing()
        self._writing.full(self._seconds())

    def resume_writing(self) -> None:
        """It has read on."""
        super().resume_writing()
        self._writing.empty()

    # httptools' side

    def on_message_begin(self) -> None:
        """A request's first byte."""
        if self._refused:
            return
        super().on_message_begin()
        self._begun_bytes = self._header_bytes = 0
        self._reading = Reading.HEADERS
        self._due = min(self._due, self._seconds() + self._limits.header_timeout)

    def on_url(self, url: bytes) -> None:
        """Part of the request line."""
        self._header_bytes += len(url)
        if not self._refused:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header; a trailer, which comes after the body, is none."""
        self._header_bytes += len(name) + len(value) + 4
        if not self._refused and self._reading is Reading.HEADERS:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The request can be answered; its body may be still to come."""
        if self._refused:
            return
        if self._header_bytes > self._limits.max_header_bytes:
            self._headers_too_large()
            return
        if len(self.pipeline) >= MAX_PIPELINED:
            text = f"at most {MAX_PIPELINED} requests may wait on a connection"
            self._refuse(Refusal(Code.RESOURCE_EXHAUSTED, text, limit=f"{MAX_PIPELINED} requests"))
            return
        if self._under_way and self.parser.should_upgrade() and self._should_upgrade():
            text = "a connection with an answer under way cannot become a WebSocket"
            self._refuse(Refusal(Code.MALFORMED_MESSAGE, text))
            return
        super().on_headers_complete()
        if self.pipeline:  # uvicorn pauses, for as long as the answer before takes
            self.flow.resume_reading()
        self._reading = Reading.BODY
        self._went_on = True
        self._due = self._seconds() + self._body_timeout

    def on_body(self, body: bytes) -> None:
        """Part of the body."""
        if self._refused:
            return
        self._went_on = True
        super().on_body(body)
        if self._too_much_waits:
            self.flow.hold(True)

    def on_message_complete(self) -> None:
        """The client owes nothing until it is answered."""
        if self._refused:
            return
        super().on_message_complete()
        self._reading = Reading.NOTHING
        self._due = NEVER
        if self.cycle is not None and self.cycle.response_complete:
            self._due = self._seconds() + self._limits.idle_timeout

    # uvicorn's side

    def on_response_complete(self) -> None:
        """As uvicorn's, with the time to the next request on our clock."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif self._reading is Reading.NOTHING:
            self._due = self._seconds() + self._limits.idle_timeout
        self.flow.hold(self._too_much_waits)

    def send_400_response(self, msg: str) -> None:
        """For what is not HTTP."""
        self._refuse(Refusal(Code.MALFORMED_MESSAGE, "this is no HTTP request that can be read"))

    def handle_websocket_upgrade(self) -> None:
        """The connection goes on as another."""
        if self._refused:
            return
        super().handle_websocket_upgrade()
        self._house.closed(self)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _web_socket(self, **given: Any) -> WebSocketConnection:
        return WebSocketConnection(self._house)

    # The end

    def look(self, now: float) -> None:
        """Cut the client off where it is late."""
        if self._writing.late(now, self.transport.is_closing()):
            log.info("connection.too_slow", client=self.client)
            self.transport.abort()
        elif now >= self._due and not self.transport.is_closing():
            if self.flow.read_paused:  # it is not the client who is late
                self._due = now + self._limits.header_timeout
            else:
                self._late()

    def abort(self) -> None:
        """Close at once."""
        self.transport.abort()

    def _late(self) -> None:
        if self._reading is Reading.NOTHING and self.cycle is not None:  # an idle one: nothing was asked
            self.transport.close()
            return
        body = self._reading is Reading.BODY
        limit = self._body_timeout if body else self._limits.header_timeout
        what = "body" if body else "headers"
        text = f"the request's {what} did not come within {limit:g} s"
        log.debug("connection.late", client=self.client, owed=what)
        self._refuse(Refusal(Code.FRAME_TIMEOUT, text, field=what, limit=f"{limit:g} s"))

    def _headers_too_large(self) -> None:
        limit = f"{self._limits.max_header_bytes} bytes"
        text = f"the request line and headers have more than {limit}, which is the limit"
        self._refuse(Refusal(Code.FRAME_TOO_LARGE, text, field="headers", limit=limit), HEADERS_TOO_LARGE)

    @property
    def _body_timeout(self) -> float:
        return (
            self._limits.upload_timeout if is_upload(cast(Mapping[str, Any], self.scope)) else self._limits.body_timeout
        )

    @property
    def _too_much_waits(self) -> bool:
        """Whether the bodies of requests that wait for their turn fill the memory that is for them."""
        return sum(len(cycle.body) for cycle, _ in self.pipeline) > MAX_PIPELINED_BYTES

    @property
    def _under_way(self) -> bool:
        return self._running is not None and not self._running.response_complete

    @property
    def _awaits_words(self) -> bool:
        """Whether what we say now is the answer to the request that is being read."""
        if self._running is not None and self._running is self.cycle and self._reading is Reading.BODY:
            return not self._running.response_started
        return not self._under_way

    def _tell_gone(self) -> None:
        """Whoever works on a request learns that the client is gone; those that wait are never begun."""
        self.pipeline.clear()
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.waiting_for_100_continue = False
            self._running.message_event.set()

    def _refuse(self, refusal: Refusal, status: int = 0) -> None:
        """Say why, unless an answer is under way, and close; whoever works on a request is told that the client is gone."""
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        self._tell_gone()
        if self._awaits_words:
            self.transport.write(_raw(refusal, status or STATUSES[refusal.code], self._seconds()))
        if self.transport.can_write_eof():
            self.transport.write_eof()  # to close what the client still writes to would reset it, and lose it our word
        else:
            self.transport.close()
        self._house.clock.callLater(CLOSING_GRACE, self.transport.abort)


def _raw(refusal: Refusal, status: int, at: float) -> bytes:
    body = json.dumps(body_of(refusal, at, refusal.message)).encode()
    return b"".join(
        [
            STATUS_LINE[status],
            b"content-type: application/json\r\nconnection: close\r\n",
            b"content-length: %d\r\n\r\n" % len(body),
            body,
        ]
    )


class WebSocketConnection(WebSocketsSansIOProtocol):
    """A WebSocket, after its handshake. Clients that fell silent are found by uvicorn's pings."""

    def __init__(self, server: HttpServer) -> None:
        super().__init__(server.config, server.state, {}, server.loop)
        self._house = server
        self._seconds: Callable[[], float] = server.clock.seconds
        self._writing = Writing(server.limits.slow_reader_timeout)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It was accepted as HTTP before."""
        super().connection_made(transport)
        self._house.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more is heard or said."""
        super().connection_lost(exc)
        self._house.closed(self)

    def pause_writing(self) -> None:
        """The client does not read as fast as we write."""
        super().pause_writing()
        self._writing.full(self._seconds())

    def resume_writing(self) -> None:
        """It has read on."""
        super().resume_writing()
        self._writing.empty()

    def look(self, now: float) -> None:
        """Cut the client off where it is late."""
        if self._writing.late(now, self.transport.is_closing()):
            log.info("connection.too_slow", client=self.client)
            self.transport.abort()

    def abort(self) -> None:
        """Close at once."""
        self.transport.abort()
