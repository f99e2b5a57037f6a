"""The sources that the operator has configured: who may have frames of which, and how many read one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from config.sources import SourcePlan
from server.clock import Clock, within
from server.errors import Code, Refusal
from server.futures import Tasks
from server.interfaces import Pool
from server.live.events import Frame, Source, StreamModel
from server.live.sources.camera import CameraReader
from server.live.sources.folder import FolderReader
from server.live.sources.playing import SILENCE, Player, SourceListener
from server.live.sources.reading import Reader, Shape, SourceFailed, SourceFrame
from server.live.sources.recording import RecordingReader

CLOSING = 2.0  # seconds for what is being read at the end
SOON = 1.0  # seconds after which a camera that is being closed may be asked for again


@dataclass(frozen=True, slots=True)
class _Camera:
    """One that is open, or being opened, for pictures of one size."""

    shape: Shape
    opening: asyncio.Task[Player]


class Sources:
    """Opens sources for live sessions. A camera is read once for all who listen; others are played to each from the beginning."""

    def __init__(self, plans: Mapping[str, SourcePlan], clock: Clock, pool: Pool) -> None:
        self._plans = plans
        self._clock = clock
        self._pool = pool
        self._tasks = Tasks()
        self._cameras: dict[str, _Camera] = {}
        self._stops: set[Callable[[], None]] = set()
        self._playing: set[Player] = set()

    def find(self, name: str, model: StreamModel, owner: str) -> Source:
        """One for a session of this owner's. Raises Refusal (INVALID_PARAMETER): none of that name, or not for that model."""
        self._plan(name, owner, _shape(model))
        return SessionSource(self, name, owner, self._tasks)

    async def open(self, name: str, owner: str, shape: Shape, listener: SourceListener) -> Callable[[], None]:
        """Let a session have a source's frames; the answer stops that, and may be called at any time.

        Raises Refusal: INVALID_PARAMETER for a source that is not there for this owner, or does not fit the model, UNAVAILABLE
        for one that cannot be opened now.
        """
        plan = self._plan(name, owner, shape)
        player = await (self._camera(plan, shape) if plan.kind == "camera" else self._opened(plan, shape))
        stop_listening = player.listen(listener, self._tasks)
        self._playing.add(player)

        def stop() -> None:
            self._stops.discard(stop)
            stop_listening()

        self._stops.add(stop)
        return stop

    async def close(self) -> None:
        """Stop all, at the server's end, and wait until they are closed; a thread that a driver holds is left to it."""
        for stop in tuple(self._stops):
            stop()
        with suppress(TimeoutError):
            await within(self._clock, CLOSING, _closed(tuple(self._playing)))

    def _plan(self, name: str, owner: str, shape: Shape) -> SourcePlan:
        plan = self._plans.get(name)
        if plan is None or (plan.owners and owner not in plan.owners):
            raise Refusal.invalid("source", "one that the operator has configured for you, or empty", name)
        if plan.kind != "recording" and not shape.pictures:
            raise Refusal.invalid("source", "a recording, since the model takes values and no pictures", name)
        return plan

    async def _camera(self, plan: SourcePlan, shape: Shape) -> Player:
        camera = self._cameras.get(plan.name)
        if camera is None:
            opening = asyncio.ensure_future(self._opened(plan, shape))
            camera = self._cameras[plan.name] = _Camera(shape, opening)
            opening.add_done_callback(lambda done: self._opened_or_not(plan.name, done))
        if camera.shape != shape:
            size = f"{camera.shape.width} × {camera.shape.height}"
            raise _unavailable(plan.name, f"it is in use for a model of other pictures, {size}")
        player = await asyncio.shield(camera.opening)
        if player.closing:
            raise _unavailable(plan.name, "it is being closed", SOON)
        return player

    async def _opened(self, plan: SourcePlan, shape: Shape) -> Player:
        reader = READERS[plan.kind](plan, shape, self._clock)
        try:
            await within(self._clock, SILENCE, self._pool.run(reader.open))
        except SourceFailed as error:
            await self._pool.run(reader.close)
            raise _unavailable(plan.name, str(error)) from None
        except TimeoutError:
            raise _unavailable(plan.name, f"it could not be opened within {SILENCE:g} s") from None
        player = Player(
            plan.name, reader, self._clock, self._pool, retry_seconds=plan.retry_seconds,
            on_over=lambda: self._over(plan, player),
        )  # fmt: skip
        return player

    def _opened_or_not(self, name: str, opening: asyncio.Task[Player]) -> None:
        if opening.cancelled() or opening.exception() is not None:
            self._forget(name)

    def _over(self, plan: SourcePlan, player: Player) -> None:
        self._playing.discard(player)
        if plan.kind == "camera":
            self._forget(plan.name)

    def _forget(self, name: str) -> None:
        self._cameras.pop(name, None)


async def _closed(players: Sequence[Player]) -> None:
    for player in players:
        await player.over.wait()


class SessionSource:
    """A source for one session, from `start` to `stop`. It is opened aside: what cannot be opened has ended."""

    def __init__(self, sources: Sources, name: str, owner: str, tasks: Tasks) -> None:
        self._sources = sources
        self._name = name
        self._owner = owner
        self._tasks = tasks
        self._push: Callable[[Frame], None] = _nobody
        self._ended: Callable[[str], None] = _nobody
        self._number = 0
        self._stop_listening: Callable[[], None] | None = None
        self._stopped = False

    def start(self, model: StreamModel, push: Callable[[Frame], None], ended: Callable[[str], None]) -> None:
        """Push its frames, numbered from 1; `ended` hears why there are no more, "" where it was over."""
        self._push, self._ended = push, ended
        self._tasks.start(self._open(_shape(model)))

    def stop(self) -> None:
        """Push no more."""
        self._stopped = True
        self._push = self._ended = _nobody
        if self._stop_listening is not None:
            self._stop_listening()

    def source_frame(self, frame: SourceFrame) -> None:
        """As the player gives it."""
        self._number += 1
        self._push(Frame(self._number, frame.captured_us, frame.values, frame.image))

    def source_ended(self, code: Code, message: str) -> None:
        """As the player says."""
        self._ended("" if code is Code.OK else message)

    async def _open(self, shape: Shape) -> None:
        try:
            stop = await self._sources.open(self._name, self._owner, shape, self)
        except Refusal as refusal:
            self._ended(refusal.message)
            return
        self._stop_listening = stop
        if self._stopped:
            stop()


def _shape(model: StreamModel) -> Shape:
    return Shape(model.inputs, model.width, model.height)


def _nobody(said: object) -> None:
    """The session is over."""


def _camera(plan: SourcePlan, shape: Shape, clock: Clock) -> Reader:
    return CameraReader(plan.place, shape, now=clock.seconds, rate=plan.rate, repeat=plan.repeat)


def _folder(plan: SourcePlan, shape: Shape, clock: Clock) -> Reader:
    return FolderReader(Path(plan.place), shape, rate=plan.rate, repeat=plan.repeat)


def _recording(plan: SourcePlan, shape: Shape, clock: Clock) -> Reader:
    return RecordingReader(Path(plan.place), shape, rate=plan.rate, repeat=plan.repeat)


READERS: Mapping[str, Callable[[SourcePlan, Shape, Clock], Reader]] = {
    "camera": _camera, "folder": _folder, "recording": _recording,
}  # fmt: skip
"""What opens each kind."""


def _unavailable(name: str, why: str, retry_after: float = 0.0) -> Refusal:
    text = f"the source {name} cannot be opened now: {why}"
    return Refusal(Code.UNAVAILABLE, text, field="source", retry_after_seconds=retry_after)
