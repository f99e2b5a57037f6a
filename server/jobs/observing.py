"""Jobs' records, with others who see what is recorded: metrics, traces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog

from server.interfaces import JobObserver, JobStore
from server.job import Job
from server.listing import JobPage
from server.webhook import OutboxCall

log = structlog.get_logger("atelier.jobs")


class ObservedJobs:
    """A `JobStore` that tells its observers of each admission and each transition, once it is recorded."""

    def __init__(self, store: JobStore, observers: Sequence[JobObserver]) -> None:
        self._store = store
        self._observers = tuple(observers)

    async def admit(self, job: Job, calls: Sequence[OutboxCall] = (), *, leased: bool = True) -> Job:
        """As the store's; an older job under the same key is not told again."""
        kept = await self._store.admit(job, calls, leased=leased)
        if kept.id == job.id:
            for observer in self._observers:
                _tell(observer.admitted, kept)
        return kept

    async def find(self, owner: str, idempotency_key: str) -> Job | None:
        """As the store's."""
        return await self._store.find(owner, idempotency_key)

    async def get(self, job_id: str) -> Job | None:
        """As the store's."""
        return await self._store.get(job_id)

    async def page(self, owner: str, page: JobPage) -> tuple[list[Job], bool]:
        """As the store's."""
        return await self._store.page(owner, page)

    async def move(self, job: Job, calls: Sequence[OutboxCall] = ()) -> Job:
        """As the store's."""
        moved = await self._store.move(job, calls)
        for observer in self._observers:
            _tell(observer.moved, moved)
        return moved


def _tell(hear: Any, job: Job) -> None:
    try:
        hear(job)
    except Exception:  # what is measured of a job is worth no job
        log.exception("observer.broken", job_id=job.id)
