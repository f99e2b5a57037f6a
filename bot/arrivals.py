"""When visitors mean to come, where they come whether or not the server keeps up: seeded, so that a run can be repeated.

The moments are those of an inhomogeneous Poisson process, by thinning (Lewis and Shedler, 1979): candidates at the highest
rate, each kept with the probability rate(t) / highest.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from bot.profile import Arrivals, Closed, Poisson, Ramp, Spike

Rate = Callable[[float], float]


def rate_of(arrivals: Arrivals, seconds: float) -> tuple[Rate, float]:
    """Visitors a second at a moment of a run of so many seconds, and the highest there is."""
    match arrivals:
        case Poisson(rate=rate):
            return (lambda _: rate), rate
        case Ramp(from_rate=first, to_rate=last):
            return (lambda t: first + (last - first) * t / seconds), max(first, last)
        case Spike(rate=rate, spike_rate=high, spike_at=at, spike_seconds=lasting):
            begins = at * seconds
            return (lambda t: high if begins <= t < begins + lasting else rate), max(rate, high)
        case Closed():
            raise ValueError("in a closed loop, visitors come when the last answer is there")


def moments(arrivals: Arrivals, seed: int, seconds: float) -> Iterator[float]:
    """Seconds from the start, ascending."""
    rate, highest = rate_of(arrivals, seconds)
    return thinned(rate, highest, seed, seconds)


def thinned(rate: Rate, highest: float, seed: int, seconds: float) -> Iterator[float]:
    """Moments of a Poisson process of that rate, which is nowhere above `highest`."""
    chance = random.Random(f"{seed}:arrivals")  # noqa: S311  # to be repeated, not to be secret
    at = chance.expovariate(highest)
    while at < seconds:
        if chance.random() * highest < rate(at):
            yield at
        at += chance.expovariate(highest)
