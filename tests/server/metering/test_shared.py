"""Counters in a real Redis, and what becomes of limits while it is away."""

from __future__ import annotations

import asyncio
import time

import pytest
import structlog
from pydantic import SecretStr

from server.limits import COST, LimitReached, Rate
from server.metering.counters import OwnCounters
from server.metering.rates import Rates
from server.metering.shared import PATIENCE, PAUSE, SharedCounters
from tests.redis_server import PASSWORD, RedisServer

RATE = Rate(COST, 10, 3600)
LONG = 60.0  # seconds: however busy the machine is, Redis is not taken to be away


class Node:
    """One of several, whose clock a test turns."""

    def __init__(self, url: SecretStr, patience: float = PATIENCE) -> None:
        self.now = 0.0
        self.counters = SharedCounters(url, OwnCounters(lambda: self.now), lambda: self.now, patience=patience)
        self.rates = Rates(self.counters, [RATE])

    async def is_refused(self, owner: str, cost: float) -> bool:
        """Whether a charge is."""
        try:
            await self.rates.charge(owner, cost)
        except LimitReached:
            return True
        return False


async def test_nodes_count_together(redis: RedisServer) -> None:
    """What one takes the other has not, and what is given back both have."""
    one, other = Node(redis.url, LONG), Node(redis.url, LONG)
    charge = await one.rates.charge("together", 6)
    assert await other.is_refused("together", 5)
    assert not await other.is_refused("together", 4)
    await charge.give_back()
    assert not await one.is_refused("together", 6)
    with pytest.raises(LimitReached) as caught:
        await one.rates.charge("together", 1)
    assert 3590 < caught.value.retry_after_seconds <= 3600
    await one.counters.close()
    await other.counters.close()


async def test_many_at_once_take_no_more_than_there_is(redis: RedisServer) -> None:
    """Two nodes, fifty requests each: ten get through, and the refused have paid nothing."""
    one, other = Node(redis.url, LONG), Node(redis.url, LONG)
    outcomes = await asyncio.gather(*(node.is_refused("crowd", 1) for node in (one, other) for _ in range(50)))
    assert 1 <= outcomes.count(False) <= 10
    left = 10 - outcomes.count(False)
    assert [await one.is_refused("crowd", 1) for _ in range(left + 1)] == [False] * left + [True]
    await one.counters.close()
    await other.counters.close()


async def test_while_it_is_away_each_node_counts_for_itself() -> None:
    """Limits hold; it is told once that it has gone and once that it is back, without its password."""
    redis = RedisServer()
    redis.start()
    one, other = Node(redis.url), Node(redis.url)
    with structlog.testing.capture_logs() as logs:
        assert not await one.is_refused("ada", 6)
        redis.stop()
        assert not await one.is_refused("ada", 6)
        assert await one.is_refused("ada", 6)
        assert not await other.is_refused("ada", 6)
        assert (one.counters.away, other.counters.away) == (True, True)
        redis.start()
        assert await one.is_refused("ada", 6), "it is not asked again at once"
        for node in (one, other):
            node.now += PAUSE
        assert not await one.is_refused("ada", 6)
        assert await other.is_refused("ada", 6)
    assert (one.counters.away, other.counters.away) == (False, False)
    assert [entry["event"] for entry in logs] == ["limits.redis_away"] * 2 + ["limits.redis_back"] * 2
    assert PASSWORD not in str(logs)
    await one.counters.close()
    await other.counters.close()
    redis.remove()


async def test_one_that_hangs_holds_nobody_up_for_long() -> None:
    """A request waits for it once, and the next ones do not; the reactor goes on meanwhile."""
    redis = RedisServer()
    redis.start()
    node = Node(redis.url)
    assert not await node.is_refused("ada", 1)
    redis.hang()
    began, turns = time.monotonic(), 0
    asking = asyncio.ensure_future(node.is_refused("ada", 1))
    while not asking.done():
        turns += 1
        await asyncio.sleep(0.005)
    assert not asking.result()
    for _ in range(8):
        assert not await node.is_refused("ada", 1)
    assert time.monotonic() - began < 2 * PATIENCE + 1
    assert turns > 10
    redis.go_on()
    await node.counters.close()
    redis.remove()


async def test_a_charge_of_before_is_not_given_back_elsewhere() -> None:
    """What Redis counted before it went does not make room in the node's own counters."""
    redis = RedisServer()
    redis.start()
    node = Node(redis.url)
    charge = await node.rates.charge("ada", 10)
    redis.stop()
    assert not await node.is_refused("ada", 4)
    await charge.give_back()
    assert await node.is_refused("ada", 10)
    await node.counters.close()
    redis.remove()
