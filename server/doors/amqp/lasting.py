"""A connection that comes back: whatever ended it, a new one is made, after a pause that grows, with chance in it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from server.clock import Clock, Pauses
from server.doors.amqp.broker import Broker, Link, LinkLost

log = structlog.get_logger("atelier.amqp")

FIRST_PAUSE = 0.5  # seconds; a broker that restarts is back in about five
LONGEST_PAUSE = 30.0  # seconds; a broker that was away for long is found again within it
STEADY_AFTER = 30.0  # seconds that a connection has to last for the pauses to be short again


class Backoff:
    """Pauses that double up to a limit. Half of each is left to chance, so that many nodes do not come back at one moment."""

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance
        self._pause = FIRST_PAUSE

    def next(self) -> float:
        """Seconds."""
        pause, self._pause = self._pause, min(self._pause * 2, LONGEST_PAUSE)
        return pause * (0.5 + 0.5 * self._chance())

    def reset(self) -> None:
        """It went well for a while."""
        self._pause = FIRST_PAUSE


class Lasting:
    """Keeps one link for a `purpose` (a name for logs and the broker's operators).

    `use` is called with every new link, and is to last as long as the link is of use; when it returns or raises LinkLost, the
    link is closed and another is made.
    """

    def __init__(
        self,
        broker: Broker,
        purpose: str,
        use: Callable[[Link], Awaitable[None]],
        *,
        clock: Clock,
        chance: Callable[[], float],
    ) -> None:
        self._broker = broker
        self._purpose = purpose
        self._use = use
        self._clock = clock
        self._pauses = Pauses(clock)
        self._backoff = Backoff(chance)
        self._task: asyncio.Task[None] | None = None
        self._link: Link | None = None
        self._stopping = False
        self._problem = ""

    def start(self) -> None:
        """Connect, in the background."""
        self._task = asyncio.ensure_future(self._run())

    async def stop(self) -> None:
        """Close the link, and make no other."""
        self._stopping = True
        self._pauses.stop()
        if self._link is not None:
            await self._link.close()
        if self._task is not None:
            await self._task

    @property
    def connected(self) -> bool:
        """Whether there is a link now."""
        return self._link is not None

    async def _run(self) -> None:
        while not self._stopping:
            try:
                link = await self._broker.connect(self._purpose)
            except LinkLost as lost:
                self._note(str(lost))
            except Exception as error:  # a mistake of ours, or of a library's: no reason never to come back
                log.exception("amqp.broken", purpose=self._purpose)
                self._problem = str(error)
            else:
                await self._use_it(link)
            if not await self._pauses.take(self._backoff.next()):
                return

    async def _use_it(self, link: Link) -> None:
        self._link, self._problem = link, ""
        since = self._clock.seconds()
        log.info("amqp.connected", purpose=self._purpose)
        try:
            if not self._stopping:
                await self._use(link)
                self._note(link.closed.result() if link.closed.done() else "")
        except LinkLost as lost:
            self._note(link.closed.result() if link.closed.done() else str(lost))
        except Exception as error:
            log.exception("amqp.broken", purpose=self._purpose)
            self._problem = str(error)
        finally:
            self._link = None
            await link.close()
        if self._clock.seconds() - since >= STEADY_AFTER:
            self._backoff.reset()

    def _note(self, problem: str) -> None:
        """Log what is wrong when it changes, not at every try."""
        if problem != self._problem and not self._stopping:
            log.warning("amqp.away", purpose=self._purpose, reason=problem)
        self._problem = problem
