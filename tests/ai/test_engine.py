"""The loop: who is seated, what is told, and how it starts and ends. With a model that has no networks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from ai.cards import ModelCard
from ai.engine import Engine
from ai.shelf import RETRY_SECONDS
from ai.types import (
    Canceled,
    EngineEvent,
    EngineSettings,
    EngineStopped,
    Finished,
    GenerationError,
    HandedBack,
    ModelLoadError,
    ModelLoading,
    ModelReady,
    ModelUnavailable,
    Phase,
    Previewed,
    Started,
    Stepped,
)
from tests.ai.drive import Bench, a_request
from tests.ai.fakes import FakeModel


def small_batches(size: int) -> EngineSettings:
    """Settings for at most `size` samples a step."""
    return EngineSettings(device="cpu", max_batch=size)


def load_first(bench: Bench) -> None:
    """Have the model in memory, so that no turn is spent on it."""
    bench.engine.load("tiny")
    bench.engine.run()


def after_step(bench: Bench, request_id: str, step: int, act: Callable[[], None]) -> Callable[[Any], None]:
    """Call `act` when a request has made a step, from inside `deliver`."""

    def deliver(events: Sequence[EngineEvent]) -> None:
        if any(isinstance(event, Stepped) and (event.request_id, event.step) == (request_id, step) for event in events):
            act()

    return deliver


def test_one_request() -> None:
    """A request is told of as loading and ready model, start, every step, end."""
    bench = Bench(FakeModel().load)
    bench.paint(a_request("a", num_inference_steps=3))
    assert [type(event) for event in bench.events] == [
        ModelLoading, ModelReady, Started, Stepped, Stepped, Stepped, Finished,
    ]  # fmt: skip
    assert [event.step for event in bench.of(Stepped)] == [1, 2, 3]
    assert [event.phase for event in bench.of(Stepped)] == [Phase.DENOISING, Phase.DENOISING, Phase.DECODING]
    (picture,) = bench.finished("a").pictures
    assert (picture.seed, picture.width, picture.height, len(picture.rgb)) == (7, 64, 64, 64 * 64 * 3)


def test_width_and_height_are_not_mixed_up() -> None:
    """A picture that is not square has rows of its width."""
    bench = Bench(FakeModel().load)
    bench.paint(a_request("a", width=128, height=64))
    (picture,) = bench.finished("a").pictures
    assert (picture.width, picture.height, len(picture.rgb)) == (128, 64, 128 * 64 * 3)


def test_several_images() -> None:
    """A request of three images ends once, with the pictures of seeds in a row."""
    bench = Bench(FakeModel().load)
    bench.paint(a_request("three", num_images=3), a_request("second", seed=8))
    pictures = bench.finished("three").pictures
    assert [picture.seed for picture in pictures] == [7, 8, 9]
    assert pictures[1].rgb == bench.finished("second").pictures[0].rgb
    assert len({picture.rgb for picture in pictures}) == 3


def test_images_that_sit_apart() -> None:
    """A request larger than the batch is painted in parts, and its progress only rises."""
    bench = Bench(FakeModel().load, small_batches(2))
    bench.paint(a_request("a", num_images=5, num_inference_steps=2))
    assert len(bench.finished("a").pictures) == 5
    fractions = [event.fraction for event in bench.of(Stepped)]
    assert fractions == [0.2, 0.4, 0.6, 0.8, 0.9, 1.0]
    assert [event.step for event in bench.of(Stepped)] == [0, 0, 0, 0, 1, 2]
    assert len(bench.of(Started)) == 1


def test_joining_and_leaving() -> None:
    """A request joins at the next step, and leaves at its last, while others go on."""
    model = FakeModel()
    bench = Bench(model.load)
    bench.on_deliver = after_step(bench, "long", 2, lambda: bench.engine.submit(a_request("b", num_inference_steps=2)))
    bench.paint(a_request("long", num_inference_steps=6))
    assert model.batches == [2, 2, 4, 4, 2, 2]
    assert bench.starts == 1


def test_guidance_off_is_one_row() -> None:
    """Guided samples cost two rows of the forward pass, others one."""
    model = FakeModel()
    Bench(model.load).paint(
        a_request("a", num_inference_steps=1), a_request("b", num_inference_steps=1, guidance_scale=1)
    )
    assert model.batches == [3]


def test_eta() -> None:
    """The remaining time is what the measured pace leaves, all sizes taking turns."""
    model = FakeModel()
    bench = Bench(model.load)

    def tick() -> None:
        bench.now += 0.5

    model.on_predict = tick
    load_first(bench)
    bench.paint(a_request("a", num_inference_steps=3), a_request("wide", width=128, num_inference_steps=3))
    assert [event.eta_seconds for event in bench.of(Stepped, "a")] == [2.0, 1.0, 0.0]
    assert [event.eta_seconds for event in bench.of(Stepped, "wide")] == [2.0, 1.0, 0.0]


def test_a_pass_is_shared_out_by_rows() -> None:
    """A request has the time of the passes it was part of, by its share of the rows; all shares together are all the time."""
    model = FakeModel()
    bench = Bench(model.load)

    def tick() -> None:
        bench.now += 0.9

    model.on_predict = tick
    bench.paint(a_request("a", num_inference_steps=2), a_request("b", num_inference_steps=1, guidance_scale=1))
    assert bench.finished("a").device_seconds == pytest.approx(0.9 * 2 / 3 + 0.9)
    assert bench.finished("b").device_seconds == pytest.approx(0.9 / 3)
    assert [event.device_seconds for event in bench.of(Stepped, "a")] == pytest.approx([0.6, 1.5])


def test_sizes_take_turns() -> None:
    """Two sizes share the loop step by step."""
    bench = Bench(FakeModel().load)
    load_first(bench)
    bench.paint(a_request("a", num_inference_steps=3), a_request("wide", width=128, num_inference_steps=3))
    assert [event.request_id for event in bench.of(Stepped)] == ["a", "wide"] * 3


def test_priority() -> None:
    """Of those who wait, the most urgent is seated first."""
    bench = Bench(FakeModel().load, small_batches(1))
    bench.paint(a_request("first"), a_request("later"), a_request("urgent", priority=3))
    assert [event.request_id for event in bench.of(Finished)] == ["urgent", "first", "later"]


def test_deliver_at_most_once_a_step() -> None:
    """However many requests there are, between two deliveries the network has made a step (the last only decodes)."""
    model, since_delivery = FakeModel(), [0]
    steps_before: list[int] = []

    def count() -> None:
        since_delivery[0] += 1

    def deliver(events: Sequence[EngineEvent]) -> None:
        steps_before.append(since_delivery[0])
        since_delivery[0] = 0

    model.on_predict = count
    bench = Bench(model.load, small_batches(4), on_deliver=deliver)
    load_first(bench)
    bench.paint(*(a_request(str(n), num_inference_steps=1 + n, preview_every=1, num_images=2) for n in range(5)))
    assert steps_before[:2] == [0, 0]  # the model is loading, and has loaded
    assert set(steps_before[2:-1]) == {1}
    assert steps_before[-1] == 0


def test_decoding_is_told_before_it_is_done() -> None:
    """The last step's progress has the phase DECODING, and is delivered before the picture."""
    deliveries: list[list[EngineEvent]] = []
    bench = Bench(FakeModel().load, on_deliver=lambda events: deliveries.append(list(events)))
    bench.paint(a_request("a"))
    *_, last_step, decoded = deliveries
    assert [event.phase for event in last_step if isinstance(event, Stepped)] == [Phase.DECODING]
    assert [type(event) for event in decoded] == [Finished]


