"""bot.patience: how long a client waits before it comes back."""

from __future__ import annotations

from bot.patience import Backoff


def test_waits_double_up_to_the_longest() -> None:
    """Each wait is twice the last one, until the cap."""
    backoff = Backoff(0.25, 1.5, lambda: 1.0)
    assert [backoff.next() for _ in range(5)] == [0.25, 0.5, 1.0, 1.5, 1.5]


def test_waits_are_spread_over_their_upper_half() -> None:
    """The randomness takes up to half of a wait away, and does not compound."""
    backoff = Backoff(1.0, 8.0, lambda: 0.0)
    assert [backoff.next() for _ in range(3)] == [0.5, 1.0, 2.0]


def test_after_a_reset_it_begins_anew() -> None:
    """A success makes the next wait the first one again."""
    backoff = Backoff(1.0, 8.0, lambda: 1.0)
    backoff.next()
    backoff.next()
    backoff.reset()
    assert backoff.next() == 1.0
