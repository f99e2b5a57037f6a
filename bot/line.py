"""One connection to a server: Twisted's shell around the client's end of server.wire. It does not outlive the connection.

    connectionMade → greet → Welcome → adopt → ask, ask, … → lost

A server that says nothing for a while is asked whether it is there (Ping), and cut off if it is not.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import structlog
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from bot.conversation import Conversation
from bot.errors import NotWelcomeError
from bot.patience import Patience
from proto import atelier_pb2 as pb
from server.clock import Clock, Timer
from server.errors import Code, StreamBroken
from server.wire.connection import PROTOCOL_VERSION, Connection, Received, Rejected, Role, State
from server.wire.telling import decode_failure

log = structlog.get_logger("atelier.client")

HANDSHAKE_FRAME_BYTES = 64 * 1024  # Hello and Welcome have a few hundred bytes
OPEN_FRAME_BYTES = 64 << 20  # what we take; servers send 256 KiB chunks, and Results of a few kB
CLOSING_GRACE = 2.0  # seconds that the last bytes get to leave before the connection is cut


class ClosedEarly(Exception):
    """The connection ended before Welcome, and nobody said why."""


class Line(Protocol):
    """One connection. After `adopt`, `on_over` is called with each conversation that has ended, and `on_lost` once, when the
    connection is gone, with the reason as text."""

    def __init__(self, clock: Clock, patience: Patience) -> None:
        self._clock = clock
        self._patience = patience
        self._wire = Connection(
            Role.CLIENT, handshake_frame_bytes=HANDSHAKE_FRAME_BYTES, open_frame_bytes=OPEN_FRAME_BYTES
        )
        self._loop = asyncio.get_running_loop()
        self._welcome: asyncio.Future[pb.Welcome] = self._loop.create_future()
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._request_ids = itertools.count(1)
        self._conversations: dict[int, Conversation] = {}
        self._on_over: Callable[[Conversation], None] | None = None
        self._on_lost: Callable[[Line, str], None] | None = None
        self._on_stray: Callable[[Received], None] | None = None
        self._lost_because = ""
        self._ping_every = 0.0
        self._ping_timer: Timer | None = None
        self._silence_timer: Timer | None = None
        self._closing_timer: Timer | None = None
        self._answered = False
        self._paused = False
        self._welcomed_at = 0.0
        self.goodbye: Code | None = None  # why the server ended it

    # For the client

    async def greet(self, token: str, client_name: str, exclusive: bool = False) -> pb.Welcome:
        """Say Hello. Raises NotWelcomeError, ClosedEarly, LocalProtocolError."""
        if not self._welcome.done():  # a server that is full says goodbye without having been asked
            hello = pb.Hello(
                protocol_version=PROTOCOL_VERSION, token=token, client_name=client_name, exclusive=exclusive
            )
            self._say(pb.Envelope(request_id=next(self._request_ids), hello=hello))
        welcome = await self._welcome
        self._welcomed_at = self._clock.seconds()
        idle = welcome.limits.idle_timeout_seconds
        every = self._patience.ping_every or (idle / 3 if idle > 0 else None)
        if every is not None and not self._gone.done():
            self._ping_every = every
            self._ping_timer = self._clock.callLater(every, self._ping)
        return welcome

    @property
    def useful(self) -> bool:
        """Whether it was more than let in and dropped at once."""
        return self._answered or self._clock.seconds() - self._welcomed_at > self._patience.longest_wait

    def adopt(
        self,
        *,
        on_over: Callable[[Conversation], None],
        on_lost: Callable[[Line, str], None],
        on_stray: Callable[[Received], None] | None = None,
    ) -> None:
        """Belong to a client. It is told at once if the connection is gone already. `on_stray` hears what belongs to nothing
        that is under way."""
        self._on_over = on_over
        self._on_lost = on_lost
        self._on_stray = on_stray
        if self._gone.done():
            on_lost(self, self._lost_because)

    def ask(self, conversation: Conversation) -> None:
        """Begin, or go on with, a conversation. Raises LocalProtocolError where the server takes no frame of its size."""
        envelope = conversation.opening()
        envelope.request_id = next(self._request_ids)
        if self._wire.state is State.CLOSED or self._gone.done():
            return  # the server has said goodbye: it will be asked on the next connection
        self._say(envelope)
        self._conversations[envelope.request_id] = conversation

    def tell(self, envelopes: Iterable[pb.Envelope]) -> None:
        """Say what has no answer of its own, in one write; an Error for one of them is a stray. Raises LocalProtocolError."""
        if self._wire.state is State.CLOSED or self._gone.done():
            return
        frames = []
        for envelope in envelopes:
            envelope.request_id = next(self._request_ids)
            frames.append(self._wire.send(envelope))
        self._transport.write(b"".join(frames))

    async def close(self) -> None:
        """Close, and wait until it is gone; cut off if the peer does not read."""
        if self.transport is None or self._gone.done():
            return
        self._stop_timers()
        if self._closing_timer is None:
            self._closing_timer = self._clock.callLater(CLOSING_GRACE, self._transport.abortConnection)
            self._transport.loseConnection()
        await asyncio.shield(self._gone)

    def abort(self) -> None:
        """Cut it off."""
        if self.transport is not None and not self._gone.done():
            self._transport.abortConnection()

    def pause(self) -> None:
        """Read nothing more, so that what the server sends fills the buffers between us; nor ask whether it is there."""
        self._paused = True
        self._transport.pauseProducing()

    def resume(self) -> None:
        """Read again."""
        self._paused = False
        if not self._gone.done():
            self._transport.resumeProducing()

    # Twisted's side

    def connectionMade(self) -> None:
        """Small messages leave at once."""
        if hasattr(self._transport, "setTcpNoDelay"):  # a UNIX socket has neither
            self._transport.setTcpNoDelay(True)
            self._transport.setTcpKeepAlive(True)

    def dataReceived(self, data: bytes) -> None:
        """Take bytes: whatever they are, the server is there."""
        if self._silence_timer is not None:
            self._silence_timer.cancel()
            self._silence_timer = None
        self._wire.receive_data(data)
        try:
            while (event := self._wire.next_event()) is not None:
                self._take(event)
        except StreamBroken as broken:
            self._cut(f"the server's stream is broken: {broken}")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Leave no timer behind, and say so."""
        self._stop_timers()
        if self._closing_timer is not None and self._closing_timer.active():
            self._closing_timer.cancel()
        self._lost_because = self._lost_because or reason.getErrorMessage().rstrip(".")
        self._conversations.clear()
        self._not_welcome(ClosedEarly(f"it closed before Welcome: {self._lost_because}"))
        self._gone.set_result(None)
        if self._on_lost is not None:
            self._on_lost(self, self._lost_because)

    # From the server

    def _take(self, event: Received | Rejected) -> None:
        if isinstance(event, Rejected):
            self._reject(event)
        elif event.kind in _OWN:
            _OWN[event.kind](self, event.message)
        elif isinstance(event.message, pb.Error) and (not event.request_id or not self._welcome.done()):
            self._remark(event.message)
        else:
            self._answer(event)

    def _answer(self, event: Received) -> None:
        self._answered = True
        conversation = self._conversations.get(event.request_id)
        if conversation is None:  # the last words of something that was given up, or a Pong
            if self._on_stray is not None:
                self._on_stray(event)
            return
        if conversation.hear(event.kind, event.message):
            del self._conversations[event.request_id]
            if self._on_over is not None:
                self._on_over(conversation)

    def _reject(self, event: Rejected) -> None:
        """A later server may say what we do not know; what cannot be read at all may have been a result."""
        log.warning("server.misunderstood", reason=str(event.refusal))
        if event.refusal.code is not Code.UNKNOWN_MESSAGE:
            self._cut(f"the server does not keep to the protocol: {event.refusal}")

    def _welcomed(self, welcome: pb.Welcome) -> None:
        if not self._welcome.done():
            self._welcome.set_result(welcome)

    def _remark(self, error: pb.Error) -> None:
        """An Error that answers Hello, or belongs to no request."""
        refusal = NotWelcomeError.told(decode_failure(error))
        self._not_welcome(refusal)
        log.warning("server.remark", code=refusal.code.name, reason=str(refusal))

    def _goodbye(self, goodbye: pb.Goodbye) -> None:
        refusal = NotWelcomeError.told(decode_failure(pb.Error(code=goodbye.code, message=goodbye.message)))
        self.goodbye = refusal.code
        self._lost_because = f"the server said goodbye, {refusal.code.name}: {refusal.message}"
        self._not_welcome(refusal)
        self._transport.loseConnection()

    def _not_welcome(self, error: Exception) -> None:
        if not self._welcome.done():
            self._welcome.set_exception(error)
            self._welcome.exception()  # whoever greets sees it; if nobody does, nothing is logged

    # To the server

    def _say(self, envelope: pb.Envelope) -> None:
        self._transport.write(self._wire.send(envelope))

    def _ping(self) -> None:
        now = self._clock.seconds()
        self._ping_timer = self._clock.callLater(self._ping_every, self._ping)
        if self._wire.state is not State.OPEN or self._paused:
            return
        ping = pb.Ping(client_time_us=int(now * 1_000_000))
        self._say(pb.Envelope(request_id=next(self._request_ids), ping=ping))
        if self._silence_timer is None:
            self._silence_timer = self._clock.callLater(self._patience.ping_answer, self._silent)

    def _silent(self) -> None:
        self._silence_timer = None
        self._cut(f"the server did not answer a ping for {self._patience.ping_answer:g} s")

    def _cut(self, reason: str) -> None:
        self._lost_because = self._lost_because or reason
        self._stop_timers()
        self._transport.abortConnection()

    def _stop_timers(self) -> None:
        for timer in (self._ping_timer, self._silence_timer):
            if timer is not None and timer.active():
                timer.cancel()
        self._ping_timer = self._silence_timer = None

    @property
    def _transport(self) -> Any:
        """The transport, whose interfaces zope knows and mypy does not."""
        return self.transport


_OWN: dict[str, Callable[[Line, Any], None]] = {
    "welcome": Line._welcomed,
    "goodbye": Line._goodbye,
}
"""What concerns the connection itself."""
