"""Parking, deadlines and owners in the engine: what the policy decides, done to real rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from ai.families.family import Model
from ai.types import (
    Canceled,
    DeadlineExceeded,
    EngineEvent,
    EngineNumbers,
    EngineSettings,
    Failed,
    Finished,
    Parked,
    Started,
    Stepped,
)
from tests.ai.drive import Bench, a_request, pixels
from tests.ai.fakes import FakeModel


def small_batches(size: int, **changes: Any) -> EngineSettings:
    """Settings for at most `size` samples a step."""
    return EngineSettings(device="cpu", max_batch=size, **changes)


def at(bench: Bench, request_id: str, step: int, act: Callable[[], None]) -> None:
    """Call `act` from inside `deliver` when a request has made a step."""

    def deliver(events: Sequence[EngineEvent]) -> None:
        if any(isinstance(event, Stepped) and (event.request_id, event.step) == (request_id, step) for event in events):
            act()

    bench.on_deliver = deliver


def told(bench: Bench, *kinds: type[EngineEvent]) -> list[tuple[str, str]]:
    """Kind and request of the events of these kinds."""
    return [(type(event).__name__, event.request_id) for event in bench.events if isinstance(event, kinds)]  # type: ignore[union-attr]


def test_an_urgent_request_joins_at_the_very_next_step() -> None:
    """It takes the seat of another, who is told, waits, and goes on from its step to its end."""
    bench = Bench(FakeModel().load, small_batches(1))
    at(bench, "slow", 2, lambda: bench.engine.submit(a_request("urgent", priority=1, num_inference_steps=2)))
    bench.paint(a_request("slow"))
    assert told(bench, Started, Stepped, Parked, Finished) == [
        ("Started", "slow"), ("Stepped", "slow"), ("Stepped", "slow"),
        ("Parked", "slow"), ("Started", "urgent"), ("Stepped", "urgent"), ("Stepped", "urgent"),
        ("Finished", "urgent"), ("Stepped", "slow"), ("Stepped", "slow"), ("Finished", "slow"),
    ]  # fmt: skip
    assert bench.of(Parked) == [Parked("slow", 2, 4, 0.5)]
    assert [event.step for event in bench.of(Stepped, "slow")] == [1, 2, 3, 4]


@pytest.mark.parametrize("solver", ["dpmpp_2m", "euler_a"])
@pytest.mark.parametrize("width", [64, 80])
def test_a_parked_request_has_the_same_picture(models: dict[str, Model], solver: str, width: int) -> None:
    """Whether its seat was taken or its size's turn, with a solver that has a history and one that draws noise."""
    model = "epsilon"

    def paint(parked: bool) -> Bench:
        bench = Bench(lambda card, _: models[card.name], small_batches(2), models=(model,))
        if parked:

            def come() -> None:
                for seed in (1, 2):
                    bench.engine.submit(a_request(f"u{seed}", model=model, priority=1, seed=seed, width=width))

            at(bench, "one", 3, come)
        noisy = a_request("one", model=model, num_inference_steps=6, solver="euler_a")
        bench.paint(noisy, a_request("two", model=model, seed=9))
        return bench

    alone, disturbed = paint(False), paint(True)
    assert disturbed.of(Parked, "one")
    for name in ("one", "two"):
        (wanted,), (got,) = alone.finished(name).pictures, disturbed.finished(name).pictures
        assert np.abs(pixels(wanted) - pixels(got)).max() <= 1
    assert len(disturbed.finished("u1").pictures[0].rgb) == width * 64 * 3


def test_a_parked_row_keeps_no_batch_in_memory() -> None:
    """Its tensors are its own, and no slices of those of the batch it was in."""
    sizes: list[tuple[int, int]] = []

    def look() -> None:
        for sample in bench.engine._roll.samples:
            if sample.parked and sample.row is not None:
                sizes.append((sample.row.latents.untyped_storage().nbytes(), sample.row.latents.nbytes))

    bench = Bench(FakeModel(on_predict=look).load, small_batches(3))
    at(bench, "a", 1, lambda: bench.engine.submit(a_request("urgent", priority=1)))
    bench.paint(a_request("a"), a_request("b"), a_request("c"))
    assert sizes
    assert all(kept == needed for kept, needed in sizes)


def test_several_images_are_parked_apart() -> None:
    """A request is told to be parked when none of its images goes on."""
    bench = Bench(FakeModel().load, small_batches(2))
    at(bench, "two", 1, lambda: bench.engine.submit(a_request("u1", priority=1, num_inference_steps=2)))
    bench.paint(a_request("two", num_images=2))
    assert not bench.of(Parked)
    bench = Bench(FakeModel().load, small_batches(2))
    at(bench, "two", 1, lambda: bench.engine.submit(a_request("u2", priority=1, num_images=2)))
    bench.paint(a_request("two", num_images=2))
    assert bench.of(Parked) == [Parked("two", 1, 4, 0.25)]
    assert len(bench.finished("two").pictures) == 2


def test_a_parked_request_can_be_cancelled() -> None:
    """It takes no further step, and the urgent one goes on."""
    model = FakeModel()
    bench = Bench(model.load, small_batches(1))
    at(bench, "slow", 2, lambda: bench.engine.submit(a_request("urgent", priority=1)))
    plan = bench.on_deliver

    def deliver(events: Sequence[EngineEvent]) -> None:
        plan(events)
        if any(isinstance(event, Parked) for event in events):
            bench.engine.cancel("slow")

    bench.on_deliver = deliver
    bench.paint(a_request("slow"))
    assert isinstance(bench.end("slow"), Canceled)
    assert isinstance(bench.end("urgent"), Finished)
    assert len(model.batches) == 2 + 4
    assert bench.engine.numbers().parked == 0


