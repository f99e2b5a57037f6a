"""Jobs' events for whoever listens over HTTP, in memory that does not grow: a slow reader hears the latest Progress, the latest
Preview of each image, and always the end.

A listener waits on one future and has no timer of its own: who has nothing to hear is nudged by one that all share, so that
it can show its client that we live.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Protocol, Self

from server.clock import Clock, Timer
from server.events import Event, Preview, Progress, TerminalEvent
from server.jobs.board import Board
from server.latest import LatestEvents, Most

SHARES = 15  # of all listeners; one is nudged at a time, so that thousands do not speak up in the same moment


class Ear(Protocol):
    """Somebody who listens, as all of them are kept. `share` is theirs to set."""

    share: int

    def let_go(self) -> None:
        """Hear no more of what has not ended."""
        ...

    def nudge(self) -> None:
        """If there is nothing to say, say that."""
        ...


class Hearing(Protocol):
    """What a client may be told from: a Listener, or one at several jobs (server.doors.http.choir)."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    @property
    def ended(self) -> bool:
        """Whether all has been heard here."""
        ...

    @property
    def over(self) -> bool:
        """Whether nothing more is to be told."""
        ...

    async def next(self) -> Most | TerminalEvent | None:
        """The next event; None where it is over, or where a nudge came first."""
        ...

    def let_go(self) -> None:
        """Hear no more of what has not ended."""
        ...


class Attention:
    """What one who listens waits with: one future, and no timer; a nudge ends the wait where there is nothing to say."""

    __slots__ = ("_gone", "_nudged", "_waiting", "share")

    def __init__(self) -> None:
        self.share = 0  # everyone's own
        self._waiting: asyncio.Future[None] | None = None
        self._nudged = False
        self._gone = False

    @property
    def over(self) -> bool:
        """Whether nothing more is to be told."""
        raise NotImplementedError

    def take(self) -> Most | TerminalEvent | None:
        """What is to be told next; None where there is nothing now."""
        raise NotImplementedError

    async def next(self) -> Most | TerminalEvent | None:
        """The next event; None where it is `over`, or where a nudge came first."""
        while True:
            event = self.take()
            if event is not None:
                return event
            if self._nudged or self.over:
                self._nudged = False
                return None
            self._waiting = asyncio.get_running_loop().create_future()
            try:
                await self._waiting
            finally:
                self._waiting = None

    def let_go(self) -> None:
        """Hear no more of what has not ended: the client is gone, or we are."""
        self._gone = True
        self.wake()

    def nudge(self) -> None:
        """If there is nothing to say, say that."""
        if self._waiting is not None:
            self._nudged = True
            self.wake()

    def wake(self) -> None:
        """There may be something to say."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


class Unsaid:
    """What a client has still to be told of one job."""

    __slots__ = ("_events", "_previews", "_progress", "told_end")

    def __init__(self, *, progress: bool, previews: bool) -> None:
        self._events = LatestEvents()
        self._progress = progress
        self._previews = previews
        self.told_end = False

    @property
    def ended(self) -> bool:
        """Whether the job has, as far as was heard here."""
        return self._events.terminal is not None

    def add(self, event: Event) -> bool:
        """Take one event of the job; whether it is to be told."""
        if isinstance(event, Progress) and not self._progress:
            return False
        if isinstance(event, Preview) and not self._previews:
            return False
        self._events.add(event)
        return True

    def take(self) -> Most | TerminalEvent | None:
        """Its next event; None where there is none yet, or no more."""
        event = self._events.take()
        if event is None and self.ended and not self.told_end:
            self.told_end = True
            return self._events.terminal
        return event


class Listener(Attention):
    """One client's ear at one job; use it as an asynchronous context manager, and iterate over the events."""

    __slots__ = ("_board", "_everyone", "_from_event", "_unsaid", "job_id")

    def __init__(
        self,
        board: Board,
        everyone: Listeners,
        job_id: str,
        from_event: int = 0,
        *,
        progress: bool = True,
        previews: bool = True,
    ) -> None:
        super().__init__()
        self.job_id = job_id
        self._board = board
        self._everyone = everyone
        self._from_event = from_event
        self._unsaid = Unsaid(progress=progress, previews=previews)

    async def __aenter__(self) -> Self:
        self._everyone.add(self)
        try:
            await self._board.follow(self.job_id, self, self._from_event)
        except BaseException:
            self._everyone.discard(self)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._board.leave(self.job_id, self)
        self._everyone.discard(self)

    def job_event(self, event: Event) -> None:
        """Take one event of the job."""
        if self._unsaid.add(event):
            self.wake()

    @property
    def ended(self) -> bool:
        """Whether the job has, as far as was heard here."""
        return self._unsaid.ended

    @property
    def over(self) -> bool:
        """Whether nothing more is to be heard: the end was told, or the listener was let go."""
        return self._unsaid.told_end or (self._gone and not self.ended)

    def take(self) -> Most | TerminalEvent | None:
        """The job's next event."""
        return self._unsaid.take()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Most | TerminalEvent:
        while (event := await self.next()) is None:
            if self.over:
                raise StopAsyncIteration
        return event


class Listeners:
    """All of them. Each is nudged once in `every` seconds, by a timer that runs while there are any."""

    def __init__(self, clock: Clock, every: float) -> None:
        self._clock = clock
        self._pause = every / SHARES
        self._shares: list[set[Ear]] = [set() for _ in range(SHARES)]
        self._turn = 0
        self._added = 0
        self._timer: Timer | None = None
        self._leaving = False

    def __len__(self) -> int:
        return sum(map(len, self._shares))

    def add(self, listener: Ear) -> None:
        """Here is one more."""
        self._added += 1
        listener.share = self._added % SHARES
        self._shares[listener.share].add(listener)
        if self._leaving:
            listener.let_go()
        elif self._timer is None:
            self._timer = self._clock.callLater(self._pause, self._nudge_some)

    def discard(self, listener: Ear) -> None:
        """It has left."""
        self._shares[listener.share].discard(listener)

    def leave(self) -> None:
        """The server stops: what has ended is still told, nothing else is waited for."""
        self._leaving = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for share in self._shares:
            for listener in tuple(share):
                listener.let_go()

    def _nudge_some(self) -> None:
        self._timer = None
        self._turn = (self._turn + 1) % SHARES
        for listener in self._shares[self._turn]:
            listener.nudge()
        if len(self):
            self._timer = self._clock.callLater(self._pause, self._nudge_some)
