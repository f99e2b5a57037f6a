"""How late the reactor is."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from server.lag import INTERVAL, KEPT, LagMeter


def a_meter() -> tuple[LagMeter, Any]:
    """A meter that was started, and its clock."""
    clock: Any = Clock()
    meter = LagMeter(clock)
    meter.start()
    return meter, clock


def test_a_reactor_in_time_has_no_lag() -> None:
    """Timers that come when they are due measure nothing."""
    meter, clock = a_meter()
    clock.pump([INTERVAL] * 100)
    assert meter.p99_ms() == pytest.approx(0.0, abs=1e-6)


def test_before_the_first_timer_the_lag_is_nothing() -> None:
    """There is always a number to tell."""
    assert a_meter()[0].p99_ms() == 0.0


def test_p99_is_what_99_of_100_timers_stayed_under() -> None:
    """One late timer of a hundred and one stands above the 99th percentile, two of a hundred do not."""
    meter, clock = a_meter()
    clock.pump([INTERVAL] * 200)
    clock.advance(INTERVAL + 0.5)
    assert meter.p99_ms() < 1
    clock.pump([INTERVAL + 0.5] * 2)
    assert meter.p99_ms() == pytest.approx(500)


def test_only_the_last_minute_counts() -> None:
    """A lag is forgotten after a minute of timers, and at once when asked to."""
    meter, clock = a_meter()
    clock.pump([INTERVAL + 1] * 50)
    assert meter.p99_ms() == pytest.approx(1000)
    clock.pump([INTERVAL] * KEPT)
    assert meter.p99_ms() < 1
    clock.pump([INTERVAL + 1] * 50)
    meter.forget()
    assert meter.p99_ms() == 0.0


def test_a_stopped_meter_leaves_no_timer() -> None:
    """Stopping twice, or before the start, does no harm."""
    meter, clock = a_meter()
    clock.advance(INTERVAL)
    meter.stop()
    meter.stop()
    LagMeter(clock).stop()
    assert clock.getDelayedCalls() == []
