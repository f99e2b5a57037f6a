"""Cancelling a job wherever it is: here, in the queue of jobs that nobody has taken yet, or on another node."""

from __future__ import annotations

import json

import structlog

from server.clock import Clock
from server.doors.amqp.broker import NotPublished, Properties, Publishes
from server.doors.amqp.queues import CONTROL
from server.errors import RecordsUnavailable
from server.interfaces import Announcer, Claims, JobStore
from server.job import TERMINAL, IllegalTransition, LeaseLost
from server.jobs.board import Board
from server.jobs.canceling import CancelsAnywhere, CancelsHere

log = structlog.get_logger("atelier.amqp")

ASK_AGAIN = 2.0  # seconds; the node that runs the job may have been between two connections

_MESSAGE = Properties(content_type="application/json", type="atelier.control")


class Canceling(CancelsAnywhere):
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
        super().__init__(here, store, board, announcer, clock, again=ASK_AGAIN)
        self._claims = claims
        self._publisher = publisher

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
