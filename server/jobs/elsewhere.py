"""Jobs that another node runs, and someone here follows: their records are looked at until they have ended.

What the other node says of them may come here too (`heard`). The record is then looked at less often; a message may be lost.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from server.clock import Clock, Pauses
from server.errors import RecordsUnavailable
from server.futures import Tasks
from server.interfaces import JobStore
from server.job import TERMINAL
from server.jobs.board import Board, terminal_event

log = structlog.get_logger("atelier.jobs")

LOOK_EVERY = 1.0  # seconds between looks at a job's record: who waits for an end waits so much longer
PATIENCE = 10.0  # seconds without a word from the node that runs a job, before its record is looked at


class Elsewhere:
    """`is_here` says whether this node runs a job, which then needs no looking after."""

    def __init__(self, *, store: JobStore, board: Board, is_here: Callable[[str], bool], clock: Clock) -> None:
        self._store = store
        self._board = board
        self._is_here = is_here
        self._clock = clock
        self._pauses = Pauses(clock)
        self._tasks = Tasks()
        self._due: dict[str, float] = {}  # when to look at each job's record
        self._looking = False

    def look_after(self, job_id: str) -> None:
        """Someone follows a job that is not known to run here."""
        self._due.setdefault(job_id, self._clock.seconds() + LOOK_EVERY)
        if not self._looking:
            self._looking = True
            self._tasks.start(self._look())

    def heard(self, job_id: str) -> None:
        """The node that runs it has said something of it."""
        if job_id in self._due:
            self._due[job_id] = self._clock.seconds() + PATIENCE

    def ended(self, job_id: str) -> None:
        """The node that runs it has said that it ended: its record says how."""
        if job_id in self._due:
            self._tasks.start(self._look_now(job_id))

    def has(self, job_id: str) -> bool:
        """Whether the job is looked after, and not taken up here meanwhile."""
        if job_id in self._due and self._is_here(job_id):
            del self._due[job_id]
        return job_id in self._due

    @property
    def ids(self) -> list[str]:
        """Of all jobs that are looked after."""
        return list(self._due)

    def stop(self) -> None:
        """Look no more."""
        self._pauses.stop()

    async def _look(self) -> None:
        try:
            while self._due and await self._pauses.take(LOOK_EVERY):
                for job_id in [job_id for job_id, due in self._due.items() if due <= self._clock.seconds()]:
                    await self._look_at(job_id)
        except RecordsUnavailable as error:
            log.warning("jobs.unseen", reason=error.reason)
        finally:
            self._looking = False
        if self._due and not self._pauses.stopped:
            self.look_after(next(iter(self._due)))

    async def _look_now(self, job_id: str) -> None:
        try:
            await self._look_at(job_id)
        except RecordsUnavailable as error:
            log.warning("jobs.unseen", reason=error.reason)

    async def _look_at(self, job_id: str) -> None:
        job = None if self._is_done_with(job_id) else await self._store.get(job_id)
        if self._is_done_with(job_id):  # also while the record was read
            self._due.pop(job_id, None)
        elif job is None:
            del self._due[job_id]
            self._board.take_down(job_id)
        elif job.state in TERMINAL:
            self._board.close(terminal_event(job))
            del self._due[job_id]
        else:
            self._due[job_id] = self._clock.seconds() + LOOK_EVERY

    def _is_done_with(self, job_id: str) -> bool:
        return job_id not in self._due or self._is_here(job_id) or not self._board.has(job_id)
