"""Which samples take part in the next step: a policy that sees no tensors, no clock and no threads.

Samples of one `Group` can share a forward pass. The engine asks before every step, so a sample joins, is parked or comes
back at a step boundary. In this order:

1. **Whose turn it is.** Of the groups, those that hold the highest priority; among them the turns (in device seconds) are
   shared by their claims (`ai.shares.Claims`). A lower priority gets one turn after `max_passed_over` at most.
2. **Who is seated.** Whoever has a seat keeps it. Free seats go to the highest priority, there to the owner who is next
   by its share (`ai.shares.FairQueue`), of the owner's samples to the first that came. Again a lower priority gets a seat
   after `max_passed_over` that went past it; such a seat is kept to the end.
3. **Who is parked.** Where no seat is free, a higher priority takes the seat of a lower one: of the lowest, the one that
   has most steps before it. What was parked waits in its old place in the line, and goes on from the step it had made.

A batch has at most `max_batch` samples, and no more than is worth it by the measured step times (`ai.pace`). No seat stays
free while somebody waits for it, and no turn is passed while there is work. docs/scheduling.md tells operators the same.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, Protocol, TypeVar

from ai.pace import Pace
from ai.shares import Claims, FairQueue, Precedence
from ai.types import EngineSettings


class Group(NamedTuple):
    """What must be equal for two samples to share a forward pass: the weights and the tensor's shape (pixels)."""

    model: str
    height: int
    width: int


class Candidate(Protocol):
    """What the policy may know of a sample. It must be equal to nothing but itself."""

    @property
    def group(self) -> Group:
        """Who it can share a forward pass with. A step may change it."""
        ...

    @property
    def owner(self) -> str:
        """Who asked for it."""
        ...

    @property
    def priority(self) -> int:
        """Higher is served first."""
        ...

    @property
    def arrival(self) -> int:
        """Its place in the order of arrival: unique, and never another."""
        ...

    @property
    def rows(self) -> int:
        """Rows it takes of the network's batch: two with guidance, else one."""
        ...

    @property
    def steps_left(self) -> int:
        """Steps it still has to make."""
        ...

    @property
    def begun(self) -> bool:
        """Whether it holds tensors: it has been seated before."""
        ...


AnyCandidate = TypeVar("AnyCandidate", bound=Candidate)


@dataclass(frozen=True, slots=True)
class Turn(Generic[AnyCandidate]):
    """Who takes the next step, all of one group; and of those who have begun, whom a higher priority keeps from it."""

    samples: list[AnyCandidate]
    parked: list[AnyCandidate]


@dataclass(slots=True)
class _Seat:
    """A place in a group's batch. `claim` is what its owner was charged by; a `kept` seat is not taken away."""

    queue: FairQueue
    claim: float
    kept: bool


@dataclass(slots=True)
class _Line(Generic[AnyCandidate]):
    """A group that has samples: those in its batch, in the order in which they were seated, and those who wait."""

    precedence: Precedence
    seated: list[AnyCandidate] = field(default_factory=list)
    waiting: dict[int, dict[str, list[AnyCandidate]]] = field(default_factory=dict)  # by priority, by owner, by arrival
    queues: dict[int, FairQueue] = field(default_factory=dict)  # by priority
    level: int | None = None  # the priority at which it competes for turns; None: it did not at the latest
    used: float = 0.0  # device seconds over its claim, at this level
    last_turn: int = 0

    def wait(self, candidate: AnyCandidate) -> None:
        own = self.waiting.setdefault(candidate.priority, {}).setdefault(candidate.owner, [])
        insort(own, candidate, key=_arrival)

    def leave(self, candidate: AnyCandidate) -> None:
        """It waits no longer."""
        owners = self.waiting[candidate.priority]
        own = owners[candidate.owner]
        del own[bisect_left(own, candidate.arrival, key=_arrival)]
        if not own:
            del owners[candidate.owner]
        if not owners:
            del self.waiting[candidate.priority]

    def highest(self, opened: bool) -> int:
        """The highest priority of those who may step: all, or only those seated."""
        seated = [candidate.priority for candidate in self.seated]
        return max([*seated, *self.waiting] if opened else seated)


