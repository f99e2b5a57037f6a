"""One process's share of live sessions: opens them, sends their frames when these are due, hears the results, keeps the books.

    plan → LiveShift.work → Part          (of N processes, process i has the connections whose number is i modulo N)

A frame is captured when it is due, however late the bots are in sending it: what holds them up is not hidden from the latencies,
and told beside them (`lateness`). Frames that are due at the same moment leave a connection in one write.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import time
from collections import defaultdict
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

from bot.conversation import Question
from bot.doors.door import Door
from bot.doors.tcp import TcpDoor
from bot.errors import ClientError, RefusedError
from bot.figures import Figures
from bot.ledger import Accounts
from bot.live.books import LiveBooks, SessionBooks, SessionCounter
from bot.live.handle import LiveHandle
from bot.live.motion import CYCLE, images_of, values_of
from bot.live.phase import Phase
from bot.live.profile import LiveProfile
from bot.live.recording import Recorder
from bot.reconnecting import Reconnecting
from bot.shift import OPENED_AT_ONCE, Part, ShiftPlan
from bot.waiting import pause, within
from proto import atelier_pb2 as pb
from server.clock import Clock
from server.errors import Code
from server.wire.connection import Received

SLOT = 0.0005  # seconds: frames that are due within it leave together
OPENING_TIME = 30.0  # seconds for all sessions to be open: the first waits for the model
PASSING = frozenset({Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED})  # a session that is refused so is asked for again
FASTEST = 1.01  # frames a tick: more cannot all be just before one
AGAIN = 0.2  # seconds until then
STREAM = "stream"  # the model_type
FIRST_WAIT = 0.05  # seconds at most until a lost connection is tried again: another process listens at the same address
STOP_TIME = 5.0  # seconds for the last sessions to be closed


class NoStreamModel(ClientError):
    """There is nothing that live sessions could be opened on."""


class Session:
    """One session of a connection."""

    def __init__(self, number: int, connection: LiveConnection) -> None:
        self.counter = SessionCounter(SessionBooks(number))
        self.books = self.counter.books
        self.connection = connection
        self.handle: LiveHandle | None = None
        self._values: list[tuple[float, ...]] = []
        self._images: list[bytes] = []

    def open(self) -> None:
        """Ask for it."""
        shift = self.connection.shift
        asked = pb.OpenLive(model=shift.model, echo_input=shift.live.echo_input, source=shift.live.source)
        self.handle = LiveHandle(asked, self, self.connection.line)
        self.connection.line.begin(self.handle)

    def next_frame(self, captured_us: int) -> pb.Envelope | None:
        """As a message; None while the session is not open."""
        if self.handle is None:
            return None
        at = self.books.sent % CYCLE
        if self._images:
            return self.handle.frame(captured_us, image=self._images[at % len(self._images)])
        return self.handle.frame(captured_us, self._values[at]) if self._values else None

    # As its handle's hearer

    def live_opened(self, opened: pb.LiveOpened) -> None:
        """What it is to be sent, and when."""
        shift = self.connection.shift
        self.counter.opened(shift.now())
        self.connection.phase = Phase(opened.tick_hz, opened.next_tick_us)
        if not self._values and not self._images and not shift.live.source:
            if opened.width:
                self._images = images_of(self.books.number, opened.height, opened.width, shift.seed)
            else:
                self._values = values_of(self.books.number, len(opened.inputs), shift.seed)
        shift.opened(self, opened)

    def live_result(self, result: pb.LiveResult) -> None:
        """Its latency, and its place in the books."""
        shift = self.connection.shift
        self.counter.heard(shift.now(), result.sequence, result.dropped)
        if self.connection.phase is not None:
            self.connection.phase.ticked(result.tick_us)
        shift.heard((time.time() + self.connection.offset) - result.captured_us / 1e6)

    def live_over(self, error: Exception | None) -> None:
        """Open it again, if that makes sense."""
        shift = self.connection.shift
        if shift.over:
            return
        if isinstance(error, RefusedError) and error.code in PASSING and self.books.openings:
            shift.clock.callLater(AGAIN, self._again)
            return
        over = "" if shift.live.source else "the server closed it"  # a source may come to its end
        self.books.problem = str(error) if error else over
        shift.ended(self)

    def _again(self) -> None:
        if not self.connection.shift.over and not self.connection.line.ended:
            self.open()


class LiveConnection:
    """One connection with its sessions. `offset` is by how much the server's clock is ahead of ours, seconds."""

    def __init__(self, shift: LiveShift, number: int) -> None:
        door = shift.door
        self.shift = shift
        self.offset = 0.0
        self.phase: Phase | None = None
        self.sessions: list[Session] = []
        self.line = Reconnecting(
            door.reactor, door.address, token=door.token, client_name=f"bot-live-{number}",
            patience=replace(door.patience, first_wait=FIRST_WAIT),
            tell=door.tell, clock=door.reactor, random=random.random, on_stray=self._stray,
        )  # fmt: skip

    async def open(self) -> None:
        """Connect, and compare the clocks, by the quickest of three Pings. Raises CannotConnectError, NotWelcomeError."""
        await self.line.connect()
        asked = []
        for _ in range(3):
            before = time.time()
            pong: pb.Pong = await self._ask(pb.Envelope(ping=pb.Ping()), "pong")
            after = time.time()
            asked.append((after - before, pong.server_time_us / 1e6 - (before + after) / 2))
        self.offset = min(asked)[1]

    async def stream_model(self) -> str:
        """The server's first. Raises NoStreamModel."""
        told: pb.Models = await self._ask(pb.Envelope(list_models=pb.ListModels()), "models")
        for model in told.models:
            if model.model_type == STREAM:
                return model.name
        raise NoStreamModel("the server has no stream model to open live sessions on (docs/realtime.md)")

    async def _ask(self, envelope: pb.Envelope, kind: str) -> Any:
        question = Question(envelope, kind)
        self.line.begin(question)
        return await question.answer

    def send(self, envelopes: list[pb.Envelope]) -> bool:
        """In one write; False where there is no connection."""
        if self.line.line is None:
            return False
        self.line.line.tell(envelopes)
        return True

    def _stray(self, received: Received) -> None:
        """What answers nothing that is asked: a frame that was refused."""
        if received.kind == "error":
            code = Code(cast(pb.Error, received.message).code).name
            self.shift.refused[code] += 1


