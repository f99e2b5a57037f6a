"""Limits of what one owner may ask for: what they are, where an owner stands, and what is said where one is reached.

A rate is counted in windows: the first request of an owner opens one, which lasts `seconds`, and what is asked for in it adds up.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

from server.errors import Code, Refusal

REQUESTS, COST, LOGIN = "requests", "cost", "login"
DAILY_PICTURES, DAILY_COST = "daily_pictures", "daily_cost"
NAMES = (REQUESTS, COST, LOGIN, DAILY_PICTURES, DAILY_COST)
"""Every limit, as metrics and headers have it."""

_UNITS = {1: "a second", 60: "a minute", 3600: "an hour", 86_400: "a day"}


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `amount` of what `name` counts in a window of `seconds`."""

    name: str
    amount: int
    seconds: int

    @property
    def window(self) -> str:
        """For people: "a minute", or "in 90 s"."""
        return _UNITS.get(self.seconds) or f"in {self.seconds} s"

    @property
    def text(self) -> str:
        """For people."""
        return f"{self.amount} {_COUNTED[self.name]} {self.window}"


_COUNTED = {REQUESTS: "jobs", COST: "of cost", LOGIN: "logins"}


@dataclass(frozen=True, slots=True)
class Standing:
    """What is `left` of a rate in the window that is open, and in how many seconds that ends."""

    rate: Rate
    left: float
    resets_in: float


class LimitReached(Refusal):
    """RESOURCE_EXHAUSTED: one of this owner's limits is reached, `name` says which. The same may be asked again later."""

    def __init__(self, name: str, text: str, *, limit: str, retry_after_seconds: float) -> None:
        super().__init__(Code.RESOURCE_EXHAUSTED, text, limit=limit, retry_after_seconds=retry_after_seconds)
        self.name = name


STANDINGS: ContextVar[dict[Rate, Standing] | None] = ContextVar("standings", default=None)
"""Where a door that tells them has the standings of a request collected: a dictionary of its own for each request."""


def note(standing: Standing) -> None:
    """Have the door tell it, if it does."""
    collected = STANDINGS.get()
    if collected is not None:
        collected[standing.rate] = standing
