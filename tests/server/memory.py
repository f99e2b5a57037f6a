"""Job records in memory: a `JobStore` for tests of what stands on one; it keeps the contract of the real ones."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

from ai.types import SavedImage
from server.errors import JobFailure
from server.events import Artifact
from server.job import TERMINAL, Job, JobState, LeaseLost, check_transition, is_recorded
from server.listing import JobPage
from server.webhook import OutboxCall


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
        return [replace(job, signature=None, request=replace(job.request, init_image=None)) for job in found], more

    async def move(
        self,
        job_id: str,
        state: JobState,
        *,
        fence: int,
        at: float,
        last_event: int,
        artifacts: tuple[Artifact, ...] = (),
        warnings: tuple[str, ...] = (),
        failure: JobFailure | None = None,
        calls: Sequence[OutboxCall] = (),
    ) -> Job:
        """Record a transition. Raises IllegalTransition."""
        job = self._jobs.get(job_id)
        if job is None or job.fence != fence:
            raise LeaseLost(job_id, fence)
        if is_recorded(job, state, at=at, last_event=last_event):
            return job
        check_transition(job_id, job.state, state)
        again = state is JobState.RETRYING
        begun = job.state in (JobState.STARTING, JobState.PROCESSING)
        job = replace(
            job,
            state=state,
            last_event=last_event,
            attempts=job.attempts + (state is JobState.STARTING) - (again and begun),
            retries=job.retries + again,
            started_at=at if state is JobState.STARTING else job.started_at,
            completed_at=at if state in TERMINAL else None,
            artifacts=artifacts,
            warnings=warnings,
            failure=failure,
            # Both may hold a picture, which nobody needs any more.
            signature=None if state in TERMINAL else job.signature,
            request=replace(job.request, init_image=None) if state in TERMINAL else job.request,
        )
        self._jobs[job_id] = job
        self._note(calls)
        if state in TERMINAL:
            self._latents.pop(job_id, None)
            self._finished[job_id] = None
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
