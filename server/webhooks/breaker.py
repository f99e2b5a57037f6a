"""Which receivers are called now: how many calls each may have at once, and which is left alone for a while.

One that does not answer (no connection, no answer in time) several times in a row is left alone; then one call tries it, and if
that fails too it is left alone for twice as long. Any answer at all, a refusal too, shows that it lives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

FAILURES = 3  # in a row: one or two are a deployment, or a bad moment
FIRST_REST = 5.0  # seconds
FORGET_AFTER = 600.0  # seconds: nothing was to be told to it meanwhile
LONGEST_REST = (
    300.0  # seconds: a receiver that comes back is found within five minutes, whatever its calls' own turns are
)


@dataclass(slots=True)
class _Target:
    under_way: int = 0
    failures: int = 0
    rest: float = 0.0
    until: float = 0.0
    heard_of: float = 0.0  # when a call to it began last


class Targets:
    """At most `each` calls at once to one target."""

    def __init__(self, each: int) -> None:
        self.each = each
        self._targets: dict[str, _Target] = {}

    def room(self, now: float) -> dict[str, int]:
        """How many more calls each of the targets that are not as all others may have; all others may have `each`."""
        long_ago = now - FORGET_AFTER
        for name in [
            name
            for name, target in self._targets.items()
            if not target.under_way and target.heard_of < long_ago > target.until
        ]:
            del self._targets[name]  # users may name any number of addresses that nobody answers at
        return {name: self._room(target, now) for name, target in self._targets.items()}

    def begin(self, name: str, now: float) -> None:
        """A call is under way."""
        target = self._targets.setdefault(name, _Target())
        target.under_way += 1
        target.heard_of = now

    def answered(self, name: str) -> bool:
        """It was answered, whatever the answer; whether the target had been left alone before."""
        target = self._targets[name]
        target.under_way -= 1
        had_rested = target.rest > 0.0
        target.failures, target.rest, target.until = 0, 0.0, 0.0
        if not target.under_way:
            del self._targets[name]  # as all others
        return had_rested

    def silent(self, name: str, now: float, random: Callable[[], float]) -> float | None:
        """It was not; until when the target is left alone, if that begins now."""
        target = self._targets[name]
        target.under_way -= 1
        target.failures += 1
        if target.failures < FAILURES or target.until > now:
            return None
        target.rest = min(max(FIRST_REST, target.rest * 2), LONGEST_REST)
        target.until = now + target.rest * (0.75 + random() / 2)
        return target.until

    @property
    def under_way(self) -> int:
        """Calls to all of them."""
        return sum(target.under_way for target in self._targets.values())

    def under_way_to(self, name: str) -> int:
        """Calls to one of them."""
        return self._targets[name].under_way if name in self._targets else 0

    def resting(self, now: float) -> int:
        """How many are left alone."""
        return sum(target.until > now for target in self._targets.values())

    def _room(self, target: _Target, now: float) -> int:
        if target.until > now:
            return 0
        most = 1 if target.failures >= FAILURES else self.each
        return max(0, most - target.under_way)
