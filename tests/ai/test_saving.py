"""An image goes on in another engine from where it was, and becomes the same picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from ai.families.family import Model
from ai.types import EngineEvent, EngineSettings, Parked, Saved, SavedImage, Stepped
from tests.ai.drive import Bench, a_request
from tests.ai.fakes import FakeModel

SETTINGS = EngineSettings(device="cpu", max_batch=4)


def at(bench: Bench, step: int, act: Callable[[], None]) -> None:
    """Call `act` when the request has made a step."""

    def deliver(events: Sequence[EngineEvent]) -> None:
        if any(isinstance(event, Stepped) and event.step == step for event in events):
            act()

    bench.on_deliver = deliver


@pytest.mark.parametrize("solver", ["dpmpp_2m", "euler_a", "lcm"])
@pytest.mark.parametrize("prediction", ["epsilon"])
def test_a_saved_image_becomes_the_very_same_picture(models: dict[str, Model], solver: str, prediction: str) -> None:
    """Cut short after three of its steps, each image of the request; with history, with noise, bit for bit."""
    request = a_request("one", model=prediction, num_inference_steps=6, solver=solver, num_images=2)

    def bench() -> Bench:
        return Bench(lambda card, _: models[card.name], SETTINGS, models=(prediction,))

    whole, cut, resumed = bench(), bench(), bench()
    whole.paint(request)

    def stop() -> None:
        cut.engine.save("one")
        cut.engine.cancel("one")

    at(cut, 3, stop)
    cut.paint(request)
    (saved,) = cut.of(Saved)
    assert [(image.index, image.step) for image in saved.images] == [(0, 3), (1, 3)]
    resumed.paint(replace(request, saved=saved.images))
    assert [event.step for event in resumed.of(Stepped, "one")] == [4, 5, 6]
    assert resumed.finished("one").pictures == whole.finished("one").pictures


def test_what_does_not_fit_is_begun_anew(models: dict[str, Model]) -> None:
    """Bytes that are none of ours, and those of another solver; the picture is what it would have been."""
    request = a_request("one", model="epsilon", num_inference_steps=4)

    def bench() -> Bench:
        return Bench(lambda card, _: models[card.name], SETTINGS, models=("epsilon",))

    whole, other = bench(), bench()
    whole.paint(request)
    at(other, 2, lambda: other.engine.save("one"))
    other.paint(replace(request, solver="euler"))
    (euler,) = other.of(Saved)
    for images in (euler.images, (SavedImage(0, 2, b"nothing"),), (SavedImage(7, 2, euler.images[0].data),)):
        again = bench()
        again.paint(replace(request, saved=images))
        assert [event.step for event in again.of(Stepped, "one")] == [1, 2, 3, 4]
        assert again.finished("one").pictures == whole.finished("one").pictures


def test_a_request_that_is_parked_says_how_far_it_is() -> None:
    """Once for each time."""
    bench = Bench(FakeModel().load, EngineSettings(device="cpu", max_batch=1))
    at(bench, 2, lambda: bench.engine.submit(a_request("urgent", priority=1, num_inference_steps=1)))
    bench.paint(a_request("slow"))
    kinds = [type(event) for event in bench.events if isinstance(event, (Parked, Saved))]
    assert kinds == [Parked, Saved]
    assert [image.step for image in bench.of(Saved)[0].images] == [2]


def test_one_that_has_not_begun_has_nothing_to_save() -> None:
    """It is answered all the same; a request that is not there is not."""
    bench = Bench(FakeModel().load, EngineSettings(device="cpu", max_batch=1))

    def ask() -> None:
        for name in ("waits", "unknown"):
            bench.engine.save(name)

    at(bench, 2, ask)
    bench.paint(a_request("runs", num_inference_steps=2), a_request("waits", num_inference_steps=1))
    assert bench.of(Saved) == [Saved("waits", ())]
