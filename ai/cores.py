"""How a pass uses the CPU's cores: on how many threads, whole or in parts side by side. The quickest way is found by trying.

A library's operation wakes its threads and waits for the last of them, each time; in a small network that takes longer than what
they share. Then the same pass is quicker on one thread; and where it has rows enough, quicker still in parts of fewer rows, each
on a thread of its own from its first operation to its last (docs/benchmarks.md, "What makes a pass quicker"). In a large network
an operation is work enough to be shared.

Plain Python; `take` sets the calling thread's number of threads. Everything but the parts themselves runs on the loop's thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import NamedTuple, TypeVar

T = TypeVar("T")

# Counted passes of each way, of which the quickest tells; the first of each, in which the libraries prepare themselves, is not
# counted.
TRIES = 3

# What another core must gain: a twentieth of a pass. It is missing elsewhere: to the reactor, and where pictures are signed.
WORTH = 1.05

# Seconds from which on a pass is tried in no other way: waking threads takes a tenth of a second where it takes much.
LONG = 0.5

# Seconds up to which a pass is not tried in parts: to hand a part to a thread and wait for it takes up to a millisecond.
SHORT = 0.005

# Passes after which it is tried again: what else the machine does may have changed.
AGAIN = 500


class Way(NamedTuple):
    """How a pass is made: in so many parts at the same time, each on so many threads."""

    threads: int
    parts: int = 1


class Cores:
    """The ways of one device's passes, with at most so many threads in all."""

    def __init__(self, most: int, take: Callable[[int], None], clock: Callable[[], float] = time.perf_counter) -> None:
        self._most = most
        self._take = take
        self._clock = clock
        self._trials: dict[Hashable, Trial] = {}
        self._others = ThreadPoolExecutor(
            max(1, most - 1), thread_name_prefix="part"
        )  # no thread before its first part

    def run(self, kind: Hashable, work: Callable[[int], T], most_parts: int = 1) -> T:
        """Do `work`, a pass of this kind, in as many parts as it is told. One that fails says nothing about the others."""
        most_parts = min(self._most, most_parts)
        trial = self._trials.get((kind, most_parts))
        if trial is None or trial.passes >= AGAIN:
            trial = self._trials[kind, most_parts] = Trial(self._most, most_parts)
        way, began = trial.way, self._clock()
        self._take(way.threads)
        try:
            result = work(way.parts)
        finally:
            self._take(self._most)
        trial.note(way, self._clock() - began)
        return result

    def abreast(self, parts: Sequence[Callable[[], T]]) -> list[T]:
        """What each part makes: the first on this thread, each other on one of its own with as many library threads.

        Raises what the first of them raised that failed, when none is under way any more.
        """
        threads = max(1, self._most // len(parts))
        others = [self._others.submit(self._part, threads, part) for part in parts[1:]]
        try:
            first = parts[0]()
        finally:
            wait(others)
        return [first, *(other.result() for other in others)]

    def _part(self, threads: int, part: Callable[[], T]) -> T:
        self._take(threads)
        return part()


class Trial:
    """The best way until now against a rival: first half as many threads, until that does not win, then twice as many parts."""

    def __init__(self, most: int, most_parts: int) -> None:
        self.passes = 0
        self._most = most
        self._most_parts = most_parts
        self._best = Way(most)
        self._rival: Way | None = self._fewer()
        self._seconds: dict[Way, list[float]] = {}

    @property
    def way(self) -> Way:
        """The next pass's."""
        if self._rival is None or len(self._seconds.get(self._best, ())) <= TRIES:
            return self._best
        return self._rival

    def note(self, way: Way, seconds: float) -> None:
        """What such a pass took."""
        self.passes += 1
        if self._rival is None:
            return
        self._seconds.setdefault(way, []).append(seconds)
        best = self._seconds[self._best][1:]
        if len(best) >= TRIES - 1 and min(best) > LONG:
            self._rival = None
        elif len(self._seconds.get(self._rival, ())) > TRIES:
            self._decide(self._rival, min(best), min(self._seconds[self._rival][1:]))

    def _decide(self, rival: Way, best: float, seconds: float) -> None:
        saves_cores = rival.parts == 1
        won = seconds <= best * WORTH if saves_cores else seconds * WORTH <= best
        if won:
            self._best, best = rival, seconds
        self._rival = self._fewer() if won and saves_cores else None
        if self._rival is None and (won or saves_cores) and best > SHORT:
            self._rival = self._more()

    def _fewer(self) -> Way | None:
        threads = self._best.threads // 2
        return Way(threads) if threads else None

    def _more(self) -> Way | None:
        parts = 2 * self._best.parts
        return Way(self._most // parts, parts) if parts <= self._most_parts else None