class BatchPolicy(Generic[AnyCandidate]):
    """Decides step by step: `next_step`, and then, once it was made, `stepped`. A step costs it as much time as there are
    groups, owners and seats, however many samples wait."""

    def __init__(self, settings: EngineSettings) -> None:
        self.pace = Pace(settings.max_step_seconds)
        self._settings = settings
        self._turns = Precedence(settings.max_passed_over)
        self._lines: dict[Group, _Line[AnyCandidate]] = {}
        self._groups: dict[AnyCandidate, Group] = {}  # of everyone here, as it is filed
        self._seats: dict[AnyCandidate, _Seat] = {}
        self._parked: dict[AnyCandidate, None] = {}  # a set that keeps its order
        self._counts: Counter[tuple[str, Group]] = Counter()
        self._claims: Claims[Group] | None = None  # None: the counts have changed since
        self._clocks: dict[int, float] = {}  # of each priority: what the group whose turn it was had used
        # Of the latest turn: its number, its group, that group's claim, and those of all that competed for it.
        self._turn, self._group, self._claim, self._all_claims = 0, Group("", 0, 0), 1.0, 1.0

    def add(self, candidate: AnyCandidate) -> None:
        """It may step from now on."""
        group = self._groups[candidate] = candidate.group
        if group not in self._lines:
            self._lines[group] = _Line(Precedence(self._settings.max_passed_over))
        self._lines[group].wait(candidate)
        self._counts[candidate.owner, group] += 1
        self._claims = None

    def discard(self, candidate: AnyCandidate) -> None:
        """It has nothing to step any more, or is given up. One that is not here is ignored."""
        group = self._groups.pop(candidate, None)
        if group is None:
            return
        line = self._lines[group]
        if candidate in self._seats:
            self._unseat(line, candidate)
        else:
            line.leave(candidate)
        self._parked.pop(candidate, None)
        if not line.seated and not line.waiting:
            del self._lines[group]
        self._counts[candidate.owner, group] -= 1
        if not self._counts[candidate.owner, group]:
            del self._counts[candidate.owner, group]
        self._claims = None

    def next_step(self, seats: Callable[[Group], bool] = lambda group: True) -> Turn[AnyCandidate]:
        """Who takes the next step. Nobody if there is nobody.

        `seats` says whether a group may seat anybody now; one that may not (its model is not in memory) steps whoever has a
        seat there.
        """
        opened = {group: line for group, line in self._lines.items() if seats(group)}
        levels: dict[Group, int] = {}
        for group, line in self._lines.items():
            if group in opened or line.seated:
                levels[group] = line.highest(group in opened) if self._settings.parking else 0
            else:
                line.level = None
        if not levels:
            return Turn([], [])
        level = self._turns.next(set(levels.values()))
        self._group = self._next_group(levels, level)
        line = self._lines[self._group]
        if self._group in opened:
            self._fill(line)
            if self._settings.parking:
                self._park(line)
        paused = [one for group in levels if levels[group] < level for one in self._lines[group].seated if one.begun]
        return Turn(list(line.seated), [*self._parked, *paused])

    def stepped(self, samples: Sequence[AnyCandidate], seconds: float) -> None:
        """Those of the latest turn's samples that could take it have made their step, which took so long."""
        self.pace.note(self._group, _rows(samples), seconds)
        self._lines[self._group].used += seconds / self._claim
        for candidate in samples:
            if candidate.group != self._group:
                self.discard(candidate)
                self.add(candidate)

    def seconds_per_turn(self) -> float:
        """Seconds from one step of the latest turn's group to its next, at the present pace and with the present work."""
        return self.pace.recent(self._group) * self._all_claims / self._claim

    @property
    def seated(self) -> list[Group]:
        """The groups in which somebody has a seat."""
        return [group for group, line in self._lines.items() if line.seated]

    @property
    def _shares(self) -> Claims[Group]:
        if self._claims is None:
            self._claims = Claims(self._counts, self._settings.max_batch)
        return self._claims

    # Whose turn it is

    def _next_group(self, levels: Mapping[Group, int], level: int) -> Group:
        """Of the groups at this level, the one that has used least of its claim; of equal ones whoever waits longest."""
        competing = [group for group in levels if levels[group] == level]
        self._clocks = {present: self._clocks.get(present, 0.0) for present in levels.values()}
        for group in competing:
            line = self._lines[group]
            if line.level != level:  # it has just come to this level: it has saved up nothing, and owes nothing
                line.level, line.used, line.last_turn = level, self._clocks[level], self._turn - 1
        group = min(competing, key=lambda group: (self._lines[group].used, self._lines[group].last_turn))
        chosen = self._lines[group]
        self._turn += 1
        chosen.last_turn, self._clocks[level] = self._turn, chosen.used
        self._claim, self._all_claims = self._shares.of_group(group), sum(map(self._shares.of_group, competing))
        return group

    # Who is seated

    def _fill(self, line: _Line[AnyCandidate]) -> None:
        """Give the free seats to those who wait."""
        max_batch, most_rows = self._settings.max_batch, self.pace.most_rows(self._group)
        while line.waiting and (not line.seated or (len(line.seated) < max_batch and _rows(line.seated) < most_rows)):
            highest = max(line.waiting)
            priority = line.precedence.next(line.waiting)
            self._seat(line, priority, kept=priority < highest)

    def _seat(self, line: _Line[AnyCandidate], priority: int, *, kept: bool) -> None:
        """Give a seat to the one who is next of those who wait at this priority."""
        queue = line.queues.setdefault(priority, FairQueue())
        owner = queue.next(line.waiting[priority])
        candidate = line.waiting[priority][owner][0]
        claim = self._shares.of_owner(owner, self._group)
        queue.charge(owner, _work(candidate, claim))
        line.leave(candidate)
        line.seated.append(candidate)
        self._seats[candidate] = _Seat(queue, claim, kept)
        self._parked.pop(candidate, None)

    def _unseat(self, line: _Line[AnyCandidate], candidate: AnyCandidate) -> None:
        """Take its seat, and give back to its owner what is not used of it."""
        seat = self._seats.pop(candidate)
        seat.queue.refund(candidate.owner, _work(candidate, seat.claim))
        line.seated.remove(candidate)

    # Who is parked

    def _park(self, line: _Line[AnyCandidate]) -> None:
        """Give the seats of lower priorities to higher ones that wait."""
        while line.waiting and len(self._parked) < self._settings.max_parked:
            highest = max(line.waiting)
            lower = [one for one in line.seated if one.priority < highest and not self._seats[one].kept]
            if not lower:
                return
            victim = min(lower, key=lambda candidate: (candidate.priority, -candidate.steps_left))
            self._unseat(line, victim)
            self._seat(line, highest, kept=False)
            line.wait(victim)
            if victim.begun:
                self._parked[victim] = None


def _arrival(candidate: Candidate) -> int:
    return candidate.arrival


def _rows(samples: Sequence[Candidate]) -> int:
    return sum(sample.rows for sample in samples)


def _work(candidate: Candidate, claim: float) -> float:
    """Pixel-steps that the sample still costs, over its owner's claim."""
    group = candidate.group
    return candidate.steps_left * candidate.rows * group.height * group.width / claim
