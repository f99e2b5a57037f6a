"""What the records hold that is still to be done, by all nodes together: looked at every few seconds, and told from memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import structlog

from server.clock import Clock, Pauses
from server.errors import RecordsUnavailable
from server.futures import Tasks
from server.job import JobState
from server.webhook import CallState, Channel

log = structlog.get_logger("atelier.records")

EVERY = 10.0  # seconds between looks: metrics are asked for every 15 or so, and a look costs the database a millisecond


@dataclass(frozen=True, slots=True)
class ChannelBacklog:
    """The calls of one channel: how many are WAITING, SENDING, UNKNOWN, DEAD; since when (seconds since 1970) the oldest
    waiting one is to be told, and when the one that is first in turn was or is due. None where nothing waits."""

    calls: Mapping[CallState, int] = field(default_factory=dict)
    oldest: float | None = None
    first_due: float | None = None

    def age(self, now: float) -> float:
        """Seconds since the oldest waiting call is to be told; 0 where none waits."""
        return 0.0 if self.oldest is None else max(0.0, now - self.oldest)

    def overdue(self, now: float) -> float:
        """Seconds since the turn of the first waiting call; 0 where none is late."""
        return 0.0 if self.first_due is None else max(0.0, now - self.first_due)


@dataclass(frozen=True, slots=True)
class Backlog:
    """Jobs that have not ended, by state, and what the outbox holds; empty before the first look."""

    jobs: Mapping[JobState, int] = field(default_factory=dict)
    outbox: Mapping[Channel, ChannelBacklog] = field(default_factory=dict)

    def channel(self, channel: Channel) -> ChannelBacklog:
        """One channel's."""
        return self.outbox.get(channel, ChannelBacklog())


class BacklogWatch:
    """Looks every `EVERY` seconds. `latest` is what was there last; `looked_at` says when, 0 before the first look."""

    def __init__(self, look: Callable[[], Awaitable[Backlog]], clock: Clock) -> None:
        self._look = look
        self._clock = clock
        self._pauses = Pauses(clock)
        self._tasks = Tasks()
        self.latest = Backlog()
        self.looked_at = 0.0

    def begin(self) -> None:
        """Look now, and from now on."""
        self._tasks.start(self._keep_looking())

    def stop(self) -> None:
        """No more."""
        self._pauses.stop()

    async def _keep_looking(self) -> None:
        while True:
            try:
                self.latest = await self._look()
            except RecordsUnavailable as error:
                log.debug("backlog.unknown", reason=error.reason)
            else:
                self.looked_at = self._clock.seconds()
            if not await self._pauses.take(EVERY):
                return
