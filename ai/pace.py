"""How long a step takes, as measured: for the size of a batch, for deadlines and for the time that is left. Plain Python.

A size is a number of rows of the network's batch: a sample with guidance is two, one without is one.

**How large a batch may be.** `max_batch` is the limit of what fits; this module says what is worth it:

1. While a step takes no longer than `max_step_seconds`, everybody joins. A short step is a short wait for whoever comes or
   cancels next, and whoever is seated early shows progress early. What is expected of a size not tried is the time of a
   smaller one in proportion, which no real device exceeds.
2. Beyond that, a batch only grows as long as that pays: from one measured size to the next the pictures per second must
   grow by PAYS. As long as the largest size tried did pay, twice its size may be tried.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from statistics import median

# Share of the newest step in `recent`: about the last five steps count.
SMOOTHING = 0.2
# Of each size the latest steps are kept; their median forgets a first pass that compiles, and a hiccup of the machine.
KEPT_STEPS = 5
# Steps of a size before it is judged: with three, one hiccup does not decide.
SETTLED = 3
# A larger batch pays from 5 % on: less is what two runs of the same thing differ by.
PAYS = 1.05
# After so many steps of its group a size may be tried again: the machine may have been busy. Trying costs SETTLED steps.
STALE_STEPS = 500
# Rows of the first step of a size of pictures nothing is known of: four guided pictures. The next step knows more.
FIRST_ROWS = 8
# Model and picture sizes that are remembered, the latest used: 1,000 numbers at most.
KEPT_GROUPS = 200


@dataclass(slots=True)
class _Size:
    """The latest steps of one size, and the number of the group's step that was the last of them."""

    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_STEPS))
    steps: int = 0
    latest: int = 0

    @property
    def usual(self) -> float:
        return median(self.seconds)


@dataclass(slots=True)
class _Group:
    sizes: dict[int, _Size] = field(default_factory=dict)
    steps: int = 0
    recent: float = 0.0

    def fresh(self) -> dict[int, _Size]:
        """The sizes measured lately, the smallest first."""
        return {rows: size for rows, size in sorted(self.sizes.items()) if self.steps - size.latest <= STALE_STEPS}


class Pace:
    """The measured seconds of the steps of every group of samples that step together, by the number of their rows."""

    def __init__(self, max_step_seconds: float) -> None:
        self._max_step_seconds = max_step_seconds
        self._groups: dict[Hashable, _Group] = {}  # the latest used last

    def note(self, group: Hashable, rows: int, seconds: float) -> None:
        """A step of so many rows has been made."""
        one = self._groups[group] = self._groups.pop(group, _Group(recent=seconds))
        one.recent += SMOOTHING * (seconds - one.recent)
        one.steps += 1
        size = one.sizes.setdefault(rows, _Size())
        size.seconds.append(seconds)
        size.steps += 1
        size.latest = one.steps
        if len(self._groups) > KEPT_GROUPS:
            del self._groups[next(iter(self._groups))]

    def recent(self, group: Hashable) -> float:
        """Seconds that a step of this group takes lately; 0 before the first."""
        return self._groups[group].recent if group in self._groups else 0.0

    def least_seconds(self, group: Hashable, steps: int) -> float:
        """The least that `steps` steps of one sample will take, by the quickest step lately measured; 0 where none was.

        Nothing is added for waiting, for others in the batch or for decoding: what cannot be done in this time cannot
        be done at all.
        """
        if group not in self._groups:
            return 0.0
        return steps * min(min(size.seconds) for size in self._groups[group].fresh().values())

    def most_rows(self, group: Hashable) -> int:
        """How many rows are worth stepping together (see above)."""
        if group not in self._groups:
            return FIRST_ROWS
        usual = {rows: max(size.usual, 1e-9) for rows, size in self._groups[group].fresh().items()}
        settled = {rows: seconds for rows, seconds in usual.items() if self._groups[group].sizes[rows].steps >= SETTLED}
        return max(1, _quick(usual, self._max_step_seconds), _paying(settled) or max(usual))


def _quick(usual: Mapping[int, float], limit: float) -> int:
    """The largest size whose step is expected within the limit; 0 where not even the smallest's is. Smallest size first."""
    within = [rows for rows, seconds in usual.items() if seconds <= limit]
    expected = max((int(rows * limit / usual[rows]) for rows in within), default=0)
    return min([expected, *(rows - 1 for rows in usual if rows > max(within))]) if within else 0


def _paying(usual: Mapping[int, float]) -> int:
    """The largest size that pays, or twice that where nothing larger has been tried; 0 without any. Smallest size first."""
    paying, best = 0, 0.0
    for rows, seconds in usual.items():
        if rows / seconds >= best * PAYS:
            paying, best = rows, rows / seconds
    return 2 * paying if usual and paying == max(usual) else paying
