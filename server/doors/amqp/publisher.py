"""Publishing: confirmed by the broker, on a connection of its own, which an alarm may block without harm to the consumers'."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

from server.clock import Clock, Timer
from server.doors.amqp.broker import (
    Broker,
    Channel,
    Clash,
    Link,
    LinkLost,
    NotPublished,
    Properties,
    Publication,
    Refused,
    publish_one,
)
from server.doors.amqp.lasting import Lasting

PUBLISH_WITHIN = 60.0  # seconds for the connection to come back and the broker to confirm; the caller then tries again
MOST_AT_ONCE = 100  # calls not yet confirmed: a broker that takes nothing makes callers wait, and costs no more memory

REFUSED_FOR = 5.0  # seconds: a node of a broker that takes nothing for a queue for so long is left for another one


class _Attempt:
    """One message, and the task that publishes it."""

    __slots__ = ("ends_at", "late", "over", "task")

    def __init__(self, task: asyncio.Task[Any], ends_at: float) -> None:
        self.task = task
        self.ends_at = ends_at
        self.late = False  # it was given up
        self.over = False


class _Patience:
    """Gives up what takes longer than PUBLISH_WITHIN. One timer for all: what began first has to end first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._attempts: deque[_Attempt] = deque()
        self._timer: Timer | None = None
        self._stopped = False

    def begin(self) -> _Attempt:
        """The running task publishes something from now on."""
        task = asyncio.current_task()
        assert task is not None
        while self._attempts and self._attempts[0].over:
            self._attempts.popleft()
        attempt = _Attempt(task, self._clock.seconds() + PUBLISH_WITHIN)
        self._attempts.append(attempt)
        if self._timer is None and not self._stopped:
            self._timer = self._clock.callLater(PUBLISH_WITHIN, self._look)
        return attempt

    def stop(self) -> None:
        """Give up nothing any more."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._attempts.clear()

    def _look(self) -> None:
        self._timer, now = None, self._clock.seconds()
        while self._attempts and (self._attempts[0].over or self._attempts[0].ends_at <= now):
            attempt = self._attempts.popleft()
            if not attempt.over:
                attempt.late = True
                attempt.task.cancel()
        if self._attempts:
            self._timer = self._clock.callLater(self._attempts[0].ends_at - now, self._look)


class Publisher:
    """Publishes when there is a connection, and waits a while for one where there is none.

    `declare` sees to it that what is published to is there, on each new connection.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        clock: Clock,
        chance: Callable[[], float],
        declare: Callable[[Link], Awaitable[None]] | None = None,
    ) -> None:
        self._declare = declare
        self._lasting = Lasting(broker, "publishing", self._use, clock=clock, chance=chance)
        self._patience = _Patience(clock)
        self._channel: Channel | None = None
        self._link: Link | None = None
        self._stopped = False
        self._waiting: set[asyncio.Future[None]] = set()
        self._clock = clock
        self._refused_since: dict[str, float] = {}  # by queue, or exchange
        self._places = asyncio.Semaphore(MOST_AT_ONCE)

    def start(self) -> None:
        """Connect, in the background."""
        self._lasting.start()

    async def stop(self) -> None:
        """Hang up; who still publishes hears that it failed."""
        self._stopped = True
        self._wake()
        self._patience.stop()
        await self._lasting.stop()

    async def publish(self, exchange: str, routing_key: str, body: bytes, properties: Properties) -> None:
        """Returns when the broker has the message. Raises NotPublished, or Unroutable."""
        await publish_one(self, Publication(exchange, routing_key, body, properties))

    async def publish_all(self, messages: Sequence[Publication]) -> frozenset[int]:
        """Several at once: one to wait for. Raises NotPublished."""
        attempt = self._patience.begin()
        try:
            return await self._publish(messages)
        except LinkLost as lost:
            raise NotPublished(str(lost)) from None
        except asyncio.CancelledError:
            if not attempt.late or attempt.task.uncancel() > 0:  # the caller was cancelled, too
                raise
            raise NotPublished(f"not confirmed within {PUBLISH_WITHIN:g} s") from None
        finally:
            attempt.over = True

    async def count(self, queue: str) -> int:
        """Messages that wait in a queue; 0 where there is none. Raises LinkLost."""
        if self._link is None:
            raise LinkLost("there is no connection")
        channel = await self._link.channel()
        try:
            return await channel.count(queue)
        except Clash:
            return 0
        finally:
            channel.close()

    async def _publish(self, messages: Sequence[Publication]) -> frozenset[int]:
        async with self._places:
            while self._channel is None:
                if self._stopped:
                    raise NotPublished("the server stops")
                change: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._waiting.add(change)
                try:
                    await change
                finally:
                    self._waiting.discard(change)
            channel = self._channel
            targets = {message.exchange or message.routing_key for message in messages}
            try:
                unroutable = await channel.publish_all(messages)
            except Refused:
                self._note_refusal(channel, targets)
                raise
            for target in targets:
                self._refused_since.pop(target, None)
            return unroutable

    def _note_refusal(self, channel: Channel, targets: Collection[str]) -> None:
        """A node may go on refusing what another one takes: one of a cluster that lost the queue's leader has been seen to.
        So the connection is given up, and the next one made to the next host. A queue that is full is so there too."""
        now = self._clock.seconds()
        since = min(self._refused_since.setdefault(target, now) for target in targets)
        if channel is self._channel and now - since >= REFUSED_FOR:
            channel.close()

    async def _use(self, link: Link) -> None:
        """A channel that is closed for a reason of its own (an exchange that is gone) is opened anew with the link."""
        if self._declare is not None:
            await self._declare(link)
        channel = self._channel = await link.channel(confirming=True)
        self._refused_since.clear()
        self._link = link
        self._wake()
        try:
            await asyncio.wait([channel.closed])
        finally:
            self._channel = self._link = None
        raise LinkLost(channel.closed.result())

    def _wake(self) -> None:
        for change in tuple(self._waiting):
            if not change.done():
                change.set_result(None)
