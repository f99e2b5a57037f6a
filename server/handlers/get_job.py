"""GetJob: a job as it stands."""

from __future__ import annotations

from server.commands import GetJob
from server.interfaces import JobStore
from server.jobs.board import Board, job_not_found, owned_job
from server.replies import JobView


class GetJobHandler:
    """Joins the job's record with what the board knows of its progress."""

    def __init__(self, store: JobStore, board: Board) -> None:
        self._store = store
        self._board = board

    async def __call__(self, command: GetJob) -> JobView:
        """Raises Refusal (JOB_NOT_FOUND)."""
        if not command.idempotency_key:
            return self._board.view(await owned_job(self._store, command.owner, command.job_id))
        job = await self._store.find(command.owner, command.idempotency_key)
        if job is None:
            raise job_not_found(command.idempotency_key)
        return self._board.view(job)
