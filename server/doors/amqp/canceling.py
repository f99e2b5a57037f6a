"""Cancelling a job wherever it is: here, in the queue of jobs that nobody has taken yet, or on another node."""

from __future__ import annotations

import json
from typing import Protocol

import structlog

from server.clock import Clock, Pauses
from server.doors.amqp.broker import NotPublished, Properties, Publishes
from server.doors.amqp.queues import CONTROL
from server.errors import RecordsUnavailable
from server.futures import Tasks
from server.interfaces import Announcer, Claims, JobStore
from server.job import TERMINAL, IllegalTransition, Job, JobState, LeaseLost, moved
from server.jobs.board import Board, terminal_event

log = structlog.get_logger("atelier.amqp")

ASK_AGAIN = 2.0  # seconds; the node that runs the job may have been between two connections
GIVE_UP_AFTER = 150  # askings: five minutes

_MESSAGE = Properties(content_type="application/json", type="atelier.control")


class CancelsHere(Protocol):
    """The jobs of this node."""

    def has(self, job_id: str) -> bool:
        """Whether this node runs it."""
        ...

    def cancel(self, job_id: str) -> None:
        """Stop it."""
        ...


class Canceling:
    """Cancels, and goes on asking until the job has ended, some minutes long."""

    def __init__(
        self,
        *,
        here: CancelsHere,
        store: JobStore,
        claims: Claims,
        board: Board,
        announcer: Announcer,
        publisher: Publishes,
        clock: Clock,
    ) -> None:
        self._here = here
        self._store = store
        self._claims = claims
        self._board = board
        self._announcer = announcer
        self._publisher = publisher
        self._clock = clock
        self._pauses = Pauses(clock)
        self._tasks = Tasks()
        self._asked: set[str] = set()

    def cancel(self, job_id: str) -> None:
        """Stop a job."""
        if self._here.has(job_id):
            self._here.cancel(job_id)
        elif job_id not in self._asked:
            self._asked.add(job_id)
            self._tasks.start(self._ask(job_id))

    def stop(self) -> None:
        """Ask no more."""
        self._pauses.stop()

    async def _ask(self, job_id: str) -> None:
        try:
            for _ in range(GIVE_UP_AFTER):
                if await self._try(job_id) or not await self._pauses.take(ASK_AGAIN):
                    return
            log.warning("job.not_canceled", job_id=job_id)
        finally:
            self._asked.discard(job_id)

    async def _try(self, job_id: str) -> bool:
        """Whether nothing more is to be done."""
        try:
            job = await self._claims.take(job_id, at=self._clock.seconds())
            if job is not None:
                await self._end(job)
                return True
            job = await self._store.get(job_id)
            if job is None or job.state in TERMINAL:
                return True
            await self._publisher.publish(CONTROL, "", json.dumps({"cancel": job_id}).encode(), _MESSAGE)
        except (RecordsUnavailable, NotPublished, LeaseLost, IllegalTransition) as error:
            log.debug("job.cancel_unsure", job_id=job_id, reason=str(error))
        return False

    async def _end(self, job: Job) -> None:
        """It was nobody's: it ends here."""
        ending = moved(job, JobState.CANCELED, at=self._clock.seconds(), last_event=job.last_event + 1)
        ended = await self._store.move(ending, self._announcer.calls(ending))
        log.info("job.ended", job_id=job.id, state=ended.state.value)
        if self._board.has(job.id):
            self._board.close(terminal_event(ended))
