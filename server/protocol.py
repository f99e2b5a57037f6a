"""The TCP door: Twisted's shell around the sans-IO core in server.wire.

A message is decoded, dispatched and encoded; what jobs say goes out by one writer (server.pump), a message of each in turn.
While the transport is full nothing more is written *or read*: a slow reader is told less progress, and costs no memory. Deadlines
are absolute.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, cast

import structlog
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from proto import atelier_pb2 as pb
from server.clock import Timer
from server.commands import Cancel, ConnectUdp
from server.deadlines import Deadlines
from server.door_parts import DoorParts, hang_up
from server.errors import Code, Refusal, StreamBroken
from server.greeting import welcome
from server.incoming import over_tcp
from server.live_streams import LiveStreams
from server.login import Login
from server.principal import Principal, changes, check_command
from server.pump import Pump, Stream
from server.replies import Admitted, LiveFollowed, Watched
from server.saying import Saying
from server.session import ENDS, End, Session, Turn
from server.wire.answers import REPLY_ENCODERS
from server.wire.codec import DECODERS
from server.wire.connection import Connection, Received, Rejected, Role
from server.wire.live import LiveStream
from server.wire.stream import JobStream, wishes_of
from server.wire.telling import encode_error, encode_goodbye

log = structlog.get_logger("atelier.tcp")

CLOSING_GRACE = 2.0  # seconds that the last bytes get to leave before the connection is cut
LEAVING_GRACE = 5.0  # seconds that results and pictures get to leave when the server stops


@implementer(IPushProducer)
class AtelierProtocol(Protocol):
    """One client's connection."""

    def __init__(self, parts: DoorParts, session_id: str, on_lost: Callable[[AtelierProtocol], None]) -> None:
        limits = parts.limits
        self._parts = parts
        self._limits = limits
        self._session_id = session_id
        self._on_lost = on_lost
        self._wire = Connection(
            Role.SERVER, handshake_frame_bytes=limits.handshake_frame_bytes, open_frame_bytes=limits.max_frame_bytes
        )
        self._login = Login(parts)
        self._session = Session()
        self._saying = Saying(self._wire, self._session, parts.counts, session_id)
        self._say = self._saying.say
        self._paused = False
        self._leaving: Refusal | None = None  # close, for this reason, when everything has been said
        self._end: End | None = None  # why we close it
        self._streams: dict[int, JobStream] = {}  # by request_id
        self._pending: dict[int, asyncio.Task[None]] = {}  # requests whose handler is at work, by request_id
        self._leave_behind: set[int] = set()  # requests whose jobs are cancelled when the connection ends
        self._pump = Pump(
            artifacts=parts.artifacts,
            tasks=parts.tasks,
            say=self._say,
            has_room=lambda: not self._paused and self._session.says,
            on_done=self._forget,
        )
        self._live = LiveStreams(parts.live, self._live_news)
        self._live_ready: list[LiveStream] = []  # that have something to say, with all others of the same tick
        self._deadlines: Deadlines | None = None
        self._end_timer: Timer | None = None
        self._slow_timer: Timer | None = None

    # Twisted's side

    def connectionMade(self) -> None:
        """Start the clocks."""
        self._saying.transport = self._transport
        if hasattr(self._transport, "setTcpNoDelay"):  # a UNIX socket has neither
            self._transport.setTcpNoDelay(True)
            self._transport.setTcpKeepAlive(True)
        self._transport.registerProducer(self, True)
        self._deadlines = Deadlines(
            self._parts.clock,
            self._late,
            handshake=self._limits.handshake_timeout,
            frame=self._limits.frame_timeout,
            idle=self._limits.idle_timeout,
        )

    def dataReceived(self, data: bytes) -> None:
        """Take bytes."""
        self._parts.counts.received_bytes += len(data)
        self._wire.receive_data(data)
        self._take_messages()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Leave no timer, watcher or task behind."""
        self._session.turn(Turn.LOST)
        self._stop_deadlines()
        for timer in (self._end_timer, self._slow_timer):
            if timer is not None and timer.active():
                timer.cancel()
        for stream in self._streams.values():
            self._parts.board.leave(stream.job_id, stream)
            if stream.request_id in self._leave_behind:
                self._cancel_unattended(stream.job_id)
        self._streams.clear()
        self._live.end_all(self._login.owner)
        self._login.end(self)
        self._pump.stop()
        end = self._end or (End.SOCKET_CLOSED if isinstance(reason.value, ConnectionDone) else End.ERROR)
        self._parts.counts.ends[end.value] += 1
        log.debug("connection.lost", session=self._session_id, reason=end.value, told=reason.getErrorMessage())
        self._on_lost(self)

    def pauseProducing(self) -> None:
        """The transport is full: say nothing more, and hear nothing more that would have to be answered."""
        if self._paused:
            return
        self._paused = True
        self._transport.pauseProducing()
        if self._deadlines is not None:
            self._deadlines.pause()
        self._slow_timer = self._parts.clock.callLater(self._limits.slow_reader_timeout, self._too_slow)

    def resumeProducing(self) -> None:
        """The peer has read on."""
        if not self._paused or not self._session.says:
            return
        self._paused = False
        if self._slow_timer is not None:
            self._slow_timer.cancel()
            self._slow_timer = None
        if self._deadlines is not None:
            self._deadlines.resume()
        self._pump.run()
        self._take_messages()
        self._read_on()

    def _read_on(self) -> None:
        if not self._paused and self._session.hears:
            self._transport.resumeProducing()

    def stopProducing(self) -> None:
        """The transport is gone; connectionLost follows."""

    # From the peer

    def _take_messages(self) -> None:
        took = False
        try:
            while not self._paused and self._session.hears:
                event = self._wire.next_event()
                if event is None:
                    break
                took = True
                self._take(event)
        except StreamBroken as broken:
            self._refuse(0, broken)
            self.close(broken)
            return
        if self._deadlines is not None:
            self._deadlines.heard(took, self._wire.frame_begun)

    def _take(self, event: Received | Rejected) -> None:
        if isinstance(event, Rejected):
            self._refuse(event.request_id, event.refusal)
        elif self._login.holds(event):
            self._dispatch(event)
        else:
            self._find_out(event)

    def _find_out(self, event: Received) -> None:
        """Who says it."""
        try:
            found = self._login.known(event)
        except Refusal as refusal:
            self._unknown(event, refusal)
            return
        if found is not None:
            self._go_on(event, found)
            return
        self._session.turn(Turn.ASK)
        self._transport.pauseProducing()
        self._parts.tasks.start(self._ask(event))

    async def _ask(self, event: Received) -> None:
        found = await self._login.ask(self._session_id)
        self._session.turn(Turn.ANSWERED)
        if not self._session.says:  # it was closed meanwhile, and puts nobody out
            return
        if isinstance(found, Refusal):
            self._unknown(event, found)
        else:
            self._go_on(event, found)
        if not self._paused and self._session.hears:
            self._take_messages()
            self._read_on()

    def _go_on(self, event: Received, principal: Principal) -> None:
        self._login.principal = principal
        if event.kind == "hello":
            self._greet(event)
        else:
            self._dispatch(event)

    def _unknown(self, event: Received, refusal: Refusal) -> None:
        self._refuse(event.request_id, refusal)
        if self._login.is_over(event, refusal):
            self.close(refusal, End.LOGIN_REFUSED)

    def _greet(self, event: Received) -> None:
        hello, owner = cast(pb.Hello, event.message), self._login.owner
        self._session.turn(Turn.WELCOME)
        log.debug("connection.open", session=self._session_id, owner=owner, client=hello.client_name)
        self._login.begin(hello, self, self._revoked)
        self._say(welcome(event.request_id, self._session_id, owner, self._limits.told))
        if self._deadlines is not None:
            self._deadlines.opened()

    def _revoked(self, refusal: Refusal) -> None:
        """Its token is good no more, though it asks for nothing: what it follows is told it no more."""
        self._refuse(0, refusal)
        self.close(refusal, End.LOGIN_REFUSED)

    def _dispatch(self, event: Received) -> None:
        request_id, kind, message = event.request_id, event.kind, cast(Any, event.message)
        self._parts.counts.requests[kind] += 1
        principal = self._login.principal
        try:
            command = DECODERS[kind](message, principal.owner)
            check_command(principal, command)
            if isinstance(command, ConnectUdp):
                command = replace(command, principal=principal, token=self._login.token)
            if principal.is_noted and changes(command):
                host = getattr(self._transport.getPeer(), "host", "")
                self._parts.note(principal, f"tcp.{kind}", getattr(command, "job_id", ""), host)
            reply = self._parts.handlers[type(command)](command)
            if asyncio.iscoroutine(reply):
                self._answer_later(request_id, reply, message)
            elif reply is not None:
                self._say(REPLY_ENCODERS[type(reply)](request_id, reply))
        except Refusal as refusal:
            self._refuse(request_id, refusal)
        except Exception:
            self._erred(request_id, kind)

    def _answer_later(self, request_id: int, work: Coroutine[Any, Any, Any], message: Any) -> None:
        limit = self._limits.max_requests
        if request_id in self._streams or request_id in self._pending or request_id in self._live:
            work.close()
            raise Refusal.invalid("request_id", "a number that no request under way has", request_id)
        if len(self._streams) + len(self._pending) + len(self._live) >= limit:
            work.close()
            text = f"this connection has {limit} requests under way, which is the limit"
            raise Refusal(Code.RESOURCE_EXHAUSTED, text, limit=f"{limit} requests", retry_after_seconds=1.0)
        answering = self._answer(request_id, work, message)
        self._pending[request_id] = asyncio.get_running_loop().create_task(answering, context=over_tcp(message))

    async def _answer(self, request_id: int, work: Coroutine[Any, Any, Any], message: Any) -> None:
        """Finish one request. Runs on when the connection is lost meanwhile: an accepted job is accepted."""
        try:
            reply = await work
            if isinstance(reply, (Admitted, Watched)):
                await self._follow(request_id, reply, message)
            elif isinstance(reply, LiveFollowed):
                self._follow_live(request_id, reply, message)
            elif self._session.says:
                self._say(REPLY_ENCODERS[type(reply)](request_id, reply))
        except Refusal as refusal:
            self._refuse(request_id, refusal)
        except Exception:
            self._erred(request_id, type(message).__name__)
        finally:
            del self._pending[request_id]
            self._leave_if_idle()

    async def _follow(self, request_id: int, reply: Admitted | Watched, message: Any) -> None:
        """Attach this request to its job."""
        submitted = isinstance(reply, Admitted)
        leave_behind = submitted and message.cancel_on_disconnect
        if not self._session.says:
            if leave_behind:
                self._cancel_unattended(reply.job.id)
            return
        stream = JobStream(
            request_id,
            reply.job.id,
            wishes_of(message),
            duplicate=isinstance(reply, Admitted) and reply.duplicate,
            chunk_bytes=self._limits.chunk_bytes,
            on_news=self._pump.news,
        )
        self._streams[request_id] = stream
        if leave_behind:
            self._leave_behind.add(request_id)
        try:
            await self._parts.board.follow(reply.job.id, stream, 0 if submitted else message.from_event)
        except Exception:
            self._forget(stream)
            raise
        self._leave_unended(stream)

    def _follow_live(self, request_id: int, reply: LiveFollowed, message: Any) -> None:
        """Attach this request to a live session; one that was opened for a connection that is gone ends with it."""
        owner = self._login.owner
        if self._session.says:
            self._live.follow(owner, request_id, reply, quiet=reply.opened_here and message.quiet)
            self._say(REPLY_ENCODERS[LiveFollowed](request_id, reply))
        elif reply.opened_here:
            self._live.end(owner, reply.opened.live_id)

    def _cancel_unattended(self, job_id: str) -> None:
        """The connection that wanted this job is gone, and asked that the job go with it."""
        log.info("job.unattended", job_id=job_id, session=self._session_id)
        command = Cancel(owner=self._login.owner, job_id=job_id)
        self._parts.tasks.start(cast("Coroutine[Any, Any, None]", self._parts.handlers[Cancel](command)))

    # To the peer

    def _live_news(self, stream: LiveStream) -> None:
        """A tick's results go out together."""
        if not self._live_ready:
            asyncio.get_running_loop().call_soon(self._say_live)
        self._live_ready.append(stream)

    def _say_live(self) -> None:
        ready, self._live_ready = self._live_ready, []
        if self._session.says:
            with self._saying.gathering():
                self._pump.all_news(ready)

    def _refuse(self, request_id: int, refusal: Refusal) -> None:
        self._parts.counts.refusals[refusal.code.name] += 1
        self._say(encode_error(request_id, refusal))

    def _erred(self, request_id: int, kind: str) -> None:
        log.exception("request.broken", session=self._session_id, kind=kind)
        self._refuse(request_id, Refusal(Code.INTERNAL_ERROR, "the server erred; its log says how"))

    def _forget(self, stream: Stream) -> None:
        if isinstance(stream, LiveStream):
            self._live.forget(stream)
            return
        self._streams.pop(stream.request_id, None)
        self._leave_behind.discard(stream.request_id)
        self._parts.board.leave(stream.job_id, stream)
        self._leave_if_idle()

    # The end

    def _late(self, reason: StreamBroken) -> None:
        self._refuse(0, reason)
        self.close(reason)

    def _stop_deadlines(self) -> None:
        if self._deadlines is not None:
            self._deadlines.stop()
            self._deadlines = None

    def _too_slow(self) -> None:
        log.warning("connection.too_slow", session=self._session_id, owner=self._login.owner, jobs=len(self._streams))
        self._parts.counts.refusals[Code.SLOW_READER.name] += 1
        self._slow_timer = None
        self._end = End.SLOW_READER
        self._session.turn(Turn.CLOSE)
        self._transport.abortConnection()  # what the peer does not read cannot be told it either

    def leave(self, reason: Refusal) -> None:
        """Say what is left to say of jobs that have ended, then close; after a grace, close all the same."""
        if not self._session.says:
            return
        self._leaving = reason
        self._stop_deadlines()
        self._end_timer = self._parts.clock.callLater(LEAVING_GRACE, self.close, reason)
        for stream in tuple(self._streams.values()):
            self._leave_unended(stream)
        self._leave_if_idle()

    def _leave_unended(self, stream: JobStream) -> None:
        """A job that goes on in the server's next life says nothing more in this one."""
        if self._leaving is not None and not stream.ended:
            self._forget(stream)

    def _leave_if_idle(self) -> None:
        if self._leaving is not None and not self._streams and not self._pending:
            self.close(self._leaving)

    def close(self, reason: Refusal, end: End | None = None) -> None:
        """Say goodbye and close; the jobs live on. Cut off if the peer does not read even that."""
        if not self._session.says:
            return
        self._end = end or ENDS[reason.code]
        told = {"owner": self._login.owner, "code": reason.code.name, "reason": self._end.value}
        log.info("connection.closed", session=self._session_id, **told)
        self._say(encode_goodbye(reason))
        self._saying.flush()
        held = self._paused or not self._session.hears
        self._session.turn(Turn.CLOSE)
        self._login.watch_no_more()
        self._stop_deadlines()
        if self._end_timer is not None and self._end_timer.active():
            self._end_timer.cancel()
        self._end_timer = self._parts.clock.callLater(CLOSING_GRACE, self._transport.abortConnection)
        self._transport.unregisterProducer()
        if held:
            self._transport.resumeProducing()  # to see the peer hang up
        hang_up(self._transport)

    @property
    def _transport(self) -> Any:
        """The transport, whose interfaces zope knows and mypy does not."""
        return self.transport
