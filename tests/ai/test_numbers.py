"""What the engine measures, as numbers that a metrics page can be fed from."""

from __future__ import annotations

import pytest

from ai.histogram import NO_SECONDS, Histogram
from ai.tally import UTILISATION_EVERY, Tally
from ai.types import EngineSettings
from tests.ai.drive import Bench, a_request
from tests.ai.fakes import FakeModel


def test_histograms_count_by_range() -> None:
    """A number on a bound is within it; the sum is exact, and nothing is lost beyond the last bound."""
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 7.0):
        histogram = histogram.add(value)
    assert (histogram.counts, histogram.total, histogram.count, histogram.mean) == ((2, 2, 1), 12.0, 5, 2.4)
    assert Histogram((1.0,)).mean == 0.0


def test_histograms_add_up() -> None:
    """Of the same bounds only."""
    both = Histogram((1.0, 2.0)).add(1) + Histogram((1.0, 2.0)).add(9)
    assert (both.counts, both.total) == ((1, 0, 1), 10.0)
    with pytest.raises(ValueError, match="bounds"):
        Histogram((1.0,)) + NO_SECONDS


def test_steps_and_waits() -> None:
    """Steps with their seconds, samples and rows; requests with their wait for a seat and for their first step."""
    model = FakeModel()
    bench = Bench(model.load, EngineSettings(device="cpu", max_batch=2))

    def tick() -> None:
        bench.now += 0.5

    model.on_predict = tick
    bench.engine.load("tiny")
    bench.engine.run()
    bench.engine.submit(a_request("a", num_inference_steps=2))
    bench.engine.submit(a_request("b", num_inference_steps=2, guidance_scale=1))
    bench.now += 3
    bench.paint(a_request("late", num_inference_steps=2))
    numbers = bench.engine.numbers()
    assert (numbers.steps, numbers.step_times.count, numbers.step_times.total) == (4, 4, 2.0)
    assert numbers.batches.total == 2 + 2 + 1 + 1
    assert (numbers.last_batch, numbers.last_rows) == (1, 2)
    assert (numbers.queue_waits.count, numbers.queue_waits.total) == (3, 3 + 3 + 1)
    assert numbers.join_waits.total == numbers.queue_waits.total + 3 * 0.5
    assert numbers.models == ("tiny",)
    assert numbers.memory.models == model.weight_bytes
    assert numbers.gpu_utilisation is None, "a CPU has no such driver"


def test_latents_are_counted_while_they_live() -> None:
    """And no longer."""
    bench = Bench(FakeModel().load)
    seen: list[int] = []
    bench.on_deliver = lambda events: seen.append(bench.engine.numbers().memory.latents)
    bench.paint(a_request("a", num_images=2))
    one_sample = 2 * 4 * 8 * 8 * 4  # latents and the last prediction, float32
    assert max(seen) >= 2 * one_sample
    assert seen[-1] == 0


def test_the_driver_is_not_asked_at_every_step() -> None:
    """Once a second is enough."""
    now, asked = [0.0], []

    def utilisation() -> float:
        asked.append(now[0])
        return 0.5

    numbers = Tally(lambda: now[0])
    numbers.utilisation = utilisation
    for _ in range(10):
        numbers.look()
        now[0] += UTILISATION_EVERY / 4
    assert len(asked) == 3
    assert numbers.numbers.gpu_utilisation == 0.5
