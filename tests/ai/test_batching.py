"""Who takes part in the next step: the policy on simulated devices."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ai.batching import BatchPolicy, Group
from tests.ai.simulated import LARGE, SQUARE, WIDE, Device, Image, limits

MANY = 10**6  # of turns that nobody in a test waits for


def test_nothing_to_do() -> None:
    """With no candidates, nobody is seated and nobody is parked."""
    turn = BatchPolicy[Image](limits(4)).next_step()
    assert (turn.samples, turn.parked) == ([], [])


def test_order_of_arrival() -> None:
    """Of equal priority and owner, the first to arrive are seated, at most max_batch of them; who is seated stays."""
    first, second, third = (Image(steps_left=steps) for steps in (2, 1, 1))
    device = Device(limits(2))
    device.submit(first, second, third)
    assert device.run() == [[first, second], [first, third]]


def test_priority() -> None:
    """A higher priority is seated before an earlier arrival."""
    low, high = Image(steps_left=1), Image(steps_left=1, priority=5)
    device = Device(limits(1))
    device.submit(low, high)
    assert device.run() == [[high], [low]]


def test_a_higher_priority_takes_a_seat() -> None:
    """At the next step, from the lower one with most steps before it, who goes on when the seat is free again."""
    short, long, urgent = Image(steps_left=3), Image(steps_left=5), Image(steps_left=2, priority=1)
    device = Device(limits(2))
    device.submit(short, long)
    device.step()
    device.submit(urgent)
    assert device.step() == [short, urgent]
    assert device.parked == [long]
    assert device.run() == [[short, urgent], [long], [long], [long], [long]]
    assert device.parked == []


def test_the_lowest_is_parked_first() -> None:
    """Whatever it has before it."""
    low, middle, urgent = Image(steps_left=3), Image(steps_left=9, priority=1), Image(priority=2)
    device = Device(limits(2))
    device.submit(low, middle)
    device.step()
    device.submit(urgent)
    assert device.step() == [middle, urgent]


def test_equal_priorities_do_not_park() -> None:
    """Whoever runs stays."""
    device = Device(limits(1))
    device.submit(Image(steps_left=3), Image(owner="bob", steps_left=1))
    assert [turn[0].owner for turn in device.run()] == ["ada", "ada", "ada", "bob"]


def test_parking_can_be_switched_off() -> None:
    """A higher priority then waits for a free seat, and has no more turns than others."""
    low, wide, urgent = Image(steps_left=3), Image(group=WIDE, steps_left=2), Image(steps_left=1, priority=1)
    device = Device(limits(1, parking=False))
    device.submit(low, wide)
    device.steps(2)
    device.submit(urgent)
    assert device.run() == [[low], [wide], [low], [urgent]]


def test_no_more_are_parked_than_may_be() -> None:
    """Then the urgent wait for a free seat."""
    device = Device(limits(3, max_parked=1))
    device.submit(*(Image(steps_left=2) for _ in range(3)))
    device.step()
    device.submit(*(Image(steps_left=1, priority=1) for _ in range(3)))
    assert [image.priority for image in device.step()] == [0, 0, 1]
    assert len(device.parked) == 1
    assert sorted(image.priority for image in device.step()) == [0, 1, 1]


def test_sizes_are_not_mixed_and_take_turns() -> None:
    """Samples of different sizes do not share a step; with as much to do each has every second one."""
    device = Device(limits(2))
    square, wide = [Image(), Image()], [Image(group=WIDE), Image(group=WIDE)]
    device.submit(*square, *wide)
    assert device.run() == [square, wide] * 4


def test_new_sizes_do_not_push_in() -> None:
    """A size that comes late has its turn after those that wait already."""
    device = Device(limits(2))
    device.submit(Image(), Image(group=WIDE))
    device.step()
    device.submit(Image(group=LARGE))
    assert [turn[0].group for turn in device.steps(3)] == [WIDE, LARGE, SQUARE]


def test_a_higher_priority_has_the_turns() -> None:
    """What has begun of another size is parked for as long, and goes on after."""
    low, urgent = Image(steps_left=2), Image(group=WIDE, steps_left=3, priority=1)
    device = Device()
    device.submit(low)
    device.step()
    device.submit(urgent)
    for _ in range(3):
        assert device.step() == [urgent]
        assert device.parked == [low]
    assert device.step() == [low]
    assert device.parked == []


def test_a_size_that_was_held_back_does_not_catch_up() -> None:
    """After a long time of parked turns it shares them as before, and does not take them all."""
    device = Device()
    low, busy = Image(steps_left=MANY), Image(group=WIDE, steps_left=MANY, priority=1)
    device.submit(low, busy)
    device.steps(200)
    busy.priority = 0
    turns = [turn[0] for turn in device.steps(20)]
    assert turns.count(low) in (10, 11)


def test_a_sample_may_change_its_group() -> None:
    """It gives its seat to others and takes one among its new kind."""
    moving, staying = Image(steps_left=4), Image(steps_left=4)
    device = Device(limits(1))
    device.submit(moving, staying)

    def change(group: Group, rows: int) -> float:
        moving.group = LARGE  # with its first step
        return 0.1

    device.seconds = change
    assert device.steps(3) == [[moving], [moving], [staying]]
    assert device.parked == []


def test_a_group_that_may_seat_nobody_steps_whoever_is_seated() -> None:
    """Others come in when it may again; until then a turn is not lost on those who wait, however urgent."""
    policy = BatchPolicy[Image](limits(2))
    seated, waiting, wide = Image(), Image(priority=9), Image(group=WIDE)
    policy.add(seated)
    assert policy.next_step().samples == [seated]
    policy.add(waiting)
    policy.add(wide)
    assert policy.next_step(lambda group: False).samples == [seated]
    assert policy.next_step(lambda group: group == WIDE).samples == [wide]
    assert policy.next_step().samples == [seated, waiting]


def test_the_batch_is_no_larger_than_pays() -> None:
    """Where rows cost their full time and steps are long, the batch comes down to what the steps showed."""
    device = Device(limits(16, max_step_seconds=1.0), seconds=lambda group, rows: rows * 1.0)
    device.submit(*(Image(rows=1, steps_left=20) for _ in range(200)))
    turns = device.run()
    assert len(turns[0]) == 8
    assert max(map(len, turns)) == 16
    assert max(map(len, turns[100:200])) == 8


# Properties


@dataclass(frozen=True)
class Plan:
    """When an image comes, in turns, and what it is."""

    comes: int
    owner: str
    group: Group
    priority: int
    steps: int
    rows: int

    def image(self) -> Image:
        """A fresh one."""
        return Image(self.owner, self.group, self.priority, self.steps, self.rows)


PLANS = st.lists(
    st.builds(
        Plan,
        comes=st.integers(0, 12),
        owner=st.sampled_from(["ada", "bob", "cem"]),
        group=st.sampled_from([SQUARE, WIDE, LARGE]),
        priority=st.sampled_from([-5, 0, 5]),
        steps=st.integers(1, 6),
        rows=st.integers(1, 2),
    ),
    min_size=1,
    max_size=25,
)
PROPERTY = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def play(device: Device, plans: list[Plan]) -> list[tuple[list[Image], list[Image]]]:
    """Let everything come in its time; gives, for every turn, who was there before it and who took it."""
    coming = sorted(plans, key=lambda plan: plan.comes)
    seen = []
    turn = 0
    while coming or device.images:
        while coming and (coming[0].comes <= turn or not device.images):
            device.submit(coming.pop(0).image())
        before = list(device.images)
        seen.append((before, device.step()))
        turn += 1
    return seen


@PROPERTY
@given(plans=PLANS, max_batch=st.integers(1, 5), max_passed_over=st.integers(1, 4), max_parked=st.integers(0, 3))
def test_every_turn_is_a_sound_batch(plans: list[Plan], max_batch: int, max_passed_over: int, max_parked: int) -> None:
    """One size, nobody twice, never too many; no seat stays free while one of that size waits; and everyone ends."""
    device = Device(limits(max_batch, max_passed_over=max_passed_over, max_parked=max_parked))
    seen = play(device, plans)
    for before, samples in seen:
        (group,) = {image.group for image in samples}
        assert len(set(samples)) == len(samples) == min(max_batch, sum(image.group == group for image in before))
    assert sum(len(samples) for _, samples in seen) == sum(plan.steps for plan in plans)


@PROPERTY
@given(plans=PLANS, max_batch=st.integers(1, 5))
def test_the_highest_priority_always_steps(plans: list[Plan], max_batch: int) -> None:
    """Where nobody is passed over too often, a turn holds the highest that there are of its size, and those of any."""
    device = Device(limits(max_batch, max_passed_over=MANY, max_parked=MANY))
    for before, samples in play(device, plans):
        group = samples[0].group
        assert max(image.priority for image in samples) == max(image.priority for image in before)
        wanted = sorted((image.priority for image in before if image.group == group), reverse=True)[: len(samples)]
        assert sorted((image.priority for image in samples), reverse=True) == wanted


@PROPERTY
@given(plans=PLANS, max_batch=st.integers(1, 3))
def test_parked_is_whoever_a_higher_priority_holds_up(plans: list[Plan], max_batch: int) -> None:
    """Nobody is told to be parked while no higher one steps, or before having begun, or while stepping."""
    device = Device(limits(max_batch))
    coming = sorted(plans, key=lambda plan: plan.comes)
    while coming or device.images:
        while coming and (coming[0].comes <= len(device.turns) or not device.images):
            device.submit(coming.pop(0).image())
        samples = device.step()
        for image in device.parked:
            assert image.begun
            assert image not in samples


@pytest.mark.parametrize("max_passed_over", [1, 3, 9])
def test_no_priority_starves_for_seats(max_passed_over: int) -> None:
    """While urgent work never ends, one seat in so many goes to a lower priority, which keeps it to the end."""
    device = Device(limits(2, max_passed_over=max_passed_over))
    low = Image(steps_left=6)
    device.submit(low)
    begun_before = None
    for turn in range(400):
        while sum(image.priority for image in device.images) < 6:
            device.submit(Image(priority=1, steps_left=3))
        samples = device.step()
        if begun_before is None and low in samples and turn > 0:
            begun_before = len({image for made in device.turns for image in made if image.priority})
        if not low.steps_left:
            break
    assert begun_before is not None
    assert begun_before <= max_passed_over + 2  # and those seated beside it in the same turn
    assert not low.steps_left


@pytest.mark.parametrize("max_passed_over", [1, 3, 9])
def test_no_priority_starves_for_turns(max_passed_over: int) -> None:
    """One turn in so many goes to a size with lower priorities only."""
    device = Device(limits(2, max_passed_over=max_passed_over))
    low, lower = Image(group=WIDE, steps_left=MANY, priority=-1), Image(group=LARGE, steps_left=MANY, priority=-2)
    device.submit(Image(steps_left=MANY), low, lower)
    turns = [turn[0] for turn in device.steps(300)]
    for image in (low, lower):
        places = [number for number, stepped in enumerate(turns) if stepped is image]
        assert max(after - before for before, after in pairwise(places)) <= max_passed_over + 2
    assert turns.count(low) + turns.count(lower) <= 2 * 300 / (max_passed_over + 1) + 2


def test_a_thousand_jobs_do_not_starve_one() -> None:
    """Another owner's only job has the next free seat."""
    device = Device(limits(4))
    device.submit(*(Image("many", steps_left=4) for _ in range(1000)))
    device.steps(10)
    one = Image("one", steps_left=4)
    device.submit(one)
    turns = device.run()
    assert next(number for number, turn in enumerate(turns) if one in turn) <= 4


