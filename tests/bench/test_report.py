from __future__ import annotations

from bench.report import Spread, ratios


def test_spread_shows_median_and_extremes() -> None:
    """A figure is shown as its median with the smallest and the largest."""
    assert Spread.of([3.0, 1.0, 2.0]).text(1, 10) == "20.0 (10.0 – 30.0)"


def test_ratios_are_taken_round_by_round() -> None:
    """A round that was slow for both sides moves no ratio."""
    assert ratios([2.0, 20.0], [1.0, 10.0]).values == (2.0, 2.0)
