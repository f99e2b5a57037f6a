"""Which samples take part in the next step: a policy that sees no tensors.

Samples of one `Group` can share a forward pass; nothing else about them matters to the network. The engine asks a
policy before every step, so a sample joins at the next step boundary. A later policy (fairness between owners,
parking of low priorities) is another class with the same `next_step`.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeVar

from ai.types import AdapterUse


class Group(NamedTuple):
    """What must be equal for two samples to share a forward pass: the weights and the tensor's shape (pixels).

    Adapters are weights as long as a whole forward pass wears the same ones; rows with adapters of their own will not need
    to be told apart here.
    """

    model: str
    height: int
    width: int
    adapters: tuple[AdapterUse, ...] = ()


class Candidate(Protocol):
    """What a policy may know of a sample. `arrival` numbers are unique and rise; `running` samples hold a seat."""

    @property
    def group(self) -> Group:
        """Who it can share a forward pass with."""
        ...

    @property
    def priority(self) -> int:
        """Higher is seated first."""
        ...

    @property
    def arrival(self) -> int:
        """Its place in the order of arrival."""
        ...

    @property
    def running(self) -> bool:
        """Whether it holds a seat."""
        ...


AnyCandidate = TypeVar("AnyCandidate", bound=Candidate)


class TakeTurns:
    """Groups take turns step by step; inside a group, whoever runs stays and the most urgent join.

    A group seen for the first time goes to the end of the line, so that a stream of new sizes cannot starve an old one.
    """

    def __init__(self, max_batch: int) -> None:
        self._max_batch = max_batch
        self._line: deque[Group] = deque()

    def next_step(self, candidates: Sequence[AnyCandidate]) -> list[AnyCandidate]:
        """The samples of the next forward pass, all of one group, at most `max_batch`; none if there are none.

        Seated samples come first, in the order given, then newcomers by priority (highest first) and arrival.
        """
        group = self._next_group(candidates)
        members = [candidate for candidate in candidates if candidate.group == group]
        seated = [candidate for candidate in members if candidate.running]
        waiting = (candidate for candidate in members if not candidate.running)
        free = max(0, self._max_batch - len(seated))
        return seated + heapq.nsmallest(free, waiting, key=lambda waiter: (-waiter.priority, waiter.arrival))

    def _next_group(self, candidates: Sequence[AnyCandidate]) -> Group | None:
        present = dict.fromkeys(candidate.group for candidate in candidates)  # a set that keeps the order of arrival
        standing = [group for group in self._line if group in present]
        self._line = deque(standing + [group for group in present if group not in set(standing)])
        if not self._line:
            return None
        self._line.rotate(-1)
        return self._line[-1]
