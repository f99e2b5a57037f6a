"""Time, as an argument. Twisted's reactor and its task.Clock are both a `Clock`; IReactorTime says the same for zope."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Timer(Protocol):
    """A call that is to come."""

    def active(self) -> bool:
        """Whether it is still to come."""
        ...

    def cancel(self) -> None:
        """It is not to come. Raises if it has come, or was cancelled."""
        ...

    def reset(self, secondsFromNow: float) -> None:  # noqa: N803  # Twisted's name
        """Let it come so many seconds from now."""
        ...

    def getTime(self) -> float:  # noqa: N802  # Twisted's name
        """When it will come, by the clock's seconds."""
        ...


class Clock(Protocol):
    """Seconds since 1970 (UTC), and calls to come."""

    def seconds(self) -> float:
        """The time now."""
        ...

    def callLater(self, delay: float, callable: Callable[..., object], *args: Any) -> Timer:  # noqa: A002, N802
        """Call after `delay` seconds, on the reactor thread."""
        ...


class Pauses:
    """Waiting by the clock, for coroutines that must not hold up a stop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: dict[asyncio.Future[bool], Timer] = {}
        self._stopped = False

    @property
    def stopped(self) -> bool:
        """Whether nobody waits any more."""
        return self._stopped

    async def take(self, seconds: float) -> bool:
        """Wait so long; False, at once, when everything stops."""
        if self._stopped:
            return False
        over: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting[over] = self._clock.callLater(seconds, self._end, over, True)
        return await over

    def stop(self) -> None:
        """End all waiting, for good."""
        self._stopped = True
        for over, timer in tuple(self._waiting.items()):
            timer.cancel()
            self._end(over, False)

    def _end(self, over: asyncio.Future[bool], waited: bool) -> None:
        del self._waiting[over]
        if not over.done():
            over.set_result(waited)


async def within(clock: Clock, seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives; after so many seconds it is cancelled, and TimeoutError raised."""
    task = asyncio.ensure_future(work)
    late = False

    def expire() -> None:
        nonlocal late
        late = task.cancel()

    timer = clock.callLater(seconds, expire)
    try:
        return await task
    except asyncio.CancelledError:
        if late:
            raise TimeoutError from None
        raise
    finally:
        if timer.active():
            timer.cancel()
