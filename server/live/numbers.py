"""What is counted of live sessions; written on the reactor thread, read by whoever tells metrics."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

from ai.histogram import Histogram

SECONDS = (
    0.001,
    0.002,
    0.004,
    0.008,
    0.016,
    0.025,
    0.033,
    0.05,
    0.1,
    0.25,
    1.0,
)  # around a tick of 30 and of 60 a second


class Meter:
    """A histogram that is added to thousands of times a second."""

    __slots__ = ("_counts", "_total")

    def __init__(self) -> None:
        self._counts = [0] * (len(SECONDS) + 1)
        self._total = 0.0

    def add(self, seconds: float) -> None:
        """One more."""
        self._counts[bisect_left(SECONDS, seconds)] += 1
        self._total += seconds

    @property
    def histogram(self) -> Histogram:
        """As it is now."""
        return Histogram(SECONDS, tuple(self._counts), self._total)


@dataclass(slots=True)
class Counts:
    """Of one model since the server's start. `tick_times`: from a tick's begin to its results being told; `frame_times`: from a
    frame's coming to its result being told; `run_times`: the process' own part of a tick."""

    frames: int = 0  # taken
    refused: int = 0  # of another shape, no numbers, from the future
    dropped: int = 0  # overtaken by newer ones before their tick, or come late
    results: int = 0
    unfit: int = 0  # rows for which the model gave no finite numbers
    ticks: int = 0  # that were run
    overruns: int = 0  # that were skipped: the one before was still running, or the reactor was late
    tick_times: Meter = field(default_factory=Meter)
    frame_times: Meter = field(default_factory=Meter)
    run_times: Meter = field(default_factory=Meter)


@dataclass(frozen=True, slots=True)
class StageNumbers:
    """One model's, now."""

    model: str
    sessions: int
    processes: int
    ready: int  # of them that have loaded the model
    died: int  # processes that ended unasked
    counts: Counts
