"""Cancel: a job is asked to stop; its watchers see what became of it."""

from __future__ import annotations

from typing import Protocol

from server.commands import Cancel
from server.interfaces import JobStore
from server.jobs.board import owned_job
from server.replies import CancelRequested


class Cancels(Protocol):
    """Who stops jobs: server.jobs.lifecycle, or server.doors.amqp.canceling, which reaches other nodes too."""

    def cancel(self, job_id: str) -> None:
        """Stop a job; one that has ended is left alone."""
        ...


class CancelHandler:
    """Frees the job's rows at the next step."""

    def __init__(self, store: JobStore, lifecycle: Cancels) -> None:
        self._store = store
        self._lifecycle = lifecycle

    async def __call__(self, command: Cancel) -> CancelRequested:
        """Raises Refusal (JOB_NOT_FOUND), for another owner's job too."""
        job = await owned_job(self._store, command.owner, command.job_id)
        self._lifecycle.cancel(job.id)
        return CancelRequested(job.id, job.state)
