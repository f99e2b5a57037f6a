"""Job records in memory: a `JobStore` for tests of what stands on one; it keeps the contract of the real ones."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

from ai.types import SavedImage
from server.errors import RecordsUnavailable
from server.job import TERMINAL, Job, LeaseLost, check_transition, is_recorded, without_files
from server.listing import JobPage
from server.webhook import OutboxCall


class MemoryAnswers:
    """`AnswerRecords`."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[str, str, float]] = {}
        self.away = False

    async def earlier(self, key: str, owner: str, *, since: float) -> str | None:
        """The owner's job under this key."""
        self._check()
        whose, job_id, at = self.kept.get(key, ("", "", 0.0))
        return job_id if whose == owner and at >= since else None

    async def keep(self, key: str, owner: str, job_id: str, *, at: float) -> None:
        """This job from now on."""
        self._check()
        self.kept[key] = (owner, job_id, at)

    async def forget(self, *, beyond: int, before: float) -> None:
        """The newest stay."""
        newest = sorted(self.kept.items(), key=lambda entry: -entry[1][2])[:beyond]
        self.kept = {key: entry for key, entry in newest if entry[2] >= before}

    def _check(self) -> None:
        if self.away:
            raise RecordsUnavailable("gone")


class MemoryJobStore:
    """A `JobStore`. `keep_finished` ended jobs are remembered; beyond, the one that ended first is forgotten."""

    def __init__(self, keep_finished: int) -> None:
        self._keep_finished = keep_finished
        self._jobs: dict[str, Job] = {}
        self._keys: dict[tuple[str, str], str] = {}
        self._latents: dict[str, tuple[SavedImage, ...]] = {}
        self.calls: dict[tuple[str | None, str], OutboxCall] = {}  # what is to be told elsewhere, by job and name
        self._finished: OrderedDict[str, None] = OrderedDict()

    async def admit(self, job: Job, calls: Sequence[OutboxCall] = (), *, leased: bool = True) -> Job:
        """Keep a new job and return it, or the one that has its idempotency key already."""
        older = await self.find(job.owner, job.idempotency_key) if job.idempotency_key else None
        if older is not None:
            return older
        self._jobs[job.id] = job
        self._note(calls)
        if job.idempotency_key:
            self._keys[job.owner, job.idempotency_key] = job.id
        return job

    async def find(self, owner: str, idempotency_key: str) -> Job | None:
        """The owner's job under this key."""
        job_id = self._keys.get((owner, idempotency_key))
        return self._jobs[job_id] if job_id is not None else None

    async def get(self, job_id: str) -> Job | None:
        """The job, whoever owns it."""
        return self._jobs.get(job_id)

    async def page(self, owner: str, page: JobPage) -> tuple[list[Job], bool]:
        """The owner's jobs, newest first."""
        found, more = page.of(job for job in self._jobs.values() if job.owner == owner)
        return [replace(job, signature=None, request=without_files(job.request)) for job in found], more

    async def move(self, job: Job, calls: Sequence[OutboxCall] = ()) -> Job:
        """Record a transition. Raises IllegalTransition, LeaseLost."""
        kept = self._jobs.get(job.id)
        if kept is None or kept.fence != job.fence:
            raise LeaseLost(job.id, job.fence)
        if is_recorded(kept, job):
            return kept
        check_transition(job.id, kept.state, job.state)
        self._jobs[job.id] = job
        self._note(calls)
        if job.state in TERMINAL:
            self._latents.pop(job.id, None)
            self._finished[job.id] = None
            self._forget_old()
        return job

    async def keep_latents(self, job_id: str, images: Sequence[SavedImage], *, fence: int) -> None:
        """In place of older ones."""
        job = self._jobs[job_id]
        if job.state not in TERMINAL and job.fence == fence:
            self._latents[job_id] = tuple(images)

    async def latents(self, job_id: str) -> tuple[SavedImage, ...]:
        """What was kept."""
        return self._latents.get(job_id, ())

    def _note(self, calls: Sequence[OutboxCall]) -> None:
        for call in calls:
            self.calls.setdefault((call.job_id, call.name), call)

    def _forget_old(self) -> None:
        while len(self._finished) > self._keep_finished:
            job_id, _ = self._finished.popitem(last=False)
            job = self._jobs.pop(job_id)
            self._keys.pop((job.owner, job.idempotency_key), None)
