"""When a server ticks, by what it says."""

from __future__ import annotations

import random

import pytest

from bot.live.motion import CYCLE, images_of, values_of
from bot.live.phase import Phase

START = 1_700_000_000_000_000


@pytest.mark.parametrize("after", [-5_000_000, -1, 0, 1, 33_333, 10_000_000])
def test_ticks_go_on_for_ever(after: int) -> None:
    """The next one is a whole number of periods away from one that was told, before it or after it."""
    phase = Phase(30.0, START)
    tick = phase.next_tick(START + after)
    assert 0 <= tick - (START + after) < 1e6 / 30
    periods = (tick - START) / (1e6 / 30)
    assert periods == pytest.approx(round(periods), abs=1e-4)


def test_a_late_tick_is_no_new_rhythm() -> None:
    """One of many that comes late hardly moves what is expected."""
    phase = Phase(30.0, START)
    before = phase.next_tick(START + 1_000_000)
    phase.ticked(START + 500_000 + 10_000)
    assert abs(phase.next_tick(START + 1_000_000) - before) < 1000


def test_a_clock_that_drifts_is_followed() -> None:
    """Ticks that come a little later each time are expected later, within a second, though they waver."""
    phase, chance = Phase(30.0, START), random.Random(3)
    tick = float(START)
    for _ in range(60):
        tick += 1e6 / 30 + 50
        phase.ticked(round(tick + chance.gauss(0, 300)))
    assert phase.next_tick(tick + 10_000) - tick == pytest.approx(1e6 / 30, abs=1500)


def test_what_bots_send_is_the_same_again() -> None:
    """By the seed; no two sessions send the same; values are within what sensors give."""
    frames = values_of(3, 12, 7)
    assert frames == values_of(3, 12, 7) != values_of(4, 12, 7)
    assert len(frames) == CYCLE
    assert all(len(frame) == 12 and 0 <= min(frame) <= max(frame) <= 1 for frame in frames)
    assert frames[0] != frames[1]
    images = images_of(3, 4, 5, 7)
    assert images == images_of(3, 4, 5, 7)
    assert {len(image) for image in images} == {60}
