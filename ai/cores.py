"""How many CPU threads a pass is given: as many as make it quickest, which is tried on the first passes of each kind.

Each operation wakes its threads and waits for the last of them; in a small network that takes longer than what they share,
and the same pass on one thread is quicker and leaves the other cores to the rest of the server (docs/benchmarks.md,
"What was tried to make a step shorter"). In a large one it is nothing beside the work.

Plain Python; `take` sets the calling thread's number of threads. Everything here runs on the loop's thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import TypeVar

T = TypeVar("T")

# Counted passes of each number of threads, of which the quickest tells; the first of each, in which the libraries prepare
# themselves, is not counted.
TRIES = 3

# What another core must gain: a twentieth of a pass. It is missing elsewhere: to the reactor, and where pictures are signed.
WORTH = 1.05

# Seconds from which on a pass is not tried with fewer threads: waking them takes a tenth of a second where it takes much.
LONG = 0.5

# Passes after which it is tried again: what else the machine does may have changed.
AGAIN = 500


class Cores:
    """Numbers of threads for one device's passes, from `most` downwards by halves."""

    def __init__(self, most: int, take: Callable[[int], None], clock: Callable[[], float] = time.perf_counter) -> None:
        self._most = most
        self._take = take
        self._clock = clock
        self._trials: dict[Hashable, Trial] = {}

    def run(self, kind: Hashable, work: Callable[[], T]) -> T:
        """Do `work`, a pass of this kind. One that fails says nothing about the others."""
        trial = self._trials.get(kind)
        if trial is None or trial.passes >= AGAIN:
            trial = self._trials[kind] = Trial(self._most)
        threads, began = trial.threads, self._clock()
        self._take(threads)
        try:
            result = work()
        finally:
            self._take(self._most)
        trial.note(threads, self._clock() - began)
        return result


class Trial:
    """The best number of threads until now against half as many, in turns, until halving does not win."""

    def __init__(self, most: int) -> None:
        self.passes = 0
        self._best = most
        self._rival = most // 2  # 0: there is none any more
        self._seconds: dict[int, list[float]] = {self._best: [], self._rival: []}

    @property
    def threads(self) -> int:
        """How many the next pass takes."""
        if not self._rival:
            return self._best
        best, rival = self._seconds[self._best], self._seconds[self._rival]
        return self._best if len(best) < 2 or len(best) <= len(rival) else self._rival

    def note(self, threads: int, seconds: float) -> None:
        """What such a pass took."""
        self.passes += 1
        if not self._rival:
            return
        self._seconds[threads].append(seconds)
        best, rival = self._seconds[self._best], self._seconds[self._rival]
        if len(best) >= 2 and min(best[1:]) > LONG:
            self._rival = 0
        elif min(len(best), len(rival)) > TRIES:
            self._decide(min(best[1:]), min(rival[1:]))

    def _decide(self, best: float, rival: float) -> None:
        if rival <= best * WORTH:
            self._best, self._rival = self._rival, self._rival // 2
        else:
            self._rival = 0
        self._seconds = {self._best: self._seconds[self._best], self._rival: []}