def test_previews() -> None:
    """Previews come every few steps, as asked for, except at the last."""
    bench = Bench(FakeModel().load)
    bench.paint(a_request("a", num_inference_steps=6, preview_every=2, width=128), a_request("b"))
    previews = bench.of(Previewed)
    assert [(event.request_id, event.step) for event in previews] == [("a", 2), ("a", 4)]
    assert all((event.width, event.height, len(event.rgb)) == (16, 8, 16 * 8 * 3) for event in previews)


def test_cancel_frees_the_row() -> None:
    """A cancelled request takes no further step, and the others' pictures are what they were."""
    model = FakeModel()
    bench = Bench(model.load)
    bench.on_deliver = after_step(bench, "a", 2, lambda: bench.engine.cancel("a"))
    bench.paint(a_request("a"), a_request("b", seed=1))
    assert isinstance(bench.end("a"), Canceled)
    assert model.batches == [4, 4, 2, 2]
    alone = Bench(FakeModel().load)
    alone.paint(a_request("b", seed=1))
    assert bench.finished("b").pictures == alone.finished("b").pictures


def test_cancel_lets_the_next_one_in() -> None:
    """The seat of a cancelled request is taken at the very next step."""
    bench = Bench(FakeModel().load, small_batches(1))
    bench.on_deliver = after_step(bench, "a", 1, lambda: bench.engine.cancel("a"))
    bench.paint(a_request("a"), a_request("b"))
    assert [event.request_id for event in bench.of(Stepped)] == ["a", "b", "b", "b", "b"]


