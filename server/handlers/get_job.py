"""GetJob: a job as it stands."""

from __future__ import annotations

from server.commands import GetJob
from server.interfaces import JobStore
from server.job import JobState
from server.jobs.board import Board, owned_job
from server.replies import JobView


class GetJobHandler:
    """Joins the job's record with what the board knows of its progress."""

    def __init__(self, store: JobStore, board: Board) -> None:
        self._store = store
        self._board = board

    async def __call__(self, command: GetJob) -> JobView:
        """Raises Refusal (JOB_NOT_FOUND)."""
        job = await owned_job(self._store, command.owner, command.job_id)
        progress = self._board.progress(job.id)
        done = 1.0 if job.state is JobState.SUCCEEDED else 0.0
        return JobView(job, progress.fraction if progress else done, self._board.last_number(job))
