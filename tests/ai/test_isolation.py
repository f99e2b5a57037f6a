"""One request's failure is its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from ai.halving import TRY_LARGER_AFTER
from ai.stepping import Stepper
from ai.types import EngineEvent, Failed, Finished, GenerationError, GenerationRequest, OutOfMemory, Started, Stepped
from tests.ai.drive import Bench, a_request
from tests.ai.fakes import FakeModel

NEIGHBOURS = [a_request(f"n{i}", seed=i, num_inference_steps=2 + i, guidance_scale=i) for i in range(4)]


def alone(request: GenerationRequest) -> bytes:
    """The picture a request gives with nobody else around."""
    bench = Bench(FakeModel().load)
    bench.paint(request)
    return bench.finished(request.request_id).pictures[0].rgb


def assert_neighbours_unharmed(bench: Bench) -> None:
    """Everyone else's picture is what it would have been."""
    for request in NEIGHBOURS:
        assert bench.finished(request.request_id).pictures[0].rgb == alone(request)


@pytest.mark.parametrize("place", range(5))
def test_a_row_that_raises(place: int) -> None:
    """A request whose step raises fails with the error's text; the others are painted as if alone."""
    bench = Bench(FakeModel().load)
    bench.paint(*NEIGHBOURS[:place], a_request("bad", prompt="bomb"), *NEIGHBOURS[place:])
    assert str(bench.failed("bad").error) == "RuntimeError: the network does not like this one"
    assert isinstance(bench.failed("bad").error, GenerationError)
    assert_neighbours_unharmed(bench)


def test_two_rows_that_raise() -> None:
    """Each of several bad requests fails, and nobody else."""
    bench = Bench(FakeModel().load)
    bench.paint(a_request("bad", prompt="bomb"), *NEIGHBOURS, a_request("worse", prompt="bomb"))
    assert {event.request_id for event in bench.of(Failed)} == {"bad", "worse"}
    assert_neighbours_unharmed(bench)


def test_a_row_that_joins_and_raises() -> None:
    """A bad request that joins running ones costs them nothing."""
    bench = Bench(FakeModel().load)

    def deliver(events: object) -> None:
        if len(bench.deliveries) == 3:
            bench.engine.submit(a_request("bad", prompt="bomb"))

    bench.on_deliver = deliver
    bench.paint(*NEIGHBOURS)
    bench.failed("bad")
    assert_neighbours_unharmed(bench)


def test_nan_row() -> None:
    """A request whose latents stop being finite fails at that step; the others do not notice."""
    bench = Bench(FakeModel().load)
    bench.paint(*NEIGHBOURS, a_request("bad", prompt="poison"))
    assert str(bench.failed("bad").error) == "step 1 of 4: the latents are no longer finite numbers"
    assert bench.of(Stepped, "bad") == []
    assert_neighbours_unharmed(bench)


def test_an_image_that_fails_takes_its_request_along() -> None:
    """A request of several images fails as a whole, once, and leaves nothing behind."""
    bench = Bench(FakeModel().load)
    bench.paint(a_request("bad", prompt="bomb", num_images=3), *NEIGHBOURS)
    assert len(bench.of(Failed)) == 1
    assert bench.engine.numbers().running == 0
    assert_neighbours_unharmed(bench)


def test_a_prompt_that_cannot_be_encoded() -> None:
    """A request that fails before its first step was never started, and harms nobody."""
    bench = Bench(FakeModel().load)
    bench.paint(a_request("bad", prompt="unspeakable", num_images=2), *NEIGHBOURS)
    assert str(bench.failed("bad").error) == "ValueError: this prompt cannot be encoded"
    assert bench.of(Started, "bad") == []
    assert_neighbours_unharmed(bench)


@pytest.mark.parametrize("room", [2, 3, 4, 7, 15])
def test_out_of_memory_makes_smaller_batches(room: int) -> None:
    """Where the batch does not fit it is halved, everyone is painted, and the size is remembered."""
    model = FakeModel(room=room)
    bench = Bench(model.load)
    bench.paint(*(a_request(str(n), num_inference_steps=8) for n in range(8)))
    assert len(bench.of(Finished)) == 8
    assert bench.of(Failed) == []
    too_large = [rows for rows in model.batches if rows > room]
    assert len(too_large) == len(set(too_large))  # no size was tried twice, neither in this step nor in later ones


def test_memory_of_a_tight_time_passes() -> None:
    """Once a size's requests are all done, its next ones are tried together again."""
    model = FakeModel(room=2)
    bench = Bench(model.load)
    bench.paint(a_request("a"), a_request("b"))
    model.room = 1000
    model.batches.clear()
    bench.paint(a_request("c"), a_request("d"))
    assert model.batches == [4] * 4


def test_a_larger_batch_is_tried_again() -> None:
    """A size that did not fit is tried again after many steps, for the sake of requests that never cease to come."""
    model = FakeModel(room=2)
    bench = Bench(model.load)

    def relieve(events: object) -> None:
        model.room = 1000 if len(bench.deliveries) > 20 else 2

    bench.on_deliver = relieve
    bench.paint(*(a_request(str(n), num_inference_steps=TRY_LARGER_AFTER + 50) for n in range(2)))
    assert model.batches[0] == model.batches[-1] == 4
    assert model.batches[1:TRY_LARGER_AFTER] == [2] * (TRY_LARGER_AFTER - 1)
    assert len(bench.of(Finished)) == 2


