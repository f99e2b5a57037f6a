"""Keeps a stream model's process at work, and another ready beside it: when one dies the other goes on, and a third is begun.

A process needs seconds to begin (it imports torch); sessions must not wait for that. The first is begun when the first session is
opened.

    begun → READY → LOAD → LOADED → TICK, RAN, TICK, RAN, …
                         → REFUSED: the model is none; who opens a session has it looked at again
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from ai.live.manifests import Manifest
from ai.live.packing import (
    LOAD,
    LOADED,
    RAN,
    READY,
    REFUSED,
    Messages,
    Packed,
    PackingError,
    Ran,
    pack,
    pack_forget,
    pack_tick,
    read_loaded,
    read_ran,
)
from server.clock import Clock, Timer
from server.errors import Code, Refusal

log = structlog.get_logger("atelier.live")

STRIKES = 3  # processes in a row that end in a tick, or before they have loaded: then it is the model
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 30.0  # seconds before one that died is begun again; doubled where it did so young
YOUNG = 10.0  # seconds


class ProcessListener(Protocol):
    """Who hears a process."""

    def heard(self, data: bytes) -> None:
        """Some of what it says."""
        ...

    def ended(self, how: str) -> None:
        """It is gone."""
        ...


class StreamProcess(Protocol):
    """One that was begun."""

    def send(self, data: bytes) -> None:
        """Ask it something; kept until it reads. Does nothing once it is gone."""
        ...

    def kill(self) -> None:
        """End it at once; `ended` follows."""
        ...


Launch = Callable[[ProcessListener], StreamProcess]
"""Begins a process. Raises OSError."""


class TickListener(Protocol):
    """Who has the model's ticks run."""

    def ran(self, ran: Ran) -> None:
        """A tick has been run."""
        ...

    def lost(self) -> None:
        """The process is gone, with every session's state, and with the tick that it was at."""
        ...

    def failed(self, refusal: Refusal) -> None:
        """The model ends process after process, or is none any more. It is not tried again until somebody opens a session."""
        ...


