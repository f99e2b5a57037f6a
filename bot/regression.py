"""Whether a series grows: the Theil-Sen slope and its confidence interval (Sen, 1968; Gilbert, 1987, 16.5).

The slope is the median of the slopes of all pairs, so that a few outliers do not bend it; the interval comes from Kendall's
statistic and assumes no distribution. Neighbouring samples of a process resemble each other, which would make any interval too
narrow; so the series is first averaged in blocks, and the blocks are compared.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

BLOCKS = 30  # 435 pairs; each of a two-hour soak's spans four minutes
FEWEST = 6  # blocks: below, no interval of 95 % exists that is of use
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Slope:
    """A second's growth, and between what it lies with CONFIDENCE. `level` is the median, `span` the seconds it was seen over."""

    slope: float
    low: float
    high: float
    level: float
    span: float

    @property
    def growth(self) -> float:
        """Over the span."""
        return self.slope * self.span

    def grows(self, negligible: float) -> bool:
        """Whether growth is certain, and more than `negligible` (a share of the level) over the span."""
        return self.low > 0 and self.growth > negligible * abs(self.level)


def slope_of(times: Sequence[float], values: Sequence[float | None]) -> Slope | None:
    """None where there are too few values to say anything."""
    seen = [(at, value) for at, value in zip(times, values, strict=True) if value is not None]
    blocks = _blocks(seen)
    if len(blocks) < FEWEST:
        return None
    slopes = sorted(
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for number, earlier in enumerate(blocks)
        for later in blocks[number + 1 :]
    )
    reach = _reach(len(blocks))
    low = max(0, int((len(slopes) - reach) / 2))
    high = min(len(slopes) - 1, int((len(slopes) + reach) / 2) + 1)
    return Slope(
        slope=statistics.median(slopes),
        low=slopes[low],
        high=slopes[high],
        level=statistics.median(value for _, value in blocks),
        span=blocks[-1][0] - blocks[0][0],
    )


def _reach(count: int) -> float:
    """How many of the sorted slopes the interval spans: z times the standard deviation of Kendall's statistic."""
    z = statistics.NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
    return z * sqrt(count * (count - 1) * (2 * count + 5) / 18)


def _blocks(seen: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    size = max(1, len(seen) // BLOCKS)
    whole = [seen[begin : begin + size] for begin in range(0, len(seen) - size + 1, size)]
    return [(statistics.fmean(at for at, _ in block), statistics.fmean(value for _, value in block)) for block in whole]