@PROPERTY
@given(
    kinds=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 2)), min_size=2, max_size=4),
    max_batch=st.integers(1, 6),
    late=st.integers(0, 60),
)
def test_owners_share_the_work(kinds: list[tuple[int, int]], max_batch: int, late: int) -> None:
    """However long each owner's jobs are and whenever it comes: while all wait, the pixel-steps they get stay level."""
    device = Device(limits(max_batch))
    largest = max(steps * rows for steps, rows in kinds) * SQUARE.height * SQUARE.width

    def jobs(number: int) -> list[Image]:
        steps, rows = kinds[number]
        return [Image(f"owner {number}", steps_left=steps, rows=rows) for _ in range(100 * max_batch // steps)]

    device.submit(*jobs(0))
    device.steps(late)
    for number in range(1, len(kinds)):
        device.submit(*jobs(number))
    before = device.served.copy()
    for _ in range(60):
        device.step()
        got = [device.served[f"owner {number}"] - before[f"owner {number}"] for number in range(len(kinds))]
        # What one had seated when the others came, and one job of each as the queue's own bound.
        assert max(got) - min(got) <= (max_batch + 1) * largest


def test_cancelling_does_not_count_as_service() -> None:
    """An owner whose long job is cancelled early has not used it."""
    device = Device(limits(1))
    long = Image("ada", steps_left=1000)
    device.submit(long, *(Image(owner, steps_left=2) for _ in range(9) for owner in ("ada", "bob")))
    assert device.step() == [long]
    device.cancel(long)
    device.served.clear()
    device.steps(12)
    assert abs(device.served["ada"] - device.served["bob"]) <= 4 * long.step_work


@pytest.mark.parametrize("batch_seconds", [0.1, 0.8])
def test_owners_of_different_sizes_share_the_time(batch_seconds: float) -> None:
    """Also where one asks for a hundred sizes and the other for one: each has about half of the device's seconds."""
    device = Device(limits(4), seconds=lambda group, rows: batch_seconds if group.model == "m" else 0.1)
    sizes = [Group("other", 64, 64 + 8 * number) for number in range(100)]
    device.submit(*(Image("spread", size, steps_left=MANY) for size in sizes))
    device.submit(*(Image("single", SQUARE, steps_left=MANY) for _ in range(8)))
    seconds = dict.fromkeys(["spread", "single"], 0.0)
    for _ in range(3000):
        began = device.now
        seconds[device.step()[0].owner] += device.now - began
    assert 0.4 < seconds["single"] / device.now < 0.6


def test_a_rare_size_has_its_turns() -> None:
    """One job beside a thousand of another size, of the same owner: a turn in so many as the batch has seats."""
    device = Device(limits(8))
    rare = Image(group=WIDE, steps_left=MANY)
    device.submit(*(Image(steps_left=10) for _ in range(1000)), rare)
    turns = device.steps(200)
    places = [number for number, turn in enumerate(turns) if rare in turn]
    assert places[0] <= 1
    assert max(after - before for before, after in pairwise(places)) <= 8 + 2


def test_common_sizes_have_more_turns() -> None:
    """Of one owner's two sizes the one with three times the work, within a batch, has three times the turns."""
    device = Device(limits(8))
    device.submit(*(Image(steps_left=MANY) for _ in range(6)), *(Image(group=WIDE, steps_left=MANY) for _ in range(2)))
    turns = [turn[0].group for turn in device.steps(80)]
    assert turns.count(SQUARE) == pytest.approx(60, abs=1)


def test_the_time_between_turns() -> None:
    """Told by the shares: of two equal sizes each comes every second turn."""
    device = Device(limits(2))
    device.submit(Image(), Image(group=WIDE))
    device.step()
    assert device.policy.seconds_per_turn() == pytest.approx(0.2)
