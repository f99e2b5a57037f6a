"""A worker's part: jobs that gateways have admitted are taken from `atelier.jobs` and run here.

A message is a handle. Whose job it is, the record says: a worker takes its lease, or, where another's holds, waits for its end,
and tries again in case that other has died.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
from pydantic_core import from_json

from server.clock import Clock
from server.doors.amqp.broker import Link, NotPublished, Publishes
from server.doors.amqp.consuming import Consuming
from server.doors.amqp.dead_letters import bury
from server.doors.amqp.delivery import Following, Handle
from server.doors.amqp.queues import WORK, WORKING, stands
from server.errors import Code, RecordsUnavailable, Refusal
from server.incoming import INCOMING, Incoming, traceparent_of
from server.interfaces import Claims
from server.job import Job
from server.jobs.board import Board

log = structlog.get_logger("atelier.amqp")

LOOK_AGAIN = 5.0  # seconds: a lease that has expired is taken so much later at most
TRY_AGAIN = 1.0  # seconds after the database was away


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerParts:
    """What the worker works with.

    `set_going` runs jobs of which this node has the lease, `is_here` says whether it runs one; `dead` is the dead letters' queue.
    """

    claims: Claims
    is_here: Callable[[str], bool]
    set_going: Callable[[Sequence[Job]], None]
    board: Board
    publisher: Publishes
    can_paint: Callable[[], bool]
    dead: str
    clock: Clock
    chance: Callable[[], float]


class Worker:
    """Consumes `atelier.jobs`, `prefetch` jobs at a time."""

    def __init__(self, prefetch: int, parts: WorkerParts) -> None:
        self._parts = parts
        self._following = Following(parts.board)
        self._consuming = Consuming(
            WORK,
            prefetch,
            declare=self._declare,
            take=self._take,
            following=self._following,
            clock=parts.clock,
            chance=parts.chance,
        )
        self._pauses = self._consuming.pauses

    async def use(self, link: Link) -> None:
        """Consume as long as the link lasts. Raises LinkLost."""
        await self._consuming.use(link)

    def stop_taking(self) -> None:
        """Take no more. What is held can still be acknowledged, until the link is closed."""
        self._consuming.stop()

    async def _declare(self, link: Link) -> None:
        await stands(link, WORK, WORKING)
        await stands(link, self._parts.dead)

    async def _take(self, handle: Handle) -> None:
        job_id, traceparent = _job_id(handle.delivery.body)
        INCOMING.set(Incoming("worker", traceparent=traceparent))
        if not job_id:
            await self._bury(handle)
            return
        followed = False
        while handle.open and not self._consuming.stopping:
            try:
                if not self._parts.can_paint():
                    log.error("amqp.given_up", reason="nothing can be painted here any more")
                    self._consuming.give_up()
                    return
                if not self._parts.is_here(job_id):
                    job = await self._parts.claims.take(job_id, at=self._parts.clock.seconds())
                    self._parts.set_going([job] if job is not None else [])
                if not followed:
                    await self._following.follow(handle, job_id)
                    followed = True
            except RecordsUnavailable as error:
                log.warning("amqp.not_taken", job_id=job_id, reason=error.reason)
                await self._pauses.take(TRY_AGAIN)
            else:
                await self._pauses.take(LOOK_AGAIN)

    async def _bury(self, handle: Handle) -> None:
        refusal = Refusal(Code.MALFORMED_MESSAGE, "the body is not {job_id}", field="body", limit="a JSON object")
        while handle.open:
            try:
                at = self._parts.clock.seconds()
                await bury(handle, refusal, self._parts.publisher, queue=WORK, dead=self._parts.dead, at=at)
            except NotPublished as error:
                log.warning("amqp.not_refused", reason=str(error))
                if not await self._pauses.take(TRY_AGAIN):
                    return


def _job_id(body: bytes) -> tuple[str, str]:
    """And its caller's traceparent, if it had one."""
    try:
        message = from_json(body)
    except ValueError:
        return "", ""
    if not isinstance(message, dict):
        return "", ""
    job_id = message.get("job_id")
    return job_id if isinstance(job_id, str) else "", traceparent_of(message.get("traceparent"))