def test_cancel_before_the_loop_runs() -> None:
    """A request cancelled in the inbox is never started."""
    bench = Bench(FakeModel().load)
    bench.engine.submit(a_request("a"))
    bench.engine.cancel("a")
    bench.engine.run()
    assert [type(event) for event in bench.events] == [Canceled]


def test_cancel_of_the_unknown() -> None:
    """Cancelling a request that is not there, or no more, does nothing and wakes nobody."""
    bench = Bench(FakeModel().load)
    bench.paint(a_request("a"))
    bench.engine.cancel("a")
    bench.engine.cancel("nobody")
    assert bench.starts == 1
    assert isinstance(bench.end("a"), Finished)


def test_same_id_twice() -> None:
    """An id that is in the engine is refused; once it has ended it may come again."""
    bench = Bench(FakeModel().load)
    bench.engine.submit(a_request("a"))
    with pytest.raises(ValueError, match="request_id: 'a'"):
        bench.engine.submit(a_request("a"))
    bench.engine.run()
    bench.paint(a_request("a"))
    assert len(bench.of(Finished)) == 2


def test_stop() -> None:
    """Stopping ends the loop at the step boundary: all that is there is cancelled, what comes later is refused."""
    model = FakeModel()
    bench = Bench(model.load, small_batches(1))
    bench.on_deliver = after_step(bench, "a", 2, bench.engine.stop)
    bench.paint(a_request("a"), a_request("b"))
    assert len(model.batches) == 2
    assert {event.request_id for event in bench.of(Canceled)} == {"a", "b"}
    with pytest.raises(EngineStopped):
        bench.engine.submit(a_request("c"))
    bench.engine.load("tiny")
    assert bench.starts == 1


def test_stop_before_the_loop_runs() -> None:
    """Requests that were submitted and never begun are cancelled too."""
    bench = Bench(FakeModel().load)
    bench.engine.submit(a_request("a"))
    bench.engine.stop()
    bench.engine.run()
    assert [type(event) for event in bench.events] == [Canceled]


def test_numbers() -> None:
    """Running and waiting samples are counted, the inbox included."""
    bench = Bench(FakeModel().load, small_batches(2))
    seen = []
    bench.on_deliver = lambda events: seen.append(bench.engine.numbers())
    bench.engine.submit(a_request("a", num_images=3, num_inference_steps=2))
    assert (bench.engine.numbers().running, bench.engine.numbers().waiting) == (0, 3)
    bench.engine.run()
    assert [(numbers.running, numbers.waiting, numbers.last_batch) for numbers in seen] == [
        (0, 3, 0),  # the model is being loaded
        (2, 1, 2),
        (2, 1, 2),  # two have made their last step, and are decoded in the next turn
        (1, 0, 1),
        (1, 0, 1),
        (0, 0, 1),
    ]
    assert bench.engine.numbers().steps == 4


