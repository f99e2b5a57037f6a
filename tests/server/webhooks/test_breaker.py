"""Which receivers are called now."""

from __future__ import annotations

from server.webhooks.breaker import FAILURES, FIRST_REST, FORGET_AFTER, LONGEST_REST, Targets


def even() -> float:
    """No jitter."""
    return 0.5


def fail(targets: Targets, now: float, times: int = FAILURES) -> float | None:
    """Calls that are not answered; until when the target rests after the last."""
    until = None
    for _ in range(times):
        targets.begin("dead", now)
        until = targets.silent("dead", now, even)
    return until


def test_a_target_has_its_places_and_no_more() -> None:
    """What is under way takes them; a target that nothing is known of is as all others."""
    targets = Targets(2)
    assert targets.room(0.0) == {}
    targets.begin("a", 0.0)
    targets.begin("a", 0.0)
    targets.begin("b", 0.0)
    assert targets.room(0.0) == {"a": 0, "b": 1}
    assert (targets.under_way, targets.under_way_to("a"), targets.under_way_to("c")) == (3, 2, 0)
    targets.answered("a")
    targets.answered("b")
    assert targets.room(0.0) == {"a": 1}


def test_one_that_does_not_answer_is_left_alone() -> None:
    """After several failures in a row; an answer in between starts the count anew."""
    targets = Targets(4)
    assert fail(targets, 0.0, FAILURES - 1) is None
    targets.begin("dead", 0.0)
    assert not targets.answered("dead"), "it was never left alone"
    assert fail(targets, 0.0, FAILURES - 1) is None
    assert targets.room(0.0) == {"dead": 4}
    assert fail(targets, 10.0, 1) == 10.0 + FIRST_REST
    assert targets.room(10.0) == {"dead": 0}
    assert targets.resting(10.0) == 1


def test_one_call_tries_it_and_its_rests_grow() -> None:
    """Until somebody answers; then it is as before."""
    targets = Targets(4)
    fail(targets, 0.0)
    now, rests = FIRST_REST, []
    for _ in range(8):
        assert targets.room(now) == {"dead": 1}
        targets.begin("dead", now)
        assert targets.room(now) == {"dead": 0}
        until = targets.silent("dead", now, even)
        assert until is not None
        rests.append(until - now)
        now = until
    assert rests == [10.0, 20.0, 40.0, 80.0, 160.0, LONGEST_REST, LONGEST_REST, LONGEST_REST]
    targets.begin("dead", now)
    assert targets.answered("dead"), "it is back"
    assert targets.room(now) == {}


def test_calls_that_fail_after_it_was_left_alone_change_nothing() -> None:
    """They were under way already."""
    targets = Targets(4)
    for _ in range(4):
        targets.begin("dead", 0.0)
    ends = [targets.silent("dead", 1.0, even) for _ in range(4)]
    assert ends == [None, None, 1.0 + FIRST_REST, None]


def test_a_rest_is_a_little_shorter_or_longer_by_chance() -> None:
    """So that many nodes do not try at once."""
    targets = Targets(1)
    for _ in range(FAILURES):
        targets.begin("dead", 0.0)
        shortest = targets.silent("dead", 0.0, lambda: 0.0)
    assert shortest == FIRST_REST * 0.75


def test_targets_that_nothing_is_told_to_any_more_are_forgotten() -> None:
    """However many addresses users name."""
    targets = Targets(1)
    fail(targets, 0.0)
    assert targets.room(FORGET_AFTER - 1) == {"dead": 1}
    assert targets.room(FORGET_AFTER + FIRST_REST + 1) == {}


def test_one_that_is_being_called_is_not_forgotten() -> None:
    """However long that takes."""
    targets = Targets(1)
    targets.begin("slow", 0.0)
    assert targets.room(FORGET_AFTER * 2) == {"slow": 0}
