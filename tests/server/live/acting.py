"""A stream process that does what a test lets it, and a listener that remembers."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock

from ai.live.manifests import Manifest
from ai.live.packing import (
    FIT,
    FORGET,
    LOAD,
    READY,
    REFUSED,
    TICK,
    Messages,
    Packed,
    Tick,
    pack,
    pack_loaded,
    pack_ran,
    read_forget,
    read_tick,
)
from server.live.events import Frame, LiveClosed, LiveOpened, LiveResult, Source, Sources, StreamModel
from server.live.runner import ProcessListener, Runner, TickListener
from server.live.sessions import LiveLimits, Sessions
from tests.server.fakes import settle

FACE = Manifest(
    name="face", folder=Path("models/face"), inputs=("jaw", "smile"), outputs=("joy", "anger"), state=1, tick_hz=10.0
)
EYE = Manifest(name="eye", folder=Path("models/eye"), height=2, width=3, outputs=("open",), tick_hz=10.0)
PERIOD = 0.1  # seconds between their ticks
LIMITS = LiveLimits(sessions=5, sessions_per_owner=3, idle_timeout=60.0)


class FakeProcess:
    """Keeps what it is asked; a row's values are the sum of its inputs, and one more for each output."""

    def __init__(self, manifest: Manifest, listener: ProcessListener) -> None:
        self._manifest = manifest
        self._listener = listener
        self._messages = Messages()
        self.asked: list[Packed] = []
        self.unfit: set[int] = set()  # sessions for which it gives no numbers
        self.killed = False
        self.gone = False

    def send(self, data: bytes) -> None:
        assert not self.gone
        self.asked.extend(self._messages.receive(data))

    def kill(self) -> None:
        self.killed = True
        asyncio.get_running_loop().call_soon(self.end, "was ended by signal 9")

    def end(self, how: str = "was ended by signal 9") -> None:
        """It dies."""
        if not self.gone:
            self.gone = True
            self._listener.ended(how)

    def say(self, data: bytes) -> None:
        """Anything."""
        self._listener.heard(data)

    def begin(self) -> None:
        """It has imported everything, and then loads the model."""
        self.say(pack(READY))
        assert (self.asked[-1].kind, self.asked[-1].body.decode()) == (LOAD, str(self._manifest.folder))
        self.say(pack_loaded(0.5))

    def refuse(self, why: str) -> None:
        """The model is none."""
        self.say(pack(READY) + pack(REFUSED, why.encode()))

    @property
    def ticks(self) -> list[Tick]:
        """All that it was to run."""
        size = self._manifest.input_bytes
        return [read_tick(one.body, size) for one in self.asked if one.kind == TICK]

    @property
    def forgotten(self) -> list[int]:
        """Sessions whose state it was to drop."""
        return [session for one in self.asked if one.kind == FORGET for session in read_forget(one.body)]

    def run(self) -> Tick:
        """Run the last tick."""
        tick = self.ticks[-1]
        size, outputs = self._manifest.input_bytes, len(self._manifest.outputs)
        rows = [memoryview(tick.inputs)[at : at + size] for at in range(0, len(tick.inputs), size)]
        sums = [sum(row.cast("f") if self._manifest.inputs else row) for row in rows]
        values = array("f", [total + output for total in sums for output in range(outputs)])
        outcomes = bytes(1 if session in self.unfit else FIT for session in tick.sessions)
        self.say(pack_ran(tick.number, 0.001, outcomes, values.tobytes()))
        return tick


class Theatre:
    """Sessions on fake processes, and a clock that a test advances. Ids are live-1, live-2, …"""

    def __init__(
        self, *manifests: Manifest, spare: bool = True, limits: LiveLimits = LIMITS, sources: Sources | None = None
    ) -> None:
        self.clock: Any = Clock()
        self.clock.advance(1_000_000.0)
        self.processes: list[FakeProcess] = []
        self.unstartable = 0  # how many of the next cannot be begun
        self._spare = spare
        self._ids = 0
        self.sessions = Sessions(
            manifests or (FACE, EYE), self.clock, limits, self._runner, new_id=self._new_id, sources=sources
        )

    def _new_id(self) -> str:
        self._ids += 1
        return f"live-{self._ids}"

    def _runner(self, manifest: Manifest, listener: TickListener) -> Runner:
        def launch(process_listener: ProcessListener) -> FakeProcess:
            if self.unstartable:
                self.unstartable -= 1
                raise OSError("no process can be begun")
            process = FakeProcess(manifest, process_listener)
            self.processes.append(process)
            return process

        return Runner(manifest, launch, self.clock, listener, spare=self._spare, tick_timeout=2.0, load_timeout=30.0)

    async def opened(self, owner: str = "ada", model: str = "face", **wishes: Any) -> tuple[LiveOpened, Heard]:
        """A session on a process that runs, and who follows it."""
        opening = asyncio.ensure_future(self.sessions.open(owner, model, **wishes))
        await settle()
        if not opening.done():
            self.processes[-1].begin()
            await settle()
        opened = opening.result()
        heard = Heard()
        self.sessions.watch(owner, opened.live_id, heard)
        return opened, heard

    def frame(self, opened: LiveOpened, number: int, *values: float, **fields: Any) -> None:
        """A frame of Ada's."""
        self.sessions.frame("ada", opened.live_id, Frame(number, values=values, **fields))

    def tick(self) -> None:
        """Let the next tick come."""
        self.clock.advance(PERIOD)


class Heard:
    """A `LiveListener`."""

    def __init__(self) -> None:
        self.results: list[LiveResult] = []
        self.closed: list[LiveClosed] = []

    def live_result(self, result: LiveResult) -> None:
        assert not self.closed, "nothing comes after the end"
        self.results.append(result)

    def live_closed(self, closed: LiveClosed) -> None:
        self.closed.append(closed)

    @property
    def numbers(self) -> Sequence[int]:
        """Of the frames whose results were heard."""
        return [result.number for result in self.results]


class FakeSource:
    """A `Source` that a test pushes."""

    def __init__(self) -> None:
        self.push: Any = None
        self.ended: Any = None
        self.stopped = False

    def start(self, model: StreamModel, push: Any, ended: Any) -> None:
        self.push, self.ended = push, ended

    def stop(self) -> None:
        self.stopped = True


class OneSource:
    """`Sources` with one, of whatever name."""

    def __init__(self) -> None:
        self.source = FakeSource()

    def find(self, name: str, model: StreamModel, owner: str) -> Source:
        return self.source
