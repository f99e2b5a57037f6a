"""A session that is one visitor's own."""

from __future__ import annotations

import asyncio

from bot.doors.door import Session
from bot.errors import CannotConnectError, NotWelcomeError
from bot.waiting import pause
from server.clock import Clock

TRIES, PAUSE = 60, 0.5  # half a minute and more: a server's restart


class Guest:
    """A session for one visitor, who harms no other's times. One that cannot come in tries again for a while."""

    def __init__(self, session: Session, clock: Clock, stop: asyncio.Event) -> None:
        self._session = session
        self._clock = clock
        self._stop = stop

    async def __aenter__(self) -> Session:
        tries = 0
        while True:
            try:
                await self._session.open()
            except (CannotConnectError, NotWelcomeError):
                tries += 1
                if tries == TRIES or self._stop.is_set():
                    raise
                await pause(self._clock, PAUSE)
            else:
                return self._session

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()
