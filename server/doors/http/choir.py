"""One listener at many jobs: all of them in turn, so that none drowns the others, each in memory that does not grow."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from server.doors.http.following import Attention, Listeners, Unsaid
from server.events import Event, TerminalEvent
from server.jobs.board import Board
from server.latest import Most


class Voice:
    """One job of it: what it has still to say."""

    __slots__ = ("_choir", "from_event", "in_line", "job_id", "unsaid")

    def __init__(self, choir: Choir, job_id: str, from_event: int, unsaid: Unsaid) -> None:
        self._choir = choir
        self.job_id = job_id
        self.from_event = from_event
        self.unsaid = unsaid
        self.in_line = False

    def job_event(self, event: Event) -> None:
        """Take one event of the job."""
        if self.unsaid.add(event):
            self._choir.has_something_to_say(self)


class Choir(Attention):
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
        super().__init__()
        self._board = board
        self._everyone = everyone
        self._voices = [
            Voice(self, job_id, from_event, Unsaid(progress=progress, previews=previews)) for job_id, from_event in jobs
        ]
        self._line: deque[Voice] = deque()

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
        return all(voice.unsaid.ended for voice in self._voices)

    @property
    def over(self) -> bool:
        """Whether nothing more is to be told."""
        if self._line:
            return False
        return all(voice.unsaid.told_end for voice in self._voices) or (self._gone and not self.ended)

    def has_something_to_say(self, voice: Voice) -> None:
        """Let a voice be heard when its turn comes."""
        if not voice.in_line:
            voice.in_line = True
            self._line.append(voice)
        self.wake()

    def take(self) -> Most | TerminalEvent | None:
        """The next event of the job whose turn it is."""
        while self._line:
            voice = self._line.popleft()
            event = voice.unsaid.take()
            if event is not None:
                self._line.append(voice)
                return event
            voice.in_line = False
        return None

    def _leave(self) -> None:
        for voice in self._voices:
            self._board.leave(voice.job_id, voice)
        self._everyone.discard(self)
