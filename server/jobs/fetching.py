"""What a job waits for before it is painted: adapters that are fetched.

Not all jobs at once: each that has begun here holds its files until it ends, and the disk has room for so many. Whose turn comes
is said by priority, then by how many of an owner's jobs have begun, then by who came first.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from ai.types import GenerationRequest
from server.adapter_names import is_fetched
from server.interfaces import AdapterSource, FetchedAdapter
from server.job import Job


@dataclass(slots=True, eq=False)
class _Begun:
    """A job that had its turn, and what it holds."""

    owner: str
    held: list[FetchedAdapter] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Waiting:
    """A job that has not."""

    job: Job
    turn: asyncio.Future[bool]


class Fetching:
    """Brings the adapters of at most `ahead` jobs at a time. Everything here runs on the reactor thread."""

    def __init__(self, source: AdapterSource, ahead: int) -> None:
        self._source = source
        self._ahead = ahead
        self._begun: dict[str, _Begun] = {}
        self._waiting: dict[str, _Waiting] = {}  # in the order in which they came

    def needs(self, job: Job) -> bool:
        """Whether anything has to be fetched for the job."""
        return bool(_fetched(job))

    async def bring(self, job: Job) -> dict[str, str]:
        """Name → path of what the job wears, there until `let_go`; nothing if that came meanwhile. Raises JobFailure."""
        self.let_go(job.id)
        if not await self._turn(job):
            return {}
        begun = self._begun[job.id]
        files: dict[str, str] = {}
        for name in _fetched(job):
            try:
                fetched = await self._source.fetch(name)
            except BaseException:
                self.let_go(job.id)
                raise
            if self._begun.get(job.id) is not begun:
                fetched.release()
                return {}
            begun.held.append(fetched)
            files[name] = fetched.path
        return files

    def let_go(self, job_id: str) -> None:
        """The job has ended, or begins again: it needs nothing any more, and the next has its turn."""
        waiting = self._waiting.pop(job_id, None)
        if waiting is not None and not waiting.turn.done():
            waiting.turn.set_result(False)
        begun = self._begun.pop(job_id, None)
        if begun is not None:
            for fetched in begun.held:
                fetched.release()
            self._next()

    async def _turn(self, job: Job) -> bool:
        waiting = self._waiting[job.id] = _Waiting(job, asyncio.get_running_loop().create_future())
        self._next()
        return await waiting.turn

    def _next(self) -> None:
        while self._waiting and len(self._begun) < self._ahead:
            busy = Counter(begun.owner for begun in self._begun.values())
            first = min(self._waiting.values(), key=lambda one: (-one.job.request.priority, busy[one.job.owner]))
            del self._waiting[first.job.id]
            self._begun[first.job.id] = _Begun(first.job.owner)
            first.turn.set_result(True)


def _fetched(job: Job) -> tuple[str, ...]:
    """The names of what has to be fetched for it, each once."""
    request = job.request
    uses = request.adapters if isinstance(request, GenerationRequest) else ()
    return tuple(dict.fromkeys(use.name for use in uses if is_fetched(use.name)))