def test_what_fits_nowhere_does_not_shrink_the_batch() -> None:
    """A request that has no room even alone leaves the others together."""
    model = FakeModel()
    bench = Bench(model.load)
    bench.paint(a_request("a"), a_request("b"), a_request("c"), a_request("bad", prompt="heavy"))
    assert model.batches[-3:] == [6, 6, 6]


def test_out_of_memory_alone() -> None:
    """Only the request that does not fit even alone fails, as out of memory."""
    bench = Bench(FakeModel().load)
    bench.paint(*NEIGHBOURS, a_request("bad", prompt="heavy"))
    assert isinstance(bench.failed("bad").error, OutOfMemory)
    assert_neighbours_unharmed(bench)


def test_out_of_memory_on_the_cpu() -> None:
    """The words of torch's CPU allocator are understood too."""
    model = FakeModel()

    def no_memory() -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory")

    model.on_predict = no_memory
    bench = Bench(model.load)
    bench.paint(a_request("bad"))
    assert isinstance(bench.failed("bad").error, OutOfMemory)


def test_decode_halves_too() -> None:
    """A decode that does not fit is done in parts."""
    model = FakeModel()
    bench = Bench(model.load)

    def shrink(events: list[EngineEvent]) -> None:
        model.room = 2 if any(isinstance(event, Stepped) and event.step >= 3 for event in events) else 1000

    bench.on_deliver = shrink  # type: ignore[assignment]
    bench.paint(*(a_request(str(n), guidance_scale=1, seed=n) for n in range(4)))
    assert len(bench.of(Finished)) == 4
    assert model.decodes == [4, 2, 2]


@pytest.mark.parametrize("solver", ["euler_a", "lcm"])
def test_noise_is_drawn_once_a_step(solver: str) -> None:
    """A step tried again in halves has the noise of the first try: no generator is ahead of its row."""
    model, noisy = FakeModel(), [replace(request, solver=solver) for request in NEIGHBOURS]
    bench = Bench(model.load)

    def shrink(events: list[EngineEvent]) -> None:
        model.room = 2 if len(bench.deliveries) == 2 else 1000

    bench.on_deliver = shrink  # type: ignore[assignment]
    bench.paint(*noisy)
    assert max(model.batches) > 2
    assert min(model.batches[:6]) <= 2
    for request in noisy:
        assert bench.finished(request.request_id).pictures[0].rgb == alone(request)


class Spoiled(FakeModel):
    """Decodes rows of large latents to numbers that are not finite, and raises for still larger ones."""

    def noise(self, generator: torch.Generator, shape: Sequence[int]) -> torch.Tensor:
        """Large for two seeds."""
        return super().noise(generator, shape) * {1000: 1e8, 2000: 1e16}.get(generator.initial_seed(), 1.0)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """As always, for the others."""
        size = latents.abs().amax((1, 2, 3))
        if bool((size > 1e14).any()):
            raise RuntimeError("the decoder does not like this one")
        pictures = super().decode(latents)
        pictures[size > 1e6] = torch.nan
        return pictures


def test_a_decode_that_fails() -> None:
    """Requests whose decode raises, or gives what is no picture, fail alone."""
    bench = Bench(Spoiled().load)
    bench.paint(a_request("nan", seed=1000, num_inference_steps=5), a_request("raises", seed=2000), *NEIGHBOURS)
    assert str(bench.failed("nan").error) == "the decoded picture has numbers that are not finite"
    assert str(bench.failed("raises").error) == "RuntimeError: the decoder does not like this one"
    assert_neighbours_unharmed(bench)


class BadPreviews(FakeModel):
    def preview(self, latents: torch.Tensor) -> torch.Tensor:
        """Never works."""
        raise RuntimeError("no preview today")


def test_a_preview_that_fails() -> None:
    """A preview that cannot be painted is left out, and nothing else."""
    bench = Bench(BadPreviews().load)
    bench.paint(a_request("a", preview_every=1))
    assert len(bench.finished("a").pictures) == 1


def test_a_mistake_in_the_engine(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """An exception nobody foresaw fails the requests of that turn, is logged, and the loop goes on."""

    def mistake(self: Stepper, rows: object) -> None:
        raise ZeroDivisionError("a mistake")

    bench = Bench(FakeModel().load)
    with monkeypatch.context() as patch:
        patch.setattr(Stepper, "step", mistake)
        bench.paint(a_request("a"), a_request("wide", width=128))
    assert {event.request_id for event in bench.of(Failed)} == {"a", "wide"}
    assert "ZeroDivisionError: a mistake" in caplog.text
    bench.paint(a_request("b"))
    assert len(bench.finished("b").pictures) == 1


def test_a_deliver_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    """A receiver's mistake is logged and does not end the loop."""
    bench = Bench(FakeModel().load)

    def deliver(events: object) -> None:
        raise KeyError("a receiver's mistake")

    bench.on_deliver = deliver
    bench.paint(a_request("a"))
    assert len(bench.finished("a").pictures) == 1
    assert "deliver failed" in caplog.text
