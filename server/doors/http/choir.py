"""One listener at many jobs: all of them in turn, so that none drowns the others, each in memory that does not grow."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from server.doors.http.following import Listeners
from server.events import Accepted, Event, Preview, Progress, TerminalEvent
from server.jobs.board import Board
from server.latest import LatestEvents


class Voice:
    """One job of it: what it has still to say."""

    __slots__ = ("_choir", "from_event", "in_line", "job_id", "told_end", "unsaid")

    def __init__(self, choir: Choir, job_id: str, from_event: int) -> None:
        self._choir = choir
        self.job_id = job_id
        self.from_event = from_event
        self.unsaid = LatestEvents()
        self.in_line = False
        self.told_end = False

    def job_event(self, event: Event) -> None:
        """Take one event of the job."""
        if isinstance(event, Progress) and not self._choir.progress:
            return
        if isinstance(event, Preview) and not self._choir.previews:
            return
        self.unsaid.add(event)
        self._choir.has_something_to_say(self)

    def next(self) -> Accepted | Progress | Preview | TerminalEvent | None:
        """Its next event; None where there is none yet, or no more."""
        event = self.unsaid.take()
        if event is None and not self.told_end and self.unsaid.terminal is not None:
            self.told_end = True
            return self.unsaid.terminal
        return event


class Choir:
    """Listens to jobs, each from an event of its own on; a Hearing as EventStream takes it."""

    def __init__(
        self,
        board: Board,
        everyone: Listeners,
        jobs: Iterable[tuple[str, int]],
        *,
        progress: bool = True,
        previews: bool = True,
    ) -> None:
        self.share = 0  # everyone's own
        self.progress = progress
        self.previews = previews
        self._board = board
        self._everyone = everyone
        self._voices = [Voice(self, job_id, from_event) for job_id, from_event in jobs]
        self._line: deque[Voice] = deque()
        self._waiting: asyncio.Future[None] | None = None
        self._nudged = False
        self._gone = False

    async def __aenter__(self) -> Self:
        self._everyone.add(self)
        try:
            for voice in self._voices:
                await self._board.follow(voice.job_id, voice, voice.from_event)
        except BaseException:
            self._leave()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    @property
    def ended(self) -> bool:
        """Whether all jobs have, as far as was heard here."""
        return all(voice.unsaid.terminal is not None for voice in self._voices)

    @property
    def over(self) -> bool:
        """Whether nothing more is to be told."""
        if self._line:
            return False
        return all(voice.told_end for voice in self._voices) or (self._gone and not self.ended)

    def let_go(self) -> None:
        """Hear no more of jobs that have not ended."""
        self._gone = True
        self._wake()

    def nudge(self) -> None:
        """If there is nothing to say, say that."""
        if self._waiting is not None:
            self._nudged = True
            self._wake()

    def has_something_to_say(self, voice: Voice) -> None:
        """Let a voice be heard when its turn comes."""
        if not voice.in_line:
            voice.in_line = True
            self._line.append(voice)
        self._wake()

    async def next(self) -> Accepted | Progress | Preview | TerminalEvent | None:
        """The next event of the job whose turn it is; None where it is `over`, or where a nudge came first."""
        while True:
            while self._line:
                voice = self._line.popleft()
                event = voice.next()
                if event is not None:
                    self._line.append(voice)
                    return event
                voice.in_line = False
            if self._nudged or self.over:
                self._nudged = False
                return None
            self._waiting = asyncio.get_running_loop().create_future()
            try:
                await self._waiting
            finally:
                self._waiting = None

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def _leave(self) -> None:
        for voice in self._voices:
            self._board.leave(voice.job_id, voice)
        self._everyone.discard(self)
