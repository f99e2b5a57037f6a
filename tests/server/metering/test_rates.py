"""How much may be asked for in a window, and what is told where that is reached."""

from __future__ import annotations

import pytest

from server.errors import Code, Refusal
from server.limits import COST, LOGIN, REQUESTS, STANDINGS, LimitReached, Rate, Standing
from server.metering.counters import OwnCounters
from server.metering.rates import ADDRESS_SHARE, Rates

REQUEST_RATE, COST_RATE = Rate(REQUESTS, 2, 10), Rate(COST, 10, 60)


class Time:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Meter:
    """Rates, and the names of those that were reached."""

    def __init__(self, *rates: Rate, most: int = 1000) -> None:
        self.time = Time()
        self.reached: list[str] = []
        self.counters = OwnCounters(self.time, most)
        self.rates = Rates(self.counters, rates, self.reached.append)

    async def refused(self, cost: float = 1.0, owner: str = "ada") -> LimitReached:
        """A charge that is."""
        with pytest.raises(LimitReached) as caught:
            await self.rates.charge(owner, cost)
        return caught.value


async def test_a_window_takes_so_many_and_says_when_the_next_begins() -> None:
    """It begins with its owner's first request; others have windows of their own."""
    meter = Meter(REQUEST_RATE)
    for _ in range(2):
        await meter.rates.charge("ada", 1)
        meter.time.now += 1
    refusal = await meter.refused()
    assert (refusal.code, refusal.name, refusal.retry_after_seconds) == (Code.RESOURCE_EXHAUSTED, REQUESTS, 8.0)
    assert refusal.limit == "2 jobs in 10 s"
    assert "try again in 8 s" in str(refusal)
    await meter.rates.charge("bob", 1)
    meter.time.now += 8
    await meter.rates.charge("ada", 1)
    assert meter.reached == [REQUESTS]


async def test_cost_adds_up_to_the_thousandth() -> None:
    """Ten of 1.001 are too many for 10, and what is left fits to the last bit."""
    meter = Meter(COST_RATE)
    for _ in range(9):
        await meter.rates.charge("ada", 1.001)
    await meter.refused(1.001)
    await meter.rates.charge("ada", 0.991)
    await meter.refused(0.001)


async def test_who_is_refused_pays_nothing() -> None:
    """Neither against the rate that has no room, nor against those that had."""
    meter = Meter(REQUEST_RATE, COST_RATE)
    await meter.rates.charge("ada", 9)
    for _ in range(5):
        assert (await meter.refused(2)).name == COST
    await meter.rates.charge("ada", 1)
    assert (await meter.refused(0.001)).name == REQUESTS


async def test_what_is_given_back_may_be_asked_for_again() -> None:
    """Once."""
    meter = Meter(REQUEST_RATE, COST_RATE)
    charge = await meter.rates.charge("ada", 10)
    await charge.give_back()
    await charge.give_back()
    await meter.rates.charge("ada", 10)
    assert (await meter.refused(1)).name == COST


async def test_what_a_later_window_holds_is_not_given_back() -> None:
    """The window that was charged has ended."""
    meter = Meter(COST_RATE)
    charge = await meter.rates.charge("ada", 10)
    meter.time.now += 60
    await charge.give_back()
    await meter.rates.charge("ada", 10)
    await meter.refused(1)


async def test_more_than_a_whole_window_holds_is_no_matter_of_waiting() -> None:
    """INVALID_PARAMETER: to come again would help nobody, and a message in a queue would come for ever."""
    meter = Meter(COST_RATE)
    with pytest.raises(Refusal) as caught:
        await meter.rates.charge("ada", 10.01)
    assert (caught.value.code, caught.value.field) == (Code.INVALID_PARAMETER, "cost")
    assert caught.value.limit == "a cost of at most 10"
    assert meter.reached == []


async def test_what_costs_nothing_is_not_counted_as_cost() -> None:
    """But as a request."""
    meter = Meter(REQUEST_RATE, COST_RATE)
    await meter.rates.charge("ada", 0)
    assert len(meter.counters) == 1


async def test_logins_are_counted_by_account_and_address() -> None:
    """A stranger who tries one account keeps its owner, elsewhere, not out; an address has a bound over all accounts."""
    meter = Meter(Rate(LOGIN, 3, 60))
    for _ in range(3):
        await meter.rates.login("ada", "192.0.2.1")
    with pytest.raises(LimitReached) as caught:
        await meter.rates.login("ada", "192.0.2.1")
    assert (caught.value.name, caught.value.retry_after_seconds) == (LOGIN, 60.0)
    await meter.rates.login("ada", "192.0.2.2")
    for number in range(3 * ADDRESS_SHARE - 3):
        await meter.rates.login(f"user-{number}", "192.0.2.1")
    with pytest.raises(LimitReached):
        await meter.rates.login("bob", "192.0.2.1")
    await meter.rates.login("bob", "192.0.2.2")
    assert meter.reached == [LOGIN, LOGIN]


async def test_two_names_are_never_one_key() -> None:
    """Whatever characters are in them."""
    meter = Meter(Rate(LOGIN, 1, 60))
    await meter.rates.login("a/b", "c")
    await meter.rates.login("a", "b/c")
    await meter.rates.login("\udcff" * 10_000, "d")


async def test_a_door_that_tells_standings_has_them() -> None:
    """Of each rate what is left, also where one was reached."""
    meter, told = Meter(REQUEST_RATE, COST_RATE), dict[Rate, Standing]()
    STANDINGS.set(told)
    await meter.rates.charge("ada", 4)
    assert told == {
        REQUEST_RATE: Standing(REQUEST_RATE, 1.0, 10.0),
        COST_RATE: Standing(COST_RATE, 6.0, 60.0),
    }
    meter.time.now += 4
    await meter.refused(7)
    assert told[COST_RATE] == Standing(COST_RATE, 6.0, 56.0)


async def test_a_crowd_of_names_takes_no_more_than_its_room() -> None:
    """What has ended goes first, then what began first."""
    meter = Meter(REQUEST_RATE, most=3)
    for number in range(3):
        await meter.rates.charge(f"user-{number}", 1)
    meter.time.now += 10
    await meter.rates.charge("ada", 1)
    assert len(meter.counters) == 1
    for number in range(5):
        await meter.rates.charge(f"user-{number}", 1)
    assert len(meter.counters) == 3


async def test_a_clock_that_is_set_moves_no_window() -> None:
    """Windows are counted on a clock that cannot be set."""
    meter = Meter(REQUEST_RATE)
    counters = OwnCounters()
    rates = Rates(counters, [REQUEST_RATE])
    await rates.charge("ada", 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.time", lambda: 0.0)
        await rates.charge("ada", 1)
        with pytest.raises(LimitReached) as caught:
            await rates.charge("ada", 1)
    assert 8 < caught.value.retry_after_seconds <= 10
    assert len(meter.counters) == 0
