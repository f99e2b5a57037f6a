"""Jobs that an earlier life of the server, or a node that is gone, has left: taken up again, and this node's own kept.

A picture follows from its request alone, so a job that begins again from its first step ends with the same picture; so does one
that goes on from where it was parked, or cut short by a stop (`server.jobs.lifecycle`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence

import structlog

from server.clock import Clock, Pauses
from server.errors import Code, JobFailure, RecordsUnavailable
from server.futures import Tasks
from server.interfaces import Leases
from server.job import Job
from server.jobs.lifecycle import Lifecycle
from server.jobs.places import Places
from server.model_names import registered, shown

log = structlog.get_logger("atelier.jobs")


class Recovery:
    """Takes jobs up, and renews this node's leases every `every` seconds."""

    def __init__(
        self,
        *,
        leases: Leases,
        lifecycle: Lifecycle,
        places: Places,
        models: Collection[str],
        clock: Clock,
        every: float,
        max_attempts: int,
        ready: Callable[[str], Awaitable[bool]] | None = None,
    ) -> None:
        self._leases = leases
        self._lifecycle = lifecycle
        self._places = places
        self._models = models
        self._clock = clock
        self._every = every
        self._max_attempts = max_attempts
        self._ready = ready  # brings a registered model here, of which this node has not heard
        self._tasks = Tasks()
        self._pauses = Pauses(clock)
        self._keeping: asyncio.Task[None] | None = None

    async def take_up(self) -> list[Job]:
        """At start, before anyone can ask: what an earlier life has left. Raises RecordsUnavailable."""
        return await self._leases.take_up(at=self._clock.seconds(), begin=True)

    def begin(self, jobs: Sequence[Job]) -> None:
        """Set them going, and keep at it."""
        self.set_going(jobs)
        self._keeping = asyncio.ensure_future(self._keep())

    async def stop(self) -> None:
        """Give back what could not be finished, for the next life."""
        self._pauses.stop()
        if self._keeping is not None:  # it may be taking jobs up, which are then to be given back too
            await asyncio.wait([self._keeping])
        try:
            await self._leases.give_back(at=self._clock.seconds())
        except RecordsUnavailable as error:  # they expire
            log.warning("leases.kept", reason=error.reason)

    async def _keep(self) -> None:
        while await self._pauses.take(self._every):
            try:
                await self._leases.renew(at=self._clock.seconds())
                self.set_going(await self._leases.take_up(at=self._clock.seconds(), begin=False))
            except RecordsUnavailable as error:
                log.warning("leases.not_renewed", reason=error.reason)
            except Exception:  # a mistake of ours is no reason to let all leases expire
                log.exception("leases.broken")

    def set_going(self, jobs: Sequence[Job]) -> None:
        """Let this node run jobs that it has just got the lease of."""
        for job in jobs:
            self._places.hold(job.owner, job.id, job.request.image_bytes, job.signature_bytes)
            if self._ready is not None and job.request.model not in self._models and registered(job.request.model):
                self._tasks.start(self._begin_when_ready(job, self._ready))
            else:
                self._lifecycle.begin(job, failure=self._hopeless(job))

    async def _begin_when_ready(self, job: Job, ready: Callable[[str], Awaitable[bool]]) -> None:
        await ready(job.request.model)
        self._lifecycle.begin(job, failure=self._hopeless(job))

    def _hopeless(self, job: Job) -> JobFailure | None:
        if job.attempts >= self._max_attempts:  # it may be what ends the server
            text = f"the server ended {job.attempts} times while this job was being painted"
            return JobFailure(Code.GENERATION_FAILED, text, limit=f"{self._max_attempts} attempts")
        if job.request.model not in self._models:
            text = f"model {shown(job.request.model)!r} is not here any more"
            limit = f"one of {', '.join(name for name in self._models if not registered(name))}"  # the others are their owners'
            return JobFailure(Code.MODEL_NOT_FOUND, text, field="model", limit=limit)
        return None
