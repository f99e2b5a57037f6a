"""What to do while the database is away: refuse what is new, and keep at what was promised until it is recorded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

import structlog

from ai.types import SavedImage
from server.clock import Clock, Pauses
from server.database.sql import SqlJobStore
from server.database.writing import CommitUnknown
from server.errors import RecordsUnavailable
from server.futures import Tasks
from server.job import Job
from server.listing import JobPage
from server.webhook import OutboxCall

log = structlog.get_logger("atelier.records")
T = TypeVar("T")

FIRST_PAUSE = 0.1  # seconds; a database that restarts is back in about one
LONGEST_PAUSE = 5.0  # seconds; whoever waits for a result waits at most this much longer than the database was away


class PatientStore:
    """A `JobStore` over one that may be away for a while: then all but `move` refuse at once, and `move` does not end."""

    def __init__(self, store: SqlJobStore, clock: Clock) -> None:
        self._store = store
        self._pauses = Pauses(clock)
        self._tasks = Tasks()
        self._doubtful: set[str] = (
            set()
        )  # jobs that may have been recorded, and whose callers were told that they were not
        self.away = False
        self.retried = 0  # times that something was tried again

    def stop(self) -> None:
        """Wait no more: what cannot be recorded now raises RecordsUnavailable."""
        self._pauses.stop()

    async def admit(self, job: Job, calls: Sequence[OutboxCall] = (), *, leased: bool = True) -> Job:
        """Keep a new job and return it, or the one that has its idempotency key already."""
        try:
            return self._sure(await self._store.admit(job, calls, leased=leased))
        except CommitUnknown:
            self._doubtful.add(job.id)
            self._tasks.start(self._withdraw(job.id))
            raise

    async def find(self, owner: str, idempotency_key: str) -> Job | None:
        """The owner's job under this key."""
        found = await self._store.find(owner, idempotency_key)
        return None if found is None else self._sure(found)

    async def get(self, job_id: str) -> Job | None:
        """The job, whoever owns it."""
        return await self._store.get(job_id)

    async def page(self, owner: str, page: JobPage) -> tuple[list[Job], bool]:
        """The owner's jobs, newest first."""
        return await self._store.page(owner, page)

    async def move(self, job: Job, calls: Sequence[OutboxCall] = ()) -> Job:
        """Record a transition, however long that takes."""
        return await self._patiently(partial(self._store.move, job, calls))

    async def keep_latents(self, job_id: str, images: Sequence[SavedImage], *, fence: int) -> None:
        """Once: without it the job begins anew, no more."""
        await self._store.keep_latents(job_id, images, fence=fence)

    async def latents(self, job_id: str) -> tuple[SavedImage, ...]:
        """However long that takes."""
        return await self._patiently(partial(self._store.latents, job_id))

    def _sure(self, job: Job) -> Job:
        if job.id in self._doubtful:  # nobody runs it, and it is about to be withdrawn
            raise RecordsUnavailable("it is not known whether this job was recorded")
        return job

    async def _withdraw(self, job_id: str) -> None:
        try:
            await self._patiently(partial(self._store.withdraw, job_id))
        except RecordsUnavailable:  # stopped: where it was recorded, it is painted in the next life, which harms nobody
            return
        self._doubtful.discard(job_id)

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        pause = FIRST_PAUSE
        while True:
            try:
                done = await work()
            except RecordsUnavailable as error:
                self.retried += 1
                self._note(error.reason)
                if not await self._pauses.take(pause):
                    raise
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                self._note("")
                return done

    def _note(self, reason: str) -> None:
        """Log that the database has gone, and that it is back: once each, however many jobs wait for it."""
        if reason and not self.away:
            log.warning("records.away", reason=reason)
        elif self.away and not reason:
            log.info("records.back")
        self.away = bool(reason)