def test_load_ahead() -> None:
    """A model can be loaded before its first request, and only once."""
    bench = Bench(FakeModel().load)
    bench.engine.load("tiny")
    bench.engine.load("tiny")
    bench.engine.run()
    assert len(bench.of(ModelReady)) == 1
    bench.paint(a_request("a"))
    assert len(bench.of(ModelReady)) == 1


class Shaky:
    """A loader that fails for as long as it is told to."""

    def __init__(self) -> None:
        self.broken = True
        self.tries = 0

    def load(self, card: ModelCard, settings: EngineSettings) -> FakeModel:
        """A `LoadModel`."""
        self.tries += 1
        if self.broken:
            raise ModelLoadError(f"{card.name}: nothing there")
        return FakeModel()


def test_a_model_that_will_not_load() -> None:
    """Its requests fail with the same error; another model's do not; it is not tried again at once."""
    shaky, fine = Shaky(), FakeModel()
    bench = Bench(
        lambda card, settings: (shaky if card.name == "bad" else fine).load(card, settings), models=("bad", "ok")
    )
    bench.paint(a_request("a", model="bad"), a_request("b", model="ok"), a_request("c", model="bad", width=128))
    assert [event.model for event in bench.of(ModelUnavailable)] == ["bad"]
    assert bench.failed("a").error is bench.failed("c").error is bench.of(ModelUnavailable)[0].error
    assert len(bench.finished("b").pictures) == 1
    assert shaky.tries == 1


def test_loading_is_tried_again_later() -> None:
    """After a while a request tries a failed model again."""
    shaky = Shaky()
    bench = Bench(shaky.load)
    bench.paint(a_request("a"))
    shaky.broken = False
    bench.paint(a_request("too soon"))
    assert isinstance(bench.failed("too soon").error, ModelLoadError)
    bench.now += RETRY_SECONDS
    bench.paint(a_request("later"))
    assert len(bench.finished("later").pictures) == 1


def test_load_tries_again_at_once() -> None:
    """Whoever asks for a model by `load` does not wait."""
    shaky = Shaky()
    bench = Bench(shaky.load)
    bench.paint(a_request("a"))
    bench.engine.load("tiny")
    bench.engine.run()
    assert len(bench.of(ModelUnavailable)) == 2
    shaky.broken = False
    bench.engine.load("tiny")
    bench.engine.run()
    assert len(bench.of(ModelReady)) == 1


def test_unknown_model() -> None:
    """A model without a card is an error that lists the cards."""
    bench = Bench(FakeModel().load)
    bench.paint(a_request("a", model="huge"))
    bench.engine.load("huge")
    bench.engine.run()
    assert str(bench.failed("a").error) == "model: 'huge' does not exist here"
    assert [event.model for event in bench.of(ModelUnavailable)] == ["huge"]


@pytest.mark.parametrize(
    ("field", "value"),
    [("width", 68), ("height", 0), ("height", 32), ("num_images", 0), ("num_inference_steps", 0), ("solver", "magic")],
)
def test_requests_that_cannot_be_painted(field: str, value: object) -> None:
    """What the engine cannot do at all fails by the field's name, and harms no neighbour."""
    bench = Bench(FakeModel().load)
    bench.paint(a_request("good"), replace(a_request("bad"), **{field: value}))  # type: ignore[arg-type]
    assert isinstance(bench.failed("bad").error, GenerationError)
    assert str(bench.failed("bad").error).startswith(f"{field}:")
    assert len(bench.finished("good").pictures) == 1


