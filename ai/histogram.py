"""How often a measured number lay in which range: what a page of metrics is fed from. Plain Python."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace

# From the step of a small model on a fast device to a queue that nobody would wait in.
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)


@dataclass(frozen=True, slots=True)
class Histogram:
    """Never changes; `add` gives a new one. `counts[i]` is of numbers up to and with `bounds[i]` and above the bound
    before; the last is of all beyond. `total` is the numbers' sum, so that the mean is exact."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...] = ()
    total: float = 0.0

    def __post_init__(self) -> None:
        if not self.counts:
            object.__setattr__(self, "counts", (0,) * (len(self.bounds) + 1))

    @property
    def count(self) -> int:
        """How many numbers there were."""
        return sum(self.counts)

    @property
    def mean(self) -> float:
        """Their mean, 0 without any."""
        return self.total / self.count if self.count else 0.0

    def add(self, value: float) -> Histogram:
        """With one number more."""
        counts = list(self.counts)
        counts[bisect_left(self.bounds, value)] += 1
        return replace(self, counts=tuple(counts), total=self.total + value)

    def __add__(self, other: Histogram) -> Histogram:
        """Both together; their bounds are the same."""
        if self.bounds != other.bounds:
            raise ValueError("histograms of different bounds cannot be added")
        both = tuple(mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True))
        return replace(self, counts=both, total=self.total + other.total)


NO_SECONDS = Histogram(SECONDS)
NO_ROWS = Histogram(ROWS)
