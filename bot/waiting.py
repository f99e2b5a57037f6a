"""Waiting by an injected clock, and for news. asyncio's own timers would ignore a test's clock."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from server.clock import Clock

T = TypeVar("T")


async def pause(clock: Clock, seconds: float) -> None:
    """Wait so long."""
    over = asyncio.get_running_loop().create_future()
    timer = clock.callLater(seconds, over.set_result, None)
    try:
        await over
    finally:
        if timer.active():
            timer.cancel()


async def within(clock: Clock, seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives. Raises TimeoutError, and cancels it, when that takes longer."""
    task = asyncio.ensure_future(work)
    late = False

    def too_late() -> None:
        nonlocal late
        late = True
        task.cancel()

    timer = clock.callLater(seconds, too_late)
    try:
        return await task
    except asyncio.CancelledError:
        if late:
            raise TimeoutError from None
        raise
    finally:
        if timer.active():
            timer.cancel()


class News:
    """Lets any number of coroutines wait for the next change."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    async def wait(self) -> None:
        """Until the next `tell`."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)

    def tell(self) -> None:
        """Something changed."""
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
