from __future__ import annotations

from dataclasses import dataclass

from ai.batching import Group, TakeTurns

SQUARE, WIDE, TALL = Group("m", 64, 64), Group("m", 64, 128), Group("m", 128, 64)


@dataclass(frozen=True)
class Waiter:
    arrival: int
    group: Group = SQUARE
    priority: int = 0
    running: bool = False


def arrivals(policy: TakeTurns, *candidates: Waiter) -> list[int]:
    """Who the policy seats."""
    return [candidate.arrival for candidate in policy.next_step(candidates)]


def test_nothing_to_do() -> None:
    """With no candidates, nobody is seated."""
    assert arrivals(TakeTurns(4)) == []


def test_order_of_arrival() -> None:
    """Of equal priority, the first to arrive are seated, at most max_batch of them."""
    assert arrivals(TakeTurns(2), Waiter(3), Waiter(1), Waiter(2)) == [1, 2]


def test_priority() -> None:
    """A higher priority is seated before an earlier arrival."""
    assert arrivals(TakeTurns(2), Waiter(1), Waiter(2), Waiter(3, priority=5)) == [3, 1]


def test_whoever_runs_stays() -> None:
    """A sample that holds a seat keeps it, whatever the priority of those who wait."""
    assert arrivals(TakeTurns(2), Waiter(1, running=True), Waiter(2), Waiter(3, priority=9)) == [1, 3]


def test_full_batch() -> None:
    """Nobody joins a batch that is full."""
    running = [Waiter(n, running=True) for n in range(3)]
    assert arrivals(TakeTurns(3), *running, Waiter(9, priority=9)) == [0, 1, 2]


def test_groups_are_not_mixed() -> None:
    """Samples of different models or sizes do not share a step."""
    assert arrivals(TakeTurns(4), Waiter(1), Waiter(2, WIDE), Waiter(3)) == [1, 3]


def test_groups_take_turns() -> None:
    """A rare size gets every second step beside a common one."""
    policy = TakeTurns(8)
    crowd = [*(Waiter(n, running=True) for n in range(8)), Waiter(8, WIDE)]
    assert [len(arrivals(policy, *crowd)) for _ in range(4)] == [8, 1, 8, 1]


def test_new_groups_do_not_push_in() -> None:
    """A size that arrives late waits for those already in line."""
    policy = TakeTurns(8)
    assert arrivals(policy, Waiter(1), Waiter(2, WIDE)) == [1]
    assert arrivals(policy, Waiter(1), Waiter(2, WIDE), Waiter(3, TALL)) == [2]
    assert arrivals(policy, Waiter(1), Waiter(2, WIDE), Waiter(3, TALL)) == [1]
    assert arrivals(policy, Waiter(1), Waiter(2, WIDE), Waiter(3, TALL)) == [3]


def test_groups_that_are_gone_are_forgotten() -> None:
    """A size nobody waits for any more costs no turn."""
    policy = TakeTurns(8)
    arrivals(policy, Waiter(1), Waiter(2, WIDE))
    assert arrivals(policy, Waiter(1)) == [1]
    assert arrivals(policy, Waiter(1)) == [1]
