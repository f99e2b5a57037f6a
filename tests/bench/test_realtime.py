"""bench.realtime with a few sessions and a small audience: the whole way, whose figures mean nothing at that size."""

from __future__ import annotations

import pytest

from bench.realtime import Plan, measure
from bench.timer_loop import lateness


def test_a_few_sessions(capsys: pytest.CaptureFixture[str]) -> None:
    """Every window is measured, every session has its results, everybody in the audience hears, and nothing is lost."""
    figures = measure(Plan(rounds=1, seconds=1.0, sessions=6, subscribers=20, lead=12.0))
    assert figures["sessions"] == 6
    assert figures["subscribers"] == 20
    assert figures["starved"] == 0
    assert figures["udp_loss"] < 0.5
    assert 0 < figures["tick_p99_ms"] < 5000
    assert figures["tick_alone_ms"] <= figures["tick_p99_ms"]
    said = capsys.readouterr().out
    assert "6 sessions, 30 frames a second each" in said
    assert "20 UDP subscribers of one session" in said
    assert "0 heard nothing" in said


def test_a_timer_loop_is_a_little_late() -> None:
    """And never early."""
    assert 0 <= lateness(0.2) < 1000
