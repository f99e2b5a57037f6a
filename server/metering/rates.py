"""Rates: how much an owner may ask for in a second, a minute, a day.

A charge is all or nothing: where one rate has no room, what was added to the others is taken back, so that who is refused has
paid nothing, and can be told exactly when to come again.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from server.errors import Code, Refusal
from server.limits import COST, LOGIN, REQUESTS, LimitReached, Rate, Standing, note
from server.metering.counters import Counted, Counters

PARTS = 1000  # a cost is counted in thousandths, in whole numbers
ADDRESS_SHARE = (
    10  # accounts that one address may try as often as it may try a single one: an office behind one address fits
)


@dataclass(frozen=True, slots=True)
class _Addition:
    """Something to count: under which key, against which rate, how much (in the counters' own unit)."""

    rate: Rate
    key: str
    amount: int
    limit: int
    told: bool = True


class Charge:
    """What a job was charged. Given back once, where there is no job after all."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._made: list[tuple[_Addition, Counters]] = []

    async def add(self, addition: _Addition) -> Counted:
        """Something more."""
        counted = await self._counters.add(addition.key, addition.rate.seconds, addition.amount)
        self._made.append((addition, counted.by))
        return counted

    async def give_back(self) -> None:
        """As if it had not been asked for."""
        while self._made:
            addition, counters = self._made.pop()
            await counters.take_back(addition.key, addition.rate.seconds, addition.amount)


class Rates:
    """The rates of all owners. `refused` is told the name of each limit that was reached."""

    def __init__(
        self,
        counters: Counters,
        rates: Sequence[Rate] = (),
        refused: Callable[[str], None] = lambda name: None,
    ) -> None:
        self._counters = counters
        self._rates = tuple(rates)
        self.reached = refused
        self._of_jobs = [rate for rate in self._rates if rate.name in (REQUESTS, COST)]

    @property
    def limits_jobs(self) -> bool:
        """Whether jobs are counted at all."""
        return bool(self._of_jobs)

    async def charge(self, owner: str, cost: float) -> Charge:
        """For one job of this cost. Raises LimitReached; Refusal (INVALID_PARAMETER) for what is more than a whole window's."""
        return await self._take([self._of_job(rate, owner, cost) for rate in self._of_jobs])

    async def login(self, account: str, address: str) -> None:
        """For one try to log in to `account` from `address`, good or bad. Raises LimitReached."""
        additions = []
        for rate in self._rates:
            if rate.name == LOGIN:
                pair, alone = _key(rate, account, address), _key(rate, address)
                additions.append(_Addition(rate, pair, 1, rate.amount))
                additions.append(_Addition(rate, alone, 1, rate.amount * ADDRESS_SHARE, told=False))
        await self._take(additions)

    def _of_job(self, rate: Rate, owner: str, cost: float) -> _Addition:
        if rate.name == REQUESTS:
            return _Addition(rate, _key(rate, owner), 1, rate.amount)
        if cost > rate.amount:  # it would be told to come again for ever
            limit = f"a cost of at most {rate.amount}"
            text = f"the request costs {cost:.4g} (megapixels × steps × images), and the limit is {rate.text}"
            raise Refusal(Code.INVALID_PARAMETER, text, field="cost", limit=limit)
        return _Addition(rate, _key(rate, owner), math.ceil(cost * PARTS), rate.amount * PARTS)

    async def _take(self, additions: Sequence[_Addition]) -> Charge:
        charge = Charge(self._counters)
        for addition in filter(lambda one: one.amount, additions):
            counted = await charge.add(addition)
            if counted.total > addition.limit:
                await charge.give_back()
                raise self._reached(addition, counted.total - addition.amount, max(1.0, counted.resets_in))
            self._note(addition, counted.total, counted.resets_in)
        return charge

    def _reached(self, addition: _Addition, total: int, resets_in: float) -> LimitReached:
        rate = addition.rate
        self.reached(rate.name)
        self._note(addition, total, resets_in)
        limit = rate.text
        text = f"the limit of {limit} is reached; try again in {math.ceil(resets_in)} s"
        return LimitReached(rate.name, text, limit=limit, retry_after_seconds=resets_in)

    def _note(self, addition: _Addition, total: int, resets_in: float) -> None:
        if addition.told:
            left = max(0, addition.limit - total) * addition.rate.amount / addition.limit
            note(Standing(addition.rate, left, resets_in))


def _key(rate: Rate, *of: str) -> str:
    """Names that callers chose are hashed: they may be of any length and hold any character."""
    digest = hashlib.sha256("\0".join(of).encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return f"{rate.name}/{rate.amount}/{rate.seconds}/{digest}"