class Runner:
    """Of one model. `tick_timeout` and `load_timeout` are seconds; with `spare` a second process stands by."""

    def __init__(
        self,
        manifest: Manifest,
        launch: Launch,
        clock: Clock,
        listener: TickListener,
        *,
        spare: bool = True,
        tick_timeout: float = 2.0,
        load_timeout: float = 60.0,
    ) -> None:
        self._manifest = manifest
        self._launch = launch
        self._clock = clock
        self._listener = listener
        self._keeps_spare = spare
        self._tick_timeout = tick_timeout
        self._load_timeout = load_timeout
        self._active: _Process | None = None
        self._spare: _Process | None = None
        self._wanted = False
        self._strikes = 0
        self._pause = FIRST_PAUSE
        self._timer: Timer | None = None  # until the next is begun
        self._waiting: list[asyncio.Future[None]] = []  # who wants the model loaded
        self._gone: list[asyncio.Future[None]] = []  # who wants all processes to be gone
        self._ending: set[_Process] = set()  # that were killed, and are not gone yet
        self.died = 0  # processes that ended unasked

    @property
    def processes(self) -> int:
        """How many there are."""
        return sum(one is not None for one in (self._active, self._spare))

    @property
    def ready(self) -> int:
        """How many of them have loaded the model: one works, another stands by."""
        return sum(one is not None and one.loaded for one in (self._active, self._spare))

    async def load(self) -> None:
        """Return once ticks can be run. Raises Refusal (MODEL_LOAD_FAILED, UNAVAILABLE)."""
        if self._active is not None and self._active.loaded:
            return
        loaded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(loaded)
        self._wanted = True
        self._keep_going()
        await loaded

    def tick(self, number: int, sessions: Sequence[int], dt: Sequence[float], inputs: Sequence[bytes]) -> bool:
        """Have a batch run; False where no process can now."""
        active = self._active
        if active is None or not active.loaded or active.ticking:
            return False
        active.ticking = True
        active.by(self._tick_timeout, "tick")
        active.send(pack_tick(number, sessions, dt, inputs))
        return True

    def forget(self, session: int) -> None:
        """It has ended."""
        if self._active is not None and self._active.loaded:
            self._active.send(pack_forget([session]))

    def rest(self) -> None:
        """End the processes; none is begun until the next `load`."""
        self._rest(Refusal(Code.UNAVAILABLE, "the server is stopping", retry_after_seconds=5.0))

    async def stop(self) -> None:
        """End the processes, and wait until they are gone."""
        self.rest()
        if self._ending:
            gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._gone.append(gone)
            await gone

    # What processes say

    def heard(self, process: _Process, message: Packed) -> None:
        """A whole message. Raises PackingError for one that is not expected."""
        if process in self._ending:
            return
        if message.kind == READY:
            process.send(pack(LOAD, str(self._manifest.folder).encode()))
        elif message.kind == LOADED and not process.loaded:
            self._loaded(process, read_loaded(message.body))
        elif message.kind == REFUSED and not process.loaded:
            self._refused(process, message.body.decode(errors="replace"))
        elif message.kind == RAN and process.ticking:
            ran = read_ran(message.body, len(self._manifest.outputs))
            process.ticking, self._strikes = False, 0
            process.in_time()
            if process is self._active:
                self._listener.ran(ran)
        else:
            raise PackingError(f"a message of kind {message.kind}")

    def ended(self, process: _Process, how: str) -> None:
        """A process is gone."""
        if process in self._ending:
            self._ending.discard(process)
            if not self._ending:
                gone, self._gone = self._gone, []
                for one in gone:
                    one.set_result(None)
            return
        self.died += 1
        log.error("live.process_ended", model=self._manifest.name, how=how, spare=process is self._spare)
        young = self._clock.seconds() - process.began_at < YOUNG
        self._pause = min(2 * self._pause, LONGEST_PAUSE) if young else FIRST_PAUSE
        if process is self._spare:
            self._spare = None
        else:
            self._active, self._spare = self._spare, None
            self._strikes += process.ticking or not process.loaded
            if process.loaded:
                self._listener.lost()
        if self._strikes >= STRIKES:
            text = f"the stream model {self._manifest.name} has ended {STRIKES} processes: the last {how}"
            self._give_up(Refusal(Code.MODEL_LOAD_FAILED, text, field="model", retry_after_seconds=60.0))
        if self._active is not None and self._active.loaded:
            self._answer(None)
        self._keep_going()

    def _loaded(self, process: _Process, seconds: float) -> None:
        process.loaded = True
        process.in_time()
        log.info("live.loaded", model=self._manifest.name, seconds=round(seconds, 3), spare=process is self._spare)
        if process is self._active:
            self._answer(None)
        self._keep_going()

    def _refused(self, process: _Process, why: str) -> None:
        log.error("live.refused", model=self._manifest.name, reason=why)
        if process is self._spare:  # its file was changed; those that run go on with what they have
            self._keeps_spare = False
            self._spare = None
            self._end(process)
        else:
            self._give_up(Refusal(Code.MODEL_LOAD_FAILED, why, field="model"))

    def _give_up(self, refusal: Refusal) -> None:
        self._strikes = 0
        self._rest(refusal)
        self._listener.failed(refusal)

    def _rest(self, refusal: Refusal) -> None:
        """Have no process, and begin none."""
        self._wanted = False
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        for process in (self._active, self._spare):
            if process is not None:
                self._end(process)
        self._active = self._spare = None
        self._answer(refusal)

    def _end(self, process: _Process) -> None:
        self._ending.add(process)
        process.in_time()
        process.kill()

    def _answer(self, refusal: Refusal | None) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if one.done():
                continue
            if refusal is None:
                one.set_result(None)
            else:
                one.set_exception(refusal)

    # Beginning

    def _keep_going(self) -> None:
        """Begin what is missing: a process where there is none, and a spare one once the first has loaded."""
        if not self._wanted or (self._timer is not None and self._timer.active()):
            return
        if self._active is None and self._pause == FIRST_PAUSE:
            self._begin()
        elif self._active is None or (self._active.loaded and self._keeps_spare and self._spare is None):
            self._timer = self._clock.callLater(self._pause, self._begin)

    def _begin(self) -> None:
        try:
            process = _Process(self, self._clock, self._launch)
        except OSError as error:
            log.error("live.not_begun", model=self._manifest.name, reason=str(error))
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            self._timer = self._clock.callLater(self._pause, self._begin)
            return
        if self._active is None:
            self._active = process
        else:
            self._spare = process
        process.by(self._load_timeout, "load")


class _Process:
    """One process, from beginning to end; a `ProcessListener`."""

    def __init__(self, runner: Runner, clock: Clock, launch: Launch) -> None:
        self._runner = runner
        self._clock = clock
        self._messages = Messages()
        self.began_at = clock.seconds()
        self.loaded = False
        self.ticking = False
        self._late: Timer | None = None
        self._process = launch(self)

    def heard(self, data: bytes) -> None:
        """Some of what it says; one that speaks otherwise is ended."""
        try:
            for message in self._messages.receive(data):
                self._runner.heard(self, message)
        except PackingError as error:
            log.error("live.garbled", reason=str(error))
            self.kill()

    def ended(self, how: str) -> None:
        """It is gone."""
        self.in_time()
        self._runner.ended(self, how)

    def send(self, data: bytes) -> None:
        """Ask it something."""
        self._process.send(data)

    def kill(self) -> None:
        """End it."""
        self._process.kill()

    def by(self, seconds: float, what: str) -> None:
        """It has to answer by then, or is killed."""
        self.in_time()
        self._late = self._clock.callLater(seconds, self._too_late, what, seconds)

    def in_time(self) -> None:
        """It has answered."""
        if self._late is not None and self._late.active():
            self._late.cancel()
        self._late = None

    def _too_late(self, what: str, seconds: float) -> None:
        log.error("live.hangs", at=what, seconds=seconds)
        self._late = None
        self.kill()