class LiveShift:
    """As `bot.shift.Shift`, for live sessions."""

    def __init__(self, door: Door, plan: ShiftPlan, clock: Clock, stop: asyncio.Event) -> None:
        assert isinstance(door, TcpDoor)
        assert isinstance(plan.profile, LiveProfile)
        self.door = door
        self.live = plan.profile.live
        self.model = self.live.model
        self.seed = plan.seed
        self.clock = clock
        self.over = False
        self.refused: dict[str, int] = defaultdict(int)
        self.figures = Figures(plan.stretch)
        self._plan = plan
        self._stop = stop
        self._started = time.monotonic() - (time.time() - plan.epoch)
        self._connections: list[LiveConnection] = []
        self._sessions: list[Session] = []
        self._opening: set[Session] = set()
        self._all_open = asyncio.Event()
        self._recorder = Recorder(Path(self.live.record)) if self.live.record and plan.index == 0 else None
        self._queue: list[tuple[float, int, Session]] = []  # a heap: by when their next frames are due
        self._heard = 0
        self._begun = False  # the figures count from then on

    def now(self) -> float:
        """Seconds of the run."""
        return time.monotonic() - self._started

    def tick(self) -> dict[str, Any]:
        """How it stands, for who looks on."""
        frame = self.figures.latencies["frame"]
        return {
            "counts": self.figures.counts(),
            "under_way": sum(session.handle is not None and session.handle.opened is not None for session in self._sessions),
            "connections": sum(connection.line.connected for connection in self._connections),
            "p50": frame.percentile(50),
            "p99": frame.percentile(99),
        }  # fmt: skip

    async def work(self) -> Part:
        """All of it. Raises CannotConnectError, NotWelcomeError where a bot cannot come in at all."""
        try:
            await self._open()
            begin = max(self._plan.begin, self.now())
            await self._until(begin)
            self._begun = True
            await self._play(begin + self._plan.seconds)
            self.over = True
            for session in self._sessions:
                session.counter.end(self.now())
            gone = all(connection.line.ended for connection in self._connections) and not self._stop.is_set()
            await self._close_sessions()
        finally:
            self.over = True
            if self._recorder is not None:
                self._recorder.close()
            await asyncio.gather(*(connection.line.close() for connection in self._connections))
        books = LiveBooks([session.books for session in self._sessions], dict(self.refused))
        return {
            "gone": f"every bot gave up on {self.door.address}" if gone else "",
            "figures": self.figures.as_json(),
            "accounts": asdict(Accounts()),
            "sample": [],
            "details": books.as_json(),
        }

    # What sessions tell

    def opened(self, session: Session, opened: pb.LiveOpened) -> None:
        """It may be sent to."""
        if self._recorder is not None and session.books.number == 0:
            self._recorder.begin(opened)
        self._settle(session)

    def ended(self, session: Session) -> None:
        """It is not there any more, or will never be."""
        self._settle(session)

    def heard(self, latency: float) -> None:
        """A result."""
        if self._begun:
            self.figures.frame_heard(self.now(), latency)

    def _settle(self, session: Session) -> None:
        self._opening.discard(session)
        if not self._opening:
            self._all_open.set()

    # Coming and going

    async def _open(self) -> None:
        plan, live = self._plan, self.live
        connections = min(live.connections, live.sessions)
        mine = {number: LiveConnection(self, number) for number in range(plan.index, connections, plan.of)}
        self._connections = list(mine.values())
        for begin in range(0, len(self._connections), OPENED_AT_ONCE):
            some = self._connections[begin : begin + OPENED_AT_ONCE]
            await asyncio.gather(*(connection.open() for connection in some))
        if not self.model and self._connections:
            self.model = await self._connections[0].stream_model()
        for number in range(live.sessions):
            connection = mine.get(number % connections)
            if connection is not None:
                session = Session(number, connection)
                connection.sessions.append(session)
                self._sessions.append(session)
        self._opening = set(self._sessions)
        for session in self._sessions:
            session.open()
        try:
            await within(self.clock, OPENING_TIME, _first(self._all_open, self._stop))
        except TimeoutError:
            for session in self._opening:
                session.books.problem = f"it was not opened within {OPENING_TIME:g} s"

    async def _close_sessions(self) -> None:
        for session in self._sessions:
            if session.handle is not None and session.connection.line.connected:
                session.handle.close()
        until = self.now() + STOP_TIME
        while self.now() < until and any(
            session.handle is not None and not session.handle.over and session.connection.line.connected
            for session in self._sessions
        ):
            await pause(self.clock, 0.02)

    # Frames

    async def _play(self, until: float) -> None:
        """Send what is due until then."""
        for session in self._sessions:
            session.counter.begin(self.now())
        if not self.live.source:
            self._queue = [(self._first_due(session), session.books.number, session) for session in self._sessions]
            heapq.heapify(self._queue)
        while self.now() < until and not self._stop.is_set():
            wait = until - self.now()
            if self._queue:
                wait = min(wait, self._queue[0][0] - time.time())
            if wait > 0:
                await self._pause(wait)
            self._send_due()

    def _send_due(self) -> None:
        now = time.time()
        together: dict[LiveConnection, list[pb.Envelope]] = {}
        while self._queue and self._queue[0][0] <= now + SLOT:
            due, number, session = heapq.heappop(self._queue)
            connection = session.connection
            envelope = session.next_frame(int((due + connection.offset) * 1e6))
            if envelope is None:
                session.books.skipped += 1
            else:
                if self._recorder is not None and number == 0:
                    self._recorder.add(envelope.live_frame)
                together.setdefault(connection, []).append(envelope)
                session.books.sent += 1
                self.figures.frame_sent(self.now(), max(0.0, now - due))
            heapq.heappush(self._queue, (self._next_due(session, due, now), number, session))
        for connection, envelopes in together.items():
            connection.send(envelopes)

    def _first_due(self, session: Session) -> float:
        """The next moment of a session's own rhythm."""
        period = 1 / self.live.rate
        if self.live.aligned:
            return self._before_tick(session, time.time() + period)
        return time.time() + period * (1 + session.books.number / self.live.sessions)

    def _next_due(self, session: Session, due: float, now: float) -> float:
        period = 1 / self.live.rate
        coming = due + period
        if coming < now - period:  # the bots were held up: what they missed is not sent in a burst
            missed = int((now - coming) / period)
            session.books.skipped += missed
            coming += missed * period
        return self._before_tick(session, coming) if self.live.aligned else coming

    def _before_tick(self, session: Session, moment: float) -> float:
        """The moment nearest to that one which is `lead_seconds` before a tick."""
        phase, offset = session.connection.phase, session.connection.offset
        if phase is None or self.live.rate * phase.period > FASTEST:
            return moment
        after = moment + offset + self.live.lead_seconds - phase.period / 2
        return phase.next_tick(after * 1e6) / 1e6 - self.live.lead_seconds - offset

    # Time

    async def _until(self, moment: float) -> None:
        while (left := moment - self.now()) > 0 and not self._stop.is_set():
            await self._pause(left)

    async def _pause(self, seconds: float) -> None:
        """So long, or until the run is stopped."""
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = self.clock.callLater(min(seconds, 0.25), over.set_result, None)  # looks at `stop` now and then
        try:
            await over
        finally:
            if timer.active():
                timer.cancel()


async def _first(*events: asyncio.Event) -> None:
    """Until one of them is set."""
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waiting:
            one.cancel()