def test_parking_switched_off() -> None:
    """The urgent one waits for a free seat."""
    bench = Bench(FakeModel().load, small_batches(1, parking=False))
    at(bench, "slow", 2, lambda: bench.engine.submit(a_request("urgent", priority=1)))
    bench.paint(a_request("slow"), a_request("later"))
    assert not bench.of(Parked)
    assert [event.request_id for event in bench.of(Finished)] == ["slow", "urgent", "later"]


def test_numbers_tell_parked_from_running_and_waiting() -> None:
    """Each sample is counted once."""
    bench = Bench(FakeModel().load, small_batches(1))
    seen: list[EngineNumbers] = []
    at(bench, "slow", 1, lambda: bench.engine.submit(a_request("urgent", priority=1)))
    plan = bench.on_deliver

    def deliver(events: Sequence[EngineEvent]) -> None:
        plan(events)
        seen.append(bench.engine.numbers())

    bench.on_deliver = deliver
    bench.paint(a_request("slow"), a_request("later"))
    counts = [(numbers.running, numbers.parked, numbers.waiting) for numbers in seen]
    assert (1, 0, 2) in counts
    assert (1, 1, 1) in counts


def test_the_time_in_the_queue_is_told() -> None:
    """Of every request, from submit to its seat."""
    model = FakeModel()
    bench = Bench(model.load, small_batches(1))

    def tick() -> None:
        bench.now += 0.5

    model.on_predict = tick
    bench.paint(a_request("first", num_inference_steps=3), a_request("second"))
    waits = bench.engine.numbers().queue_waits
    assert (waits.count, waits.total) == (2, 1.5)


def test_owners_take_turns_for_seats() -> None:
    """An owner's many requests let another's only one in between."""
    bench = Bench(FakeModel().load, small_batches(1))
    bench.paint(*(a_request(f"many {number}", owner="many") for number in range(5)), a_request("one", owner="one"))
    assert [event.request_id for event in bench.of(Finished)][:3] == ["many 0", "one", "many 1"]


# Deadlines


def ticking(bench: Bench, model: FakeModel, seconds: float) -> None:
    """Every step takes so long on the engine's clock."""

    def tick() -> None:
        bench.now += seconds

    model.on_predict = tick


def late(bench: Bench, request_id: str) -> str:
    """What a request that must have missed its deadline was told."""
    error = bench.failed(request_id).error
    assert isinstance(error, DeadlineExceeded)
    return str(error)


def test_a_deadline_that_passed() -> None:
    """Also of one that was never seated; others are not harmed."""
    model = FakeModel()
    bench = Bench(model.load, small_batches(1))
    ticking(bench, model, 1.0)
    bench.paint(a_request("first"), a_request("hasty", deadline_seconds=0.5, num_inference_steps=1))
    assert late(bench, "hasty") == "deadline_seconds: 0.5 s have passed"
    assert len(bench.finished("first").pictures) == 1
    assert not bench.of(Started, "hasty")


def test_a_deadline_that_cannot_be_made_fails_at_once() -> None:
    """As soon as a step has been measured: it does not use the device until its time is over."""
    model = FakeModel()
    bench = Bench(model.load)
    ticking(bench, model, 1.0)
    bench.paint(a_request("long", num_inference_steps=20, deadline_seconds=10.0))
    assert late(bench, "long") == (
        "deadline_seconds: 9.0 s of 10 s are left, and the steps left (19) take 19.0 s alone"
    )
    assert len(model.batches) == 1
    assert bench.now == 1.0


def test_a_known_pace_refuses_without_a_step() -> None:
    """What was measured before counts for whoever comes later."""
    model = FakeModel()
    bench = Bench(model.load)
    ticking(bench, model, 1.0)
    bench.paint(a_request("first"))
    steps = len(model.batches)
    bench.paint(a_request("hopeless", num_inference_steps=5, deadline_seconds=4.9))
    assert late(bench, "hopeless").startswith("deadline_seconds: 4.9 s of 4.9 s are left")
    assert len(model.batches) == steps


def test_a_deadline_that_is_just_made() -> None:
    """Nothing fails that can still be done."""
    model = FakeModel()
    bench = Bench(model.load)
    ticking(bench, model, 1.0)
    bench.paint(a_request("first"))
    bench.paint(a_request("exact", num_inference_steps=5, deadline_seconds=5.0))
    assert len(bench.finished("exact").pictures) == 1


def test_a_parked_request_can_miss_its_deadline() -> None:
    """While it waits, with one terminal event."""
    model = FakeModel()
    bench = Bench(model.load, small_batches(1))
    ticking(bench, model, 1.0)
    at(bench, "slow", 2, lambda: bench.engine.submit(a_request("urgent", priority=1, num_inference_steps=9)))
    bench.paint(a_request("slow", deadline_seconds=6.0))
    assert late(bench, "slow").endswith("the steps left (2) take 2.0 s alone")
    assert bench.of(Parked)
    assert len(bench.of(Failed)) == 1
