"""Jobs of gateways whose messages are gone: somebody has emptied, or deleted, `atelier.jobs`.

Who looks does not know which message is gone, and need not: a message is only a handle, and a second one of the same job ends
with the first. So where nothing waits in the queue, jobs that no worker has taken for long are dispatched again.
"""

from __future__ import annotations

import asyncio
import json
from typing import Protocol

import structlog

from server.clock import Clock, Pauses
from server.doors.amqp.broker import LinkLost, NotPublished, Properties, Publishes
from server.doors.amqp.queues import WORK
from server.errors import RecordsUnavailable
from server.interfaces import Claims

log = structlog.get_logger("atelier.amqp")

MOST = 1000  # jobs at a look; the rest at the next, when these have been taken

_MESSAGE = Properties(content_type="application/json", type="atelier.job")


class PublishesAndCounts(Publishes, Protocol):
    """One connection for both."""

    async def count(self, queue: str) -> int:
        """Messages that wait in a queue; 0 where there is none. Raises LinkLost."""
        ...


class DispatchingAgain:
    """Looks every `after` seconds for jobs that nobody has taken for so long."""

    def __init__(self, claims: Claims, publisher: PublishesAndCounts, clock: Clock, after: float) -> None:
        self._claims = claims
        self._publisher = publisher
        self._clock = clock
        self._after = after
        self._pauses = Pauses(clock)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.ensure_future(self._run())

    async def stop(self) -> None:
        """Look no more."""
        self._pauses.stop()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        while await self._pauses.take(self._after):
            try:
                await self._look()
            except (RecordsUnavailable, LinkLost) as error:
                log.debug("amqp.not_looked", reason=str(error))

    async def _look(self) -> None:
        waiting = await self._claims.unclaimed(since=self._clock.seconds() - self._after, most=MOST)
        if waiting and await self._publisher.count(WORK) == 0:
            log.warning("amqp.dispatched_again", jobs=len(waiting))
            await asyncio.gather(*map(self._publish, waiting))

    async def _publish(self, job_id: str) -> None:
        try:
            await self._publisher.publish("", WORK, json.dumps({"job_id": job_id}).encode(), _MESSAGE)
        except NotPublished as error:  # the next look finds it
            log.warning("amqp.not_dispatched", job_id=job_id, reason=str(error))
