"""From the outbox to `atelier.jobs`: a job that a gateway has admitted is published to the workers, until the broker has it."""

from __future__ import annotations

import asyncio

import structlog

from server.clock import Clock, Pauses
from server.doors.amqp.broker import NotPublished, Properties, Publishes
from server.doors.amqp.queues import WORK
from server.errors import RecordsUnavailable
from server.interfaces import Outbox
from server.webhook import CallState, Claimed, Settlement

log = structlog.get_logger("atelier.amqp")

MOST = 100  # calls that are claimed, and published, at a time
CLAIM = 120.0  # seconds: longer than a publish may take
LOOK_EVERY = 5.0  # seconds, for what another gateway has left
TRY_AGAIN = 1.0  # seconds after the broker, or the database, was away
FORGET_AFTER = 3600.0  # seconds that a dispatched job's call is remembered

_MESSAGE = Properties(content_type="application/json", type="atelier.job")


class Dispatch:
    """Makes the outbox's calls of the channel DISPATCH. `ring` tells it that there is one."""

    def __init__(self, outbox: Outbox, publisher: Publishes, clock: Clock) -> None:
        self._outbox = outbox
        self._publisher = publisher
        self._clock = clock
        self._pauses = Pauses(clock)
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._forgot_at = 0.0

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.ensure_future(self._run())

    def ring(self) -> None:
        """There is something to publish."""
        self._news.set()

    async def stop(self) -> None:
        """Publish no more; what was not confirmed is published by the next life, or another gateway."""
        self._pauses.stop()
        self._news.set()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        begun = False
        while not self._pauses.stopped:
            try:
                if not begun:
                    await self._outbox.begin(at=self._clock.seconds())
                    begun = True
                if await self._publish_some():
                    continue
                await self._forget()
            except RecordsUnavailable as error:
                log.warning("amqp.not_dispatched", reason=error.reason)
                await self._pauses.take(TRY_AGAIN)
            await self._wait()

    async def _wait(self) -> None:
        timer = self._clock.callLater(LOOK_EVERY, self._news.set)
        await self._news.wait()
        self._news.clear()
        if timer.active():
            timer.cancel()

    async def _publish_some(self) -> bool:
        now = self._clock.seconds()
        claimed = await self._outbox.claim(at=now, until=now + CLAIM, most=MOST, room={}, others=MOST)
        await asyncio.gather(*map(self._publish, claimed))
        return bool(claimed)

    async def _publish(self, claimed: Claimed) -> None:
        call = claimed.call
        try:
            await self._publisher.publish("", WORK, call.payload.encode(), _MESSAGE)
        except NotPublished as error:
            log.warning("amqp.not_dispatched", job_id=call.job_id, reason=str(error))
            settlement = Settlement(
                claimed, CallState.WAITING, error=str(error), next_at=self._clock.seconds() + TRY_AGAIN
            )
        else:
            settlement = Settlement(claimed, CallState.DELIVERED)
        await self._outbox.settle(settlement, at=self._clock.seconds())

    async def _forget(self) -> None:
        now = self._clock.seconds()
        if now - self._forgot_at >= FORGET_AFTER:
            self._forgot_at = now
            await self._outbox.forget(settled_before=now - FORGET_AFTER)
