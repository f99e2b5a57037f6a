"""bench.crowd with a small crowd: the whole way, whose figures mean nothing at that size."""

from __future__ import annotations

import pytest

from bench.crowd import measure


def test_a_small_crowd(capsys: pytest.CaptureFixture[str]) -> None:
    """All are held, both windows are measured, nobody is lost, and slow readers are told less than good ones."""
    figures = measure(40, 12, 1.0, settling=1.0)
    assert figures["connections"] == 40
    assert figures["gap_p99_ms"] > 50
    assert figures["memory_mb"] > 10
    said = capsys.readouterr().out
    assert "40 connections held, 12 of them at work, 4 of these slow" in said
    assert "0 lost" in said
