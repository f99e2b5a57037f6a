"""How large a batch is worth it, and what steps take, from measured steps."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ai.pace import FIRST_ROWS, KEPT_GROUPS, SETTLED, STALE_STEPS, Pace

SIZE = "64 × 64"


def measured(pace: Pace, seconds: Callable[[int], float], *sizes: int, steps: int = SETTLED) -> Pace:
    """A pace that has seen some steps of each of these sizes."""
    for rows in sizes:
        for _ in range(steps):
            pace.note(SIZE, rows, seconds(rows))
    return pace


def test_the_first_step_is_careful() -> None:
    """Nothing is known: a few rows, and no estimate."""
    pace = Pace(1.0)
    assert pace.most_rows(SIZE) == FIRST_ROWS
    assert pace.least_seconds(SIZE, 100) == 0.0
    assert pace.recent(SIZE) == 0.0


def test_short_steps_let_everybody_in() -> None:
    """As many as would fit into the time if rows cost in proportion, after a single step."""
    assert measured(Pace(1.0), lambda rows: 0.01 * rows, 2, steps=1).most_rows(SIZE) == 100


def test_long_steps_grow_while_it_pays() -> None:
    """Where a step costs the same whatever is in it, a batch doubles again and again."""
    pace = Pace(1.0)
    grown = []
    for _ in range(4):
        grown.append(pace.most_rows(SIZE))
        measured(pace, lambda rows: 5.0, grown[-1])
    assert grown == [8, 16, 32, 64]


def test_long_steps_do_not_grow_where_it_does_not_pay() -> None:
    """Where rows cost in proportion, the smallest size is as good as any: one more doubling is tried, and no more."""
    pace = measured(Pace(1.0), lambda rows: 5.0 * rows, 4)
    assert pace.most_rows(SIZE) == 8
    assert measured(pace, lambda rows: 5.0 * rows, 8).most_rows(SIZE) == 4


def test_a_size_whose_steps_were_long_is_no_short_one() -> None:
    """Whatever its smaller ones promised; until the measurement is old."""

    def thrashing(rows: int) -> float:
        return 0.05 * rows if rows <= 8 else 3.0

    pace = measured(Pace(1.0), thrashing, 8)
    assert pace.most_rows(SIZE) == 20
    measured(pace, thrashing, 12)
    assert pace.most_rows(SIZE) == 11
    measured(pace, thrashing, 8, steps=STALE_STEPS + 1)
    assert pace.most_rows(SIZE) == 20


def test_a_hiccup_decides_nothing() -> None:
    """A first pass that compiles, or one that was disturbed, among ordinary ones."""
    pace = measured(Pace(1.0), lambda rows: 0.01 * rows, 8)
    pace.note(SIZE, 8, 30.0)
    assert pace.most_rows(SIZE) == 100


def test_a_first_step_that_compiles_is_outlived() -> None:
    """It counts as long as it is all that is known."""
    pace = Pace(1.0)
    pace.note(SIZE, 8, 30.0)
    assert pace.most_rows(SIZE) == 8
    assert measured(pace, lambda rows: 0.01 * rows, 8).most_rows(SIZE) == 100


def test_there_is_always_room_for_one() -> None:
    """However long its step takes."""
    assert measured(Pace(0.001), lambda rows: 60.0, 1).most_rows(SIZE) >= 1


def test_the_least_time_is_by_the_quickest_step() -> None:
    """Of any size: nobody is refused for what others slow down."""
    pace = measured(Pace(1.0), lambda rows: 0.1 * rows, 2, 8)
    pace.note(SIZE, 2, 0.15)
    assert pace.least_seconds(SIZE, 10) == pytest.approx(1.5)


def test_the_recent_pace_follows() -> None:
    """A step counts for a fifth."""
    pace = Pace(1.0)
    pace.note(SIZE, 2, 1.0)
    pace.note(SIZE, 2, 2.0)
    assert pace.recent(SIZE) == pytest.approx(1.2)


def test_what_is_remembered_is_bounded() -> None:
    """Those not used for longest are forgotten."""
    pace = Pace(1.0)
    for number in range(KEPT_GROUPS + 1):
        pace.note(number, 2, 1.0)
        pace.note("often", 2, 1.0)
    assert pace.recent(0) == 0.0
    assert pace.recent(KEPT_GROUPS) == pace.recent("often") == 1.0
