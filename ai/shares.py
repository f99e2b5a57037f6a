"""Who is next: between priorities, and between the owners who wait at one priority. Plain Python.

**Between owners: start-time fair queueing.** An owner's sample is served at the time, counted in pixel-steps, at which
the owner's last one will have used up its share; the earliest goes next. So everybody who waits gets an equal share, in
work and not in number of jobs: an owner's thousandth job waits for the other 999, and another owner's only one does not.
An owner who was away has saved up nothing, and one who has the device alone owes nothing later. The bound: between two
owners who both wait, what they have got differs by at most one sample of each (with equal weights), however much each
has in the queue. Source: Goyal, Vin and Cheng, "Start-time Fair Queueing", SIGCOMM 1996, algorithm in section 2; the same
idea for the batches of language models is the virtual token counter of Sheng et al., OSDI 2024, arXiv:2401.00588.

**Between priorities: the highest**, and at most `max_passed_over` times in a row past a lower one that waits.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping
from typing import Generic, TypeVar

AnyGroup = TypeVar("AnyGroup", bound=Hashable)


class Precedence:
    """Which of several priorities is served: the highest, unless a lower one has been passed over too often."""

    def __init__(self, max_passed_over: int) -> None:
        self._max_passed_over = max_passed_over
        self._passed: dict[int, int] = {}  # by priority, since it was last served or began to wait

    def next(self, waiting: Collection[int]) -> int:
        """The priority to serve now; `waiting` are all that wait, at least one. The lower ones have been passed over."""
        due = [priority for priority in waiting if self._passed.get(priority, 0) >= self._max_passed_over]
        chosen = max(due, key=lambda priority: (self._passed[priority], priority)) if due else max(waiting)
        self._passed = {
            priority: self._passed.get(priority, 0) + (priority < chosen) for priority in waiting if priority != chosen
        }
        return chosen


class FairQueue:
    """The virtual times of the owners who wait for seats of one kind. It holds no samples."""

    def __init__(self) -> None:
        self._now = 0.0  # the start tag of whoever was served last
        self._until: dict[str, float] = {}  # finish tags, of those beyond now

    def next(self, owners: Iterable[str]) -> str:
        """The owner to serve now; of equal ones the first given."""
        return min(owners, key=self._start)

    def charge(self, owner: str, work: float) -> None:
        """The owner was served; `work` is in pixel-steps over its weight."""
        self._now = max(self._now, self._start(owner))
        self._until[owner] = self._start(owner) + work
        self._until = {name: until for name, until in self._until.items() if until > self._now}

    def refund(self, owner: str, work: float) -> None:
        """Of what the owner was charged, so much was not used: cancelled, or parked."""
        if owner in self._until:
            self._until[owner] -= work

    def _start(self, owner: str) -> float:
        return max(self._now, self._until.get(owner, 0.0))


class Claims(Generic[AnyGroup]):
    """How much each owner and each group may claim. Every owner has a claim of 1, spread over its groups by what it has there.

    So a group's share of the turns grows with the work that waits in it, and nobody gets more by asking for many sizes.
    At most `enough` of an owner's samples count in a group: more than a batch cannot be stepped at once, and a rare size
    keeps a share that is worth the name.
    """

    def __init__(self, present: Mapping[tuple[str, AnyGroup], int], enough: int) -> None:
        totals: dict[str, int] = {}
        for (owner, _), count in present.items():
            totals[owner] = totals.get(owner, 0) + min(count, enough)
        self._claims = {(owner, group): min(count, enough) / totals[owner] for (owner, group), count in present.items()}
        self._groups: dict[AnyGroup, float] = {}
        for (_, group), claim in self._claims.items():
            self._groups[group] = self._groups.get(group, 0.0) + claim

    def of_owner(self, owner: str, group: AnyGroup) -> float:
        """The owner's claim in this group, more than 0, at most 1."""
        return self._claims[owner, group]

    def of_group(self, group: AnyGroup) -> float:
        """All owners' claims in this group."""
        return self._groups[group]