def test_what_a_card_rules_out_fails_before_anything_is_loaded() -> None:
    """A solver that the card does not offer, and more steps than it says the solver can make."""
    bench = Bench(FakeModel().load, cards=[ModelCard(name="tiny", source="t", solvers=("lcm",), most_steps={"lcm": 8})])
    bench.paint(a_request("euler", solver="euler"), a_request("long", solver="lcm", num_inference_steps=9))
    assert str(bench.failed("euler").error) == "solver: must be one of lcm, is 'euler'"
    assert str(bench.failed("long").error) == "num_inference_steps: must be at most 8 with lcm, is 9"
    assert bench.of(ModelReady) == []
    bench.paint(a_request("short", solver="lcm", num_inference_steps=8))
    assert len(bench.finished("short").pictures) == 1


def test_a_device_that_is_not_there() -> None:
    """Where the loop cannot even begin, its requests are handed back with the reason, and the next ones are refused."""
    bench = Bench(FakeModel().load, EngineSettings(device="cuda:77"))
    bench.paint(a_request("a"), a_request("b"))
    ((event,),) = bench.deliveries
    assert isinstance(event, HandedBack)
    assert [request.request_id for request in event.requests] == ["a", "b"]
    assert str(event.error).startswith("device: 'cuda:77'")
    with pytest.raises(EngineStopped, match="device: 'cuda:77'"):
        bench.engine.submit(a_request("c"))
    assert bench.starts == 1


def test_hand_back() -> None:
    """What has not begun is handed back, the latest first, until it is enough; what has begun stays."""
    bench = Bench(FakeModel().load, small_batches(1))
    bench.on_deliver = after_step(bench, "a", 1, lambda: bench.engine.hand_back(3))
    bench.paint(a_request("a"), a_request("b"), a_request("c", num_images=2), a_request("d"))
    (event,) = bench.of(HandedBack)
    assert [request.request_id for request in event.requests] == ["c", "d"]
    assert event.error is None
    assert [end.request_id for end in bench.of(Finished)] == ["a", "b"]
    bench.paint(a_request("c"))
    bench.finished("c")


def test_a_failed_thread_hands_back_what_is_there() -> None:
    """Where the loop's thread itself ended in an error, nothing stays behind."""
    bench = Bench(FakeModel().load)
    bench.engine.submit(a_request("a"))
    bench.engine.abandon(RuntimeError("no more threads"))
    (event,) = bench.of(HandedBack)
    assert [request.request_id for request in event.requests] == ["a"]
    assert "no more threads" in str(event.error)


def test_a_start_that_raises() -> None:
    """If the loop cannot be started, whoever submits is told, and the next one tries again."""
    failures = [RuntimeError("the pool is closed")]
    delivered: list[EngineEvent] = []

    def start() -> None:
        if failures:
            raise failures.pop()
        engine.run()

    engine = Engine(
        [ModelCard(name="tiny", source="tiny")],
        EngineSettings(device="cpu"),
        start,
        delivered.extend,
        load_model=FakeModel().load,
    )
    with pytest.raises(RuntimeError, match="the pool is closed"):
        engine.submit(a_request("a"))
    engine.submit(a_request("b"))
    assert {event.request_id for event in delivered if isinstance(event, Finished)} == {"a", "b"}


def test_importing_the_engine_imports_no_torch() -> None:
    """A server can make an engine, and listen, before torch is loaded."""
    program = (
        "import sys, ai.engine, ai.types, ai.cards, ai.batching, ai.shelf, ai.work\n"
        "engine = ai.engine.Engine([], ai.types.EngineSettings(), lambda: None, lambda events: None)\n"
        "engine.numbers()\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'diffusers', 'transformers', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(("name", "value"), [("dtype", "int8"), ("max_batch", 0), ("torch_threads", -1)])
def test_settings_are_checked(name: str, value: object) -> None:
    """A setting that makes no sense is refused by its name."""
    with pytest.raises(ValueError, match=f"{name}:"):
        EngineSettings(**{name: value})  # type: ignore[arg-type]
