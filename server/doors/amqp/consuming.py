"""Consuming a queue on a link: a channel that is closed is opened anew, and its deliveries are given up with it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog

from server.clock import Clock, Pauses
from server.doors.amqp.broker import Channel, Link, LinkLost
from server.doors.amqp.delivery import Following, Handle
from server.doors.amqp.lasting import STEADY_AFTER, Backoff
from server.futures import Tasks

log = structlog.get_logger("atelier.amqp")

TAG = "atelier"  # the consumer's name on its channel


class Consuming:
    """Gives each delivery of a queue to `take`, at most `prefetch` that are not acknowledged.

    `declare` sees to it that the queue is there, each time before it is consumed. `pauses` end when nothing more is taken.
    """

    def __init__(
        self,
        queue: str,
        prefetch: int,
        *,
        declare: Callable[[Link], Awaitable[None]],
        take: Callable[[Handle], Coroutine[Any, Any, None]],
        following: Following,
        clock: Clock,
        chance: Callable[[], float],
    ) -> None:
        self._queue = queue
        self._prefetch = prefetch
        self._declare = declare
        self._take = take
        self._following = following
        self._clock = clock
        self._backoff = Backoff(chance)
        self._tasks = Tasks()
        self._channel: Channel | None = None
        self.pauses = Pauses(clock)

    @property
    def stopping(self) -> bool:
        """Whether nothing more is taken."""
        return self.pauses.stopped

    async def use(self, link: Link) -> None:
        """As long as the link lasts. Raises LinkLost."""
        while not self.stopping and not link.closed.done():
            since = self._clock.seconds()
            await self._declare(link)  # also when the queue was deleted
            await self._consume(await link.channel())
            if self._clock.seconds() - since >= STEADY_AFTER:
                self._backoff.reset()
            if not self.stopping and not link.closed.done():
                await self.pauses.take(self._backoff.next())
        await asyncio.wait([link.closed])

    def stop(self) -> None:
        """Take no more. What is held can still be acknowledged, until the link is closed."""
        self.pauses.stop()
        if self._channel is not None:
            self._tasks.start(self._cancel(self._channel))

    def give_up(self) -> None:
        """Take no more, and hold nothing: the broker gives it to others."""
        self.pauses.stop()
        if self._channel is not None:
            self._channel.close()

    async def _cancel(self, channel: Channel) -> None:
        try:
            await channel.cancel(TAG)
        except LinkLost as lost:
            log.debug("amqp.not_cancelled", reason=str(lost))

    async def _consume(self, channel: Channel) -> None:
        """Until there is nothing more to come on this channel; when nothing more is taken, until it is closed."""
        try:
            deliveries = await channel.consume(self._queue, prefetch=self._prefetch, tag=TAG)
            self._channel = channel
            while True:
                self._tasks.start(self._take(Handle(channel, await deliveries.next())))
        except LinkLost as lost:
            if self.stopping:
                await asyncio.wait([channel.closed])
            else:
                log.warning("amqp.consumer_ended", queue=self._queue, reason=str(lost))
        finally:
            self._channel = None
            channel.close()
            self._following.drop_closed()
