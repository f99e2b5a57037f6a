"""One stream model's sessions and its ticks: thirty times a second the newest frame of each, together.

A tick that is still running when the next is due makes that one be skipped, and counted; nothing is queued. The ticks' phase does
not move: tick n begins n periods after the first.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from ai.live.manifests import Manifest
from ai.live.packing import FIT, Ran
from server.clock import Clock, Timer
from server.errors import Code, Refusal
from server.live.events import Frame, LiveClosed, LiveOpened, LiveResult, StreamModel
from server.live.numbers import Counts, StageNumbers
from server.live.runner import Runner, TickListener
from server.live.session import Session, Taken

log = structlog.get_logger("atelier.live")

MAX_UNFIT = (
    30  # frames in a row for which a session's model gives no numbers: a second of them, and it is not by chance
)

MakeRunner = Callable[[Manifest, TickListener], Runner]


class Stage:
    """Of one model; a `TickListener`. `idle_timeout`: seconds without a session after which its processes end."""

    def __init__(
        self,
        manifest: Manifest,
        clock: Clock,
        make_runner: MakeRunner,
        on_closed: Callable[[Session], None],
        *,
        idle_timeout: float,
    ) -> None:
        self.model = StreamModel(
            name=manifest.name,
            description=manifest.description,
            inputs=manifest.inputs,
            height=manifest.height,
            width=manifest.width,
            outputs=manifest.outputs,
            tick_hz=manifest.tick_hz,
        )
        self.counts = Counts()
        self._clock = clock
        self._period = 1.0 / manifest.tick_hz
        self._on_closed = on_closed
        self._idle_timeout = idle_timeout
        self._runner = make_runner(manifest, self)
        self._sessions: dict[int, Session] = {}  # by key
        self._pending: dict[int, Session] = {}  # those whose frame waits
        self._flight: list[tuple[Session, Taken]] | None = None  # the tick that is being run
        self._flight_at = 0.0
        self._ticks = 0
        self._opening = 0
        self._kept = False  # loaded whether or not there are sessions
        self._stopped = False
        self._next_at = 0.0
        self._timer: Timer | None = None  # to the next tick, while there are sessions
        self._idle: Timer | None = None  # to the processes' end, while there are none

    @property
    def numbers(self) -> StageNumbers:
        """What is told of it."""
        runner = self._runner
        return StageNumbers(
            self.model.name, len(self._sessions), runner.processes, runner.ready, runner.died, self.counts
        )

    async def load(self) -> None:
        """Return once sessions can be opened. Raises Refusal."""
        self._opening += 1
        try:
            await self._runner.load()
        finally:
            self._opening -= 1
            self._rest_later()

    async def keep(self) -> None:
        """Load it now, and never let it rest. Raises Refusal."""
        self._kept = True
        await self.load()

    def add(self, session: Session) -> None:
        """A session that begins."""
        self._sessions[session.key] = session
        if self._idle is not None and self._idle.active():
            self._idle.cancel()
        if self._timer is None:
            self._next_at = self._clock.seconds() + self._period
            self._timer = self._clock.callLater(self._period, self._tick)

    def opened(self, session: Session) -> LiveOpened:
        """As its client is told."""
        return LiveOpened(session.live_id, self.model, _microseconds(self._next_at))

    def frame(self, session: Session, frame: Frame) -> None:
        """Take a session's frame for the next tick. Raises Refusal (INVALID_PARAMETER)."""
        try:
            alone = session.take(frame, self._clock.seconds())
        except Refusal:
            self.counts.refused += 1
            raise
        self.counts.frames += 1
        self.counts.dropped += not alone
        if session.waiting is not None:
            self._pending[session.key] = session

    def close(self, session: Session, code: Code, message: str = "") -> LiveClosed:
        """End a session, and tell everybody."""
        closed = LiveClosed(session.live_id, code, message)
        del self._sessions[session.key]
        self._pending.pop(session.key, None)
        self._runner.forget(session.key)
        session.end(closed)
        self._on_closed(session)
        if not self._sessions and self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._rest_later()
        return closed

    async def stop(self, message: str) -> None:
        """End all sessions, and the processes."""
        self._stopped = True
        for session in tuple(self._sessions.values()):
            self.close(session, Code.UNAVAILABLE, message)
        if self._idle is not None and self._idle.active():
            self._idle.cancel()
        await self._runner.stop()

    # A TickListener

    def ran(self, ran: Ran) -> None:
        """Tell each session its result."""
        flight, self._flight = self._flight or [], None
        names, width = self.model.outputs, len(self.model.outputs)
        tick_us = _microseconds(self._flight_at)
        now = self._clock.seconds()
        for row, (session, taken) in enumerate(flight):
            if session.closed is not None:
                continue
            if ran.outcomes[row] != FIT:
                self._unfit(session)
                continue
            session.unfit = 0
            session.sequence += 1
            values = ran.values[row * width : (row + 1) * width]
            self.counts.results += 1
            self.counts.frame_times.add(now - taken.came_at)
            session.tell(
                LiveResult(
                    live_id=session.live_id,
                    number=taken.number,
                    captured_us=taken.captured_us,
                    names=names,
                    values=values,
                    tick_us=tick_us,
                    sequence=session.sequence,
                    dropped=session.dropped,
                    input_image=taken.image,
                )
            )
        self.counts.ticks += 1
        self.counts.run_times.add(ran.seconds)
        self.counts.tick_times.add(self._clock.seconds() - self._flight_at)

    def lost(self) -> None:
        """The states are gone; the frames that were being run wait again, unless there are newer ones."""
        flight = {session.key: taken for session, taken in self._flight or ()}
        self._flight = None
        for session in self._sessions.values():
            taken = flight.get(session.key)
            self.counts.dropped += not session.begins_anew(taken)
            if session.waiting is not None:
                self._pending[session.key] = session

    def failed(self, refusal: Refusal) -> None:
        """No session can go on."""
        self._flight = None
        for session in tuple(self._sessions.values()):
            self.close(session, Code.LIVE_FAILED, refusal.message)

    # Ticks

    def _tick(self) -> None:
        now = self._clock.seconds()
        late = int(max(0.0, now - self._next_at) / self._period)  # whole ticks that the reactor came too late for
        self._next_at += (late + 1) * self._period
        self._timer = self._clock.callLater(max(0.0, self._next_at - now), self._tick)
        if self._pending:
            self.counts.overruns += late
            self._run(now)

    def _run(self, now: float) -> None:
        if self._flight is not None:
            self.counts.overruns += 1
            return
        rows = [(one, one.waiting) for one in self._pending.values() if one.waiting is not None]
        self._ticks += 1
        sent = self._runner.tick(
            self._ticks & 0xFFFFFFFF,
            [session.key for session, _ in rows],
            [session.dt(taken) for session, taken in rows],
            [taken.packed for _, taken in rows],
        )
        if not sent:  # between two processes: what waits is run when there is one
            return
        for session, taken in rows:
            session.goes(taken)
        self._pending.clear()
        self._flight, self._flight_at = rows, now

    def _unfit(self, session: Session) -> None:
        self.counts.unfit += 1
        session.unfit += 1
        if session.unfit >= MAX_UNFIT:
            text = f"the model gave no finite numbers for {MAX_UNFIT} frames in a row"
            self.close(session, Code.LIVE_FAILED, text)

    def _rest_later(self) -> None:
        if (
            self._stopped
            or self._kept
            or self._sessions
            or self._opening
            or (self._idle is not None and self._idle.active())
        ):
            return
        self._idle = self._clock.callLater(self._idle_timeout, self._rest)

    def _rest(self) -> None:
        if not self._sessions and not self._opening:
            self._runner.rest()


def _microseconds(seconds: float) -> int:
    return int(seconds * 1_000_000)
