"""Watch: may this owner follow that job."""

from __future__ import annotations

from server.commands import Watch
from server.interfaces import JobStore
from server.jobs.board import owned_job
from server.replies import Watched


class WatchHandler:
    """Finds the job; its door then follows it on the board."""

    def __init__(self, store: JobStore) -> None:
        self._store = store

    async def __call__(self, command: Watch) -> Watched:
        """Raises Refusal (JOB_NOT_FOUND)."""
        return Watched(await owned_job(self._store, command.owner, command.job_id))
