"""Waiting for what brokers, records and processes tell a test of by nothing but being asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(look: Callable[[], Awaitable[T | None]]) -> T:
    """What `look` finds, as soon as it finds something."""
    while True:
        found = await look()
        if found is not None:
            return found
        await asyncio.sleep(0.02)


async def until(condition: Callable[[], bool]) -> None:
    """Until it holds."""

    async def look() -> bool | None:
        return condition() or None

    await eventually(look)
