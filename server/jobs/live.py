"""The jobs that this node runs and that have not ended, and what each has still to do.

Each live job does one thing after the other: what has to wait (a record, a picture to store) is done in the order in which the
engine said it. Everything here runs on the reactor thread.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator

from ai.types import Finished, Previewed
from server.clock import Timer
from server.job import Job, JobState
from server.jobs.fetching import Fetching
from server.jobs.places import Places


class LiveJob:
    """One live job, and what is still to be done for it in order.

    `ending` is set, once, by whoever decides how the job ends; from then on it says nothing but its terminal event. One that is
    `left` does not say even that. `in_trouble` is told what a piece of its work raised.
    """

    __slots__ = (
        "_beside",
        "_in_trouble",
        "_task",
        "_todo",
        "answer_key",
        "deadline",
        "ending",
        "job",
        "left",
        "left_engine",
        "previews",
        "retry",
        "unstored",
    )

    def __init__(self, job: Job, in_trouble: Callable[[LiveJob, Exception], None]) -> None:
        self.job = job
        self._in_trouble = in_trouble
        self._todo: deque[Callable[[], Awaitable[None]]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._beside: asyncio.Task[None] | None = None
        self.deadline: Timer | None = None
        self.retry: Timer | None = None  # when it begins again
        self.ending = False
        self.left = False
        self.left_engine = True  # the engine has said its last of it, or never had it
        self.unstored: Finished | None = None  # what was painted, for the next try to store it
        self.answer_key = ""  # what its answer will be found by, if the same is asked again; "": by nothing
        self.previews: dict[int, Previewed] = {}  # the latest of each image that is not yet encoded

    @property
    def steps(self) -> int:
        """How many it takes."""
        return self.job.request.steps

    def then(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do this after all that was asked before, unless the job's end comes first."""
        self._todo.append(work)
        if self._task is None:
            self._task = asyncio.ensure_future(self._work())

    def beside(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do this at once, whatever else is under way."""
        self._beside = asyncio.ensure_future(self._do(work))

    async def is_begun(self) -> None:
        """Returns when what was done beside is done."""
        if self._beside is not None and not self._beside.done():
            await asyncio.wait([self._beside])

    async def _work(self) -> None:
        while self._todo and not self.ending:
            await self._do(self._todo.popleft())
        self._task = None

    async def _do(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception as error:
            self._in_trouble(self, error)


class LiveJobs:
    """All of them, and the places that they hold."""

    def __init__(self, places: Places, fetching: Fetching) -> None:
        self._places = places
        self._fetching = fetching
        self._jobs: dict[str, LiveJob] = {}
        self._ghosts: dict[str, str] = {}  # owners of ended jobs that the engine still has: they keep their place
        self._empty: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[LiveJob]:
        """Those of now, also while they end."""
        return iter(tuple(self._jobs.values()))

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._jobs

    def add(self, live: LiveJob) -> None:
        """One more."""
        self._jobs[live.job.id] = live

    def get(self, job_id: str) -> LiveJob | None:
        """One of them."""
        return self._jobs.get(job_id)

    @property
    def waiting(self) -> int:
        """Those that no batch has seated yet."""
        return sum(live.job.state is JobState.QUEUED for live in self._jobs.values())

    @property
    def unstored_bytes(self) -> int:
        """What the pictures take that wait to be stored."""
        return sum(live.unstored.size for live in self._jobs.values() if live.unstored is not None)

    def let_go(self, live: LiveJob) -> None:
        """The job is ours no more."""
        job = live.job
        del self._jobs[job.id]
        self._fetching.let_go(job.id)
        for timer in (live.deadline, live.retry):
            if timer is not None and timer.active():
                timer.cancel()
        if live.left_engine:
            self._places.release(job.owner, job.id)
        else:  # or whoever submits and cancels in a loop could fill the engine's inbox past every limit
            self._ghosts[job.id] = job.owner
        if not self._jobs:
            self.wait_no_more()

    def left_engine(self, job_id: str) -> None:
        """The engine holds nothing of the job any more."""
        live = self._jobs.get(job_id)
        if live is not None:
            live.left_engine = True
        elif job_id in self._ghosts:
            self._places.release(self._ghosts.pop(job_id), job_id)

    def engine_died(self) -> None:
        """It holds nothing of those that have ended."""
        for job_id in tuple(self._ghosts):
            self.left_engine(job_id)

    async def empty(self) -> None:
        """Returns when there is none left, or nobody is to wait for that any more."""
        if self._jobs:
            self._empty = asyncio.get_running_loop().create_future()
            await self._empty

    def wait_no_more(self) -> None:
        """Let whoever waits for the end of all go on."""
        if self._empty is not None and not self._empty.done():
            self._empty.set_result(None)
