"""One source that is open: read on a thread, each frame handed to all who listen when it is due, until its end or theirs.

read → wait until due → hand on → read → …          nobody listens any more → close
                                 ├ failed → close, wait, open again (a camera, for `retry_seconds`) → read → …
                                 └ ended, failed, silent → the last listeners are told, once
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import structlog

from server.clock import Clock, Pauses, within
from server.errors import Code
from server.futures import Tasks
from server.interfaces import Pool
from server.live.sources.reading import Reader, SourceFailed, SourceFrame, Timed

T = TypeVar("T")
log = structlog.get_logger("atelier.live")

SILENCE = 10.0  # seconds without a frame after which a camera is given up: cables, and drivers that hang
LATE = 0.5  # seconds behind its times from which a source goes on from now, and not faster than it was made
LAST_RESULT = 0.5  # seconds between the last frame and the end, so that it has its tick and its result
TRIED_EVERY = 0.5  # seconds, a camera that has failed


class SourceListener(Protocol):
    """A live session that has its frames from a source. Called on the reactor thread; must not raise."""

    def source_frame(self, frame: SourceFrame) -> None:
        """A frame, with `captured_us`."""
        ...

    def source_ended(self, code: Code, message: str) -> None:
        """There are no more: OK at the source's end, UNAVAILABLE where it failed. The last call."""
        ...


class Player:
    """Plays an open reader to whoever listens, from the first of them on. `on_over` is called when the reader is closed."""

    def __init__(
        self, name: str, reader: Reader, clock: Clock, pool: Pool, *, retry_seconds: float, on_over: Callable[[], None]
    ) -> None:
        self.name = name
        self._reader = reader
        self._clock = clock
        self._pool = pool
        self._retry_seconds = retry_seconds
        self._on_over = on_over
        self._listeners: list[SourceListener] = []
        self._pauses = Pauses(clock)
        self._began: float | None = None  # at which a frame that is due at 0 is handed on
        self._blocked: asyncio.Future[None] | None = None  # a thread that does not come back
        self._frames = 0
        self._playing = False
        self.over = asyncio.Event()  # it is closed

    @property
    def closing(self) -> bool:
        """Whether nobody can listen any more."""
        return self._pauses.stopped

    def listen(self, listener: SourceListener, tasks: Tasks) -> Callable[[], None]:
        """Hand frames to one more; the answer ends that."""
        self._listeners.append(listener)
        if not self._playing:
            self._playing = True
            tasks.start(self._play())

        def stop() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)
                if not self._listeners:
                    self._pauses.stop()

        return stop

    async def _play(self) -> None:
        code, message = Code.OK, f"the source {self.name} has ended"
        try:
            await self._read_all()
        except SourceFailed as error:
            code, message = Code.UNAVAILABLE, f"the source {self.name} failed: {error}"
        except Exception:
            log.exception("source.broken", source=self.name)
            code, message = Code.INTERNAL_ERROR, f"the source {self.name} erred; the server's log says how"
        self._end(code, message)
        if self._blocked is not None:
            await asyncio.wait([self._blocked])
        try:
            await self._pool.run(self._reader.close)
        except Exception as error:  # whatever a driver does when its device is gone
            log.warning("source.not_closed", source=self.name, reason=str(error))
        self.over.set()
        self._on_over()

    async def _read_all(self) -> None:
        while self._listeners:
            try:
                timed = await self._in_time(self._reader.read)
            except SourceFailed as error:
                await self._again(error)
                continue
            if timed is None:
                await self._pauses.take(LAST_RESULT)
                return
            await self._wait(timed)
            self._hand_on(timed.frame)

    async def _in_time(self, work: Callable[[], T]) -> T:
        """What a thread gives. Raises SourceFailed, also when it gives nothing for long; the thread is then left to it."""
        working = asyncio.ensure_future(self._pool.run(work))
        done = asyncio.ensure_future(_settled(working))
        try:
            await within(self._clock, SILENCE, _settled(done))
        except TimeoutError:
            self._blocked, self._retry_seconds = done, 0.0
            raise SourceFailed(f"it gave no frame for {SILENCE:g} s") from None
        return working.result()

    async def _wait(self, timed: Timed) -> None:
        if timed.due is None:
            return
        if self._began is None:
            self._began = self._clock.seconds() - timed.due
        ahead = self._began + timed.due - self._clock.seconds()
        if ahead > 0:
            await self._pauses.take(ahead)
        elif ahead < -LATE:
            self._began -= ahead

    def _hand_on(self, frame: SourceFrame) -> None:
        if not frame.captured_us:
            frame = replace(frame, captured_us=int(self._clock.seconds() * 1_000_000))
        self._frames += 1
        for listener in tuple(self._listeners):
            listener.source_frame(frame)

    async def _again(self, error: SourceFailed) -> None:
        """Open it again, as long as that is worth trying. Raises SourceFailed."""
        log.warning("source.failed", source=self.name, reason=str(error), frames=self._frames)
        until = self._clock.seconds() + self._retry_seconds
        while self._clock.seconds() < until and await self._pauses.take(TRIED_EVERY):
            await self._pool.run(self._reader.close)
            try:
                await self._in_time(self._reader.open)
            except SourceFailed as again:
                error = again
                if self._blocked is not None:
                    break
                continue
            log.info("source.back", source=self.name)
            return
        if self._listeners:
            raise error

    def _end(self, code: Code, message: str) -> None:
        if code is not Code.OK and self._listeners:
            log.error("source.ended", source=self.name, reason=message, frames=self._frames)
        self._pauses.stop()
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener.source_ended(code, message)


async def _settled(work: asyncio.Future[Any]) -> None:
    """Until it is done, however; it is not cancelled with the waiting."""
    await asyncio.wait([work])
    if not work.cancelled():
        work.exception()  # that somebody has seen, also when nobody waits for it any more
