"""ListJobs: an owner's jobs, a page at a time."""

from __future__ import annotations

from server.commands import ListJobs
from server.interfaces import JobStore
from server.jobs.board import Board
from server.replies import JobList


class ListJobsHandler:
    """Reads the records, and joins them with what the board knows."""

    def __init__(self, store: JobStore, board: Board) -> None:
        self._store = store
        self._board = board

    async def __call__(self, command: ListJobs) -> JobList:
        """An empty page where there are none."""
        page = command.page
        found, more = await self._store.page(command.owner, page)
        upwards = page.after is not None
        return JobList(
            tuple(map(self._board.view, found)),
            older=upwards or more,
            newer=more if upwards else page.before is not None or page.skip > 0,
        )
