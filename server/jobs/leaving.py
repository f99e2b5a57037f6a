"""Jobs that this life of the server does not end: left to the next life when it stops, or lost to another node.

A job that is left says no more here, stays in the records as it is, and is taken up by the next life (server.jobs.recovery).
"""

from __future__ import annotations

from contextlib import suppress

import structlog

from server.clock import Clock, Pauses
from server.errors import RecordsUnavailable
from server.futures import Tasks
from server.interfaces import JobStore, Painter
from server.job import TERMINAL
from server.jobs.board import Board, terminal_event
from server.jobs.live import LiveJob, LiveJobs

log = structlog.get_logger("atelier.jobs")

ABANDON_AFTER = 5.0  # seconds from leaving jobs to stopping without the ends of others being recorded
LOOK_EVERY = 1.0  # seconds between looks at the record of a job that another node runs


class Leaving:
    """Knows when the server stops, and takes leave of live jobs."""

    def __init__(self, *, jobs: LiveJobs, store: JobStore, board: Board, painter: Painter, clock: Clock) -> None:
        self._jobs = jobs
        self._store = store
        self._board = board
        self._painter = painter
        self._clock = clock
        self._pauses = Pauses(clock)
        self._tasks = Tasks()
        self._abandoned = False
        self.draining = False  # nothing waits for a retry any more
        self.stopping = False  # whatever begins from now on is left

    async def drain(self, seconds: float) -> None:
        """Wait until every live job has ended; those that `seconds` do not suffice for are left to the next life."""
        self.draining = True
        for live in self._jobs:
            if live.retry is not None:
                self.leave(live)
        if self._jobs:
            log.info("jobs.draining", jobs=len(self._jobs), seconds=seconds)
        timers = [
            self._clock.callLater(seconds, self._leave_all),
            self._clock.callLater(seconds + ABANDON_AFTER, self._abandon),
        ]
        while self._jobs and not self._abandoned:
            await self._jobs.empty()
        self.stopping = True
        self._pauses.stop()
        for timer in timers:
            if timer.active():
                timer.cancel()

    def leave(self, live: LiveJob) -> None:
        """Say no more of a job, which stays in the records as it is, unless its end is under way."""
        if not live.ending:
            self._painter.cancel(live.job.id)
            self.give_up(live)

    def give_up(self, live: LiveJob) -> None:
        """The same of one whose end was under way, and cannot be recorded."""
        live.ending = live.left = True
        log.info("job.left", job_id=live.job.id)
        self._jobs.let_go(live)
        self._board.take_down(live.job.id)

    def lose(self, live: LiveJob) -> None:
        """Another node has taken the job up while we could not renew its lease; those who follow it here hear its end."""
        if live.left or live.job.id not in self._jobs:
            return
        live.ending = live.left = True
        self._painter.cancel(live.job.id)
        log.warning("job.lost", job_id=live.job.id)
        self._jobs.let_go(live)
        self._tasks.start(self._watch_record(live.job.id))

    async def _watch_record(self, job_id: str) -> None:
        while await self._pauses.take(LOOK_EVERY):
            with suppress(RecordsUnavailable):
                job = await self._store.get(job_id)
                if job is None:
                    self._board.take_down(job_id)
                    return
                if job.state in TERMINAL:
                    self._board.close(terminal_event(job))
                    return

    def _leave_all(self) -> None:
        """What the engine has is saved first: it answers at the next step."""
        self.stopping = True
        for live in self._jobs:
            if live.left_engine:
                self.leave(live)
            else:
                self._painter.save(live.job.id)

    def _abandon(self) -> None:
        """Their ends could not be recorded: the server stops all the same, and the next life finds them as they were."""
        for live in self._jobs:
            self.leave(live)
        self._abandoned = True
        if self._jobs:
            log.error("jobs.abandoned", jobs=[live.job.id for live in self._jobs])
        self._jobs.wait_no_more()
