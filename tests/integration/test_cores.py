"""What tests subtract from a time because the machine was busy."""

from __future__ import annotations

import os

from tests.integration.cores import WaitsByTime, worst


def test_the_worst_gap_is_judged_without_its_waits() -> None:
    """A long one that somebody waited for a core through hides no shorter one in which nobody did."""
    assert worst([(1.4, 1.2), (1.1, 0.0), (0.2, 0.0)]) == (1.1, 0.0)


def test_each_outage_has_the_waits_of_its_own_time() -> None:
    """What came after its end is not subtracted from it."""
    waits = WaitsByTime([os.getpid()])
    waits.seen = [(0.0, 0.0), (0.4, 0.1), (0.8, 0.1), (1.5, 0.9)]
    assert [waits.within(seconds) for seconds in (0.3, 0.9, 2.0)] == [0.0, 0.1, 0.9]
