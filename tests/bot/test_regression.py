"""Slopes: what grows is told from what only trembles, and outliers bend neither."""

from __future__ import annotations

import random

import pytest

from bot.regression import FEWEST, slope_of

TIMES = [float(at) for at in range(300)]


def _noise(seed: int) -> list[float]:
    chance = random.Random(seed)
    return [1000.0 + chance.gauss(0, 5) for _ in TIMES]


def test_a_line_has_its_slope() -> None:
    """Exactly, with no doubt about it."""
    slope = slope_of(TIMES, [5 + 2 * at for at in TIMES])
    assert slope is not None
    assert slope.slope == slope.low == slope.high == pytest.approx(2.0)
    assert slope.grows(0.01)


def test_noise_rarely_grows() -> None:
    """The interval has zero in it about 19 times of 20, and a negligible growth is let pass."""
    slopes = [slope_of(TIMES, _noise(seed)) for seed in range(100)]
    assert sum(slope is not None and slope.low <= 0 <= slope.high for slope in slopes) >= 88
    assert not any(slope is not None and slope.grows(0.01) for slope in slopes)


def test_growth_under_noise_is_found() -> None:
    """Three percent over the time."""
    slope = slope_of(TIMES, [value + at * 0.1 for at, value in zip(TIMES, _noise(1), strict=True)])
    assert slope is not None
    assert slope.grows(0.01)
    assert slope.low < 0.1 < slope.high


def test_outliers_and_gaps_do_not_bend_it() -> None:
    """A few wild values leave a flat line flat."""
    values: list[float | None] = [10.0] * 300
    values[50], values[290], values[100:110] = 1e9, 1e9, [None] * 10
    slope = slope_of(TIMES, values)
    assert slope is not None
    assert not slope.grows(0.0)


def test_too_little_says_nothing() -> None:
    """Rather than anything."""
    assert slope_of(TIMES[: FEWEST - 1], [1.0] * (FEWEST - 1)) is None
