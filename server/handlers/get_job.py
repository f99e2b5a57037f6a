"""GetJob: a job as it stands."""

from __future__ import annotations

from server.commands import GetJob
from server.interfaces import JobStore
from server.jobs.board import Board, owned_job
from server.replies import JobView


class GetJobHandler:
    """Joins the job's record with what the board knows of its progress."""

    def __init__(self, store: JobStore, board: Board) -> None:
        self._store = store
        self._board = board

    async def __call__(self, command: GetJob) -> JobView:
        """Raises Refusal (JOB_NOT_FOUND)."""
        return self._board.view(await owned_job(self._store, command.owner, command.job_id))
