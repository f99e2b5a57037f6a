"""Waiting by an injected clock."""

from __future__ import annotations

import asyncio

import pytest
from twisted.internet.task import Clock

from server.clock import within
from tests.server.fakes import settle


async def test_what_is_done_in_time_is_given() -> None:
    """And leaves no timer."""
    clock = Clock()

    async def work() -> int:
        return 7

    assert await within(clock, 1, work()) == 7
    assert clock.getDelayedCalls() == []


async def test_what_takes_too_long_is_cancelled() -> None:
    """At the very second, with TimeoutError."""
    clock = Clock()
    going = asyncio.ensure_future(within(clock, 5, _for_ever()))
    await settle()
    clock.advance(4.9)
    await settle()
    assert not going.done()
    clock.advance(0.1)
    with pytest.raises(TimeoutError):
        await going


async def test_cancelling_the_waiter_cancels_the_work() -> None:
    """Which is no time-out."""
    clock = Clock()
    going = asyncio.ensure_future(within(clock, 5, _for_ever()))
    await settle()
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    assert clock.getDelayedCalls() == []


async def _for_ever() -> None:
    await asyncio.get_running_loop().create_future()
