"""bench.workers for a moment: both servers paint, and the ratio is theirs."""

from __future__ import annotations

import pytest

from bench.workers import measure


def test_two_beside_one(capsys: pytest.CaptureFixture[str]) -> None:
    """Pictures came out of both."""
    figures = measure(rounds=1, seconds=1.0, clients=2, processes=2, warm=0.5)
    assert figures["pictures_one"] > 0
    assert figures["workers_ratio"] == pytest.approx(figures["pictures_several"] / figures["pictures_one"])
    assert "2 processes over one" in capsys.readouterr().out
