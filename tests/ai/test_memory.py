"""One budget for all that takes a device's memory: what is held, what is unloaded for it, and what a pass may take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ai.adapters.residents import Worn
from ai.cards import ModelCard
from ai.families.family import Conditioning, Prompted
from ai.gauge import TensorGauge, device_memory, networks_bytes, tensors_bytes
from ai.halving import Halving
from ai.lineup import Lineup
from ai.memory import Memory, Pass
from ai.shelf import RETRY_SECONDS
from ai.types import (
    AdapterUse,
    EngineEvent,
    EngineSettings,
    Failed,
    Finished,
    GenerationRequest,
    MemoryNumbers,
    ModelLoading,
    ModelReady,
    ModelUnloaded,
    OutOfMemory,
    Parked,
    Started,
    Stepped,
)
from tests.ai.drive import Bench, a_request
from tests.ai.fakes import SLOT_BYTES, FakeModel

MODEL = 10_000_000  # bytes of each model here, beside which their tiny latents and passes hardly count
ROOM_FOR_TWO = EngineSettings(device="cpu", memory_limit=2 * MODEL + MODEL // 2)
ROOM_FOR_ONE = replace(ROOM_FOR_TWO, memory_limit=MODEL + MODEL // 2)


def a_bench(
    settings: EngineSettings, sizes: dict[str, int] | None = None, fakes: dict[str, FakeModel] | None = None
) -> Bench:
    """An engine with models a, b and c, loaded at once; `sizes` and `fakes` are other than the usual ones."""
    sizes = dict.fromkeys("abc", MODEL) | (sizes or {})

    def load(card: ModelCard, settings: EngineSettings) -> FakeModel:
        return (fakes or {}).get(card.name) or FakeModel(weight_bytes=sizes[card.name])

    return Bench(load, settings, models=tuple(sizes), weigh=lambda card, settings: sizes[card.name])


def in_memory(bench: Bench) -> set[str]:
    """Which models are."""
    return set(bench.engine._shelf)


# Models


def test_models_are_kept_while_there_is_room() -> None:
    """Nothing is unloaded that fits."""
    bench = a_bench(ROOM_FOR_TWO)
    for model in "abab":
        bench.paint(a_request(model, model=model))
    assert in_memory(bench) == {"a", "b"}
    assert len(bench.of(ModelReady)) == 2
    assert bench.engine.numbers().memory.models == 2 * MODEL


def test_the_least_recently_used_model_goes() -> None:
    """When another needs the room, it is the model that was not used for longest which is unloaded."""
    bench = a_bench(ROOM_FOR_TWO)
    for model in "aba":
        bench.paint(a_request(model, model=model))
        bench.now += 1
    bench.paint(a_request("c", model="c"))
    assert in_memory(bench) == {"a", "c"}
    assert [event.model for event in bench.of(ModelUnloaded)] == ["b"]
    assert len(bench.of(Finished)) == 4


def test_an_unloaded_model_comes_back() -> None:
    """A request for it is painted as before."""
    bench = a_bench(ROOM_FOR_ONE)
    for request_id, model in (("first", "a"), ("other", "b"), ("again", "a")):
        bench.paint(a_request(request_id, model=model))
    assert [event.model for event in bench.of(ModelLoading)] == ["a", "b", "a"]
    assert bench.finished("first").pictures == bench.finished("again").pictures


def test_a_model_in_use_is_never_unloaded() -> None:
    """Another model waits until the samples with seats are done; nobody else is seated before it."""
    bench = a_bench(ROOM_FOR_ONE)
    bench.on_deliver = at_step(bench, "a", 2, lambda: bench.engine.submit(a_request("b", model="b")))
    later = at_step(bench, "a", 3, lambda: bench.engine.submit(a_request("late", model="a")))
    first = bench.on_deliver

    def both(events: Sequence[EngineEvent]) -> None:
        first(events)
        later(events)

    bench.on_deliver = both
    bench.paint(a_request("a", model="a", num_inference_steps=6))
    assert [event.request_id for event in bench.of(Finished)] == ["a", "b", "late"]
    assert [event.model for event in bench.of(ModelUnloaded)] == ["a", "b"]
    assert [event.request_id for event in bench.of(Stepped)[:6]] == ["a"] * 6


def at_step(
    bench: Bench, request_id: str, step: int, act: Callable[[], None]
) -> Callable[[Sequence[EngineEvent]], None]:
    """Call `act` when a request has made a step."""

    def deliver(events: Sequence[EngineEvent]) -> None:
        if any(isinstance(event, Stepped) and (event.request_id, event.step) == (request_id, step) for event in events):
            act()

    return deliver


def test_models_that_take_turns_all_make_progress() -> None:
    """With room for one model, three models' requests are all painted, whatever the order they come in."""
    bench = a_bench(replace(ROOM_FOR_ONE, max_batch=2))
    bench.paint(*(a_request(f"{model}{n}", model=model) for n in range(4) for model in "abc"))
    assert len(bench.of(Finished)) == 12
    loads = [event.model for event in bench.of(ModelLoading)]
    assert len(loads) == 6, "each model is loaded once for each two seats"


def test_a_model_that_fits_nowhere() -> None:
    """It fails its requests as out of memory, with both figures, and nobody else's; it is not tried for each of them."""
    bench = a_bench(ROOM_FOR_TWO, {"a": 5 * MODEL})
    bench.paint(a_request("a", model="a"), a_request("b", model="b"))
    error = bench.failed("a").error
    assert isinstance(error, OutOfMemory)
    assert str(error) == "a: takes 50 MB; 25 MB may be used"
    bench.finished("b")
    bench.paint(a_request("a again", model="a"))
    assert bench.failed("a again").error is error
    bench.now += RETRY_SECONDS
    bench.paint(a_request("much later", model="a"))
    assert len(bench.of(ModelLoading)) == 3


def test_cancelled_demand_makes_no_room() -> None:
    """A model that waits for room for requests which are cancelled meanwhile is not loaded at all."""
    bench = a_bench(ROOM_FOR_ONE)
    bench.on_deliver = at_step(bench, "a", 2, lambda: bench.engine.submit(a_request("b", model="b")))
    inner = bench.on_deliver
    cancel = at_step(bench, "a", 4, lambda: bench.engine.cancel("b"))

    def both(events: Sequence[EngineEvent]) -> None:
        inner(events)
        cancel(events)

    bench.on_deliver = both
    bench.paint(a_request("a", model="a", num_inference_steps=6))
    assert in_memory(bench) == {"a"}
    assert bench.of(ModelUnloaded) == []


def test_a_load_that_runs_out_of_memory_is_tried_again_with_room() -> None:
    """Where the budget was wrong (something else has its share of the device), idle models go, and it is tried again."""
    tries: list[str] = []

    def load(card: ModelCard, settings: EngineSettings) -> FakeModel:
        tries.append(card.name)
        if card.name == "b" and "a" in bench.engine._shelf:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return FakeModel()

    bench = Bench(load, ROOM_FOR_TWO, models=("a", "b"))
    bench.paint(a_request("a", model="a"))
    bench.paint(a_request("b", model="b"))
    bench.finished("b")
    assert tries == ["a", "b", "b"]
    assert in_memory(bench) == {"b"}


def test_a_load_that_keeps_running_out_of_memory() -> None:
    """Its requests fail as out of memory, though a loader wraps the error in its own words; the engine goes on."""

    def load(card: ModelCard, settings: EngineSettings) -> FakeModel:
        if card.name == "b":
            try:
                raise torch.OutOfMemoryError("CUDA out of memory")
            except torch.OutOfMemoryError as error:
                raise ValueError("cannot be loaded") from error
        return FakeModel()

    bench = Bench(load, ROOM_FOR_TWO, models=("a", "b"))
    bench.paint(a_request("a", model="a"), a_request("b", model="b"))
    assert isinstance(bench.failed("b").error, OutOfMemory)
    bench.finished("a")
    bench.paint(a_request("again", model="a"))
    bench.finished("again")


def test_idle_models_are_unloaded_after_their_time() -> None:
    """Not before it, and not while a request is there."""
    bench = a_bench(replace(ROOM_FOR_TWO, idle_unload=60))
    bench.paint(a_request("a", model="a"))
    bench.now += 59
    bench.engine.tidy()
    bench.engine.run()
    assert in_memory(bench) == {"a"}
    bench.now += 1
    bench.engine.tidy()
    bench.engine.run()
    assert in_memory(bench) == set()
    assert bench.engine.numbers().memory.models == 0


def test_idle_models_stay_without_a_time_out() -> None:
    """0 means never."""
    bench = a_bench(ROOM_FOR_TWO)
    bench.paint(a_request("a", model="a"))
    bench.now += 1e9
    bench.engine.tidy()
    bench.engine.run()
    assert in_memory(bench) == {"a"}


# Out of memory


class Cramped(FakeModel):
    """Has room for `room` rows, and for more when `relieved`."""

    relieved: Callable[[], bool] = staticmethod(lambda: False)

    def predict(
        self, latents: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning, lineup: Lineup
    ) -> torch.Tensor:
        """As always, if there is room."""
        if self.relieved():
            self.room = 1000
        return super().predict(latents, timesteps, conditioning, lineup)


def test_out_of_memory_unloads_idle_models() -> None:
    """A step that does not fit even alone is tried again once an idle model has gone: nobody fails."""
    cramped = Cramped(weight_bytes=MODEL, room=0)
    bench = a_bench(ROOM_FOR_TWO, fakes={"a": cramped})
    cramped.relieved = lambda: "b" not in bench.engine._shelf
    bench.paint(a_request("b", model="b"))
    bench.paint(a_request("a1", model="a", guidance_scale=1), a_request("a2", model="a", guidance_scale=1))
    assert bench.of(Failed) == []
    assert in_memory(bench) == {"a"}
    assert cramped.batches[:3] == [2, 1, 1], "halved first, then relieved"


def with_adapters(name: str, *adapters: str) -> ModelCard:
    """A card of a model with these adapters."""
    return ModelCard(name=name, source=name, adapters={adapter: Path(adapter) for adapter in adapters})


def test_out_of_memory_drops_idle_adapters_first() -> None:
    """Before any model goes, the adapters that nobody wears do; those that are worn stay, and act as before."""
    cramped = Cramped(weight_bytes=MODEL)
    other = FakeModel(weight_bytes=MODEL)
    cards = (with_adapters("a", "ink", "chalk"), with_adapters("b", "wash"))
    models = {"a": cramped, "b": other}
    bench = Bench(lambda card, settings: models[card.name], ROOM_FOR_TWO, cards=cards)
    worn = (AdapterUse("chalk"),)
    bench.paint(a_request("b", model="b", adapters=(AdapterUse("wash"),)))
    bench.paint(
        a_request("ink", model="a", adapters=(AdapterUse("ink"),)), a_request("first", model="a", adapters=worn)
    )
    assert bench.engine.numbers().memory.adapters == 3 * SLOT_BYTES
    cramped.room, cramped.relieved = 0, lambda: other.adapters.there == 0
    bench.paint(a_request("again", model="a", adapters=worn))
    assert bench.finished("again").pictures == bench.finished("first").pictures
    assert in_memory(bench) == {"a", "b"}
    assert bench.engine.numbers().memory.adapters <= 2 * SLOT_BYTES
    assert (bench.engine.numbers().adapter_hits, bench.engine.numbers().adapter_loads) == (1, 3)
    bench.paint(a_request("back", model="b", adapters=(AdapterUse("wash"),)))
    assert bench.finished("back").pictures == bench.finished("b").pictures


def test_a_parked_request_whose_model_went_and_came_back() -> None:
    """It goes on where it was, with its adapters in their new slots, to the same picture."""
    cards = (with_adapters("a", "ink", "chalk"), with_adapters("b"))
    bench = Bench(
        lambda card, settings: FakeModel(weight_bytes=MODEL), replace(ROOM_FOR_ONE, max_batch=1), cards=cards,
        weigh=lambda card, settings: MODEL,
    )  # fmt: skip
    worn = (AdapterUse("chalk", 0.5), AdapterUse("ink"))
    urgent = a_request("urgent", model="a", priority=5, num_inference_steps=3, adapters=(AdapterUse("ink"),))
    steps = [
        at_step(bench, "low", 2, lambda: bench.engine.submit(urgent)),
        at_step(bench, "urgent", 1, lambda: bench.engine.submit(a_request("b", model="b", priority=9))),
    ]

    def deliver(events: Sequence[EngineEvent]) -> None:
        for step in steps:
            step(events)

    bench.on_deliver = deliver
    bench.paint(a_request("low", model="a", num_inference_steps=6, adapters=worn))
    assert len(bench.of(Parked)) == 1
    assert [event.model for event in bench.of(ModelUnloaded)] == ["a", "b"]
    plain = Bench(FakeModel().load, cards=cards)
    plain.paint(a_request("low", model="a", num_inference_steps=6, adapters=worn))
    assert bench.finished("low").pictures == plain.finished("low").pictures


def test_out_of_memory_where_nothing_is_idle() -> None:
    """Only the request that cannot fit fails; models in use stay, and the engine goes on."""
    bench = a_bench(ROOM_FOR_TWO)
    bench.paint(
        a_request("a", model="a"), a_request("b", model="b"), a_request("heavy", model="a", prompt="heavy"),
    )  # fmt: skip
    assert isinstance(bench.failed("heavy").error, OutOfMemory)
    assert in_memory(bench) == {"a", "b"}
    bench.finished("a")
    bench.finished("b")


class Wordless(FakeModel):
    """Its text encoder has no room until it is `relieved`."""

    relieved: Callable[[], bool] = staticmethod(lambda: False)

    def prompt(self, request: GenerationRequest, worn: Sequence[Worn]) -> Prompted:
        """As always, if there is room."""
        if not self.relieved():
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().prompt(request, worn)


def test_out_of_memory_at_the_prompt() -> None:
    """Encoding a prompt makes room in the same way; where there is none, that request fails."""
    wordless = Wordless(weight_bytes=MODEL)
    bench = a_bench(ROOM_FOR_TWO, fakes={"a": wordless})
    wordless.relieved = lambda: "b" not in bench.engine._shelf
    bench.paint(a_request("b", model="b"))
    bench.paint(a_request("a", model="a"))
    bench.finished("a")
    wordless.relieved = lambda: False
    bench.paint(a_request("never", model="a"))
    assert isinstance(bench.failed("never").error, OutOfMemory)
    assert bench.of(Started, "never") == []


def test_halving_relieves_what_is_alone() -> None:
    """A single item is tried again for as long as there is something to let go of, and no longer."""
    spare = [1, 2]
    tried: list[list[str]] = []

    def attempt(items: Sequence[str]) -> dict[str, object]:
        tried.append(list(items))
        if "heavy" in items:
            raise torch.OutOfMemoryError
        return {}

    failures = Halving[str](lambda: bool(spare and spare.pop())).run(["light", "heavy"], attempt)  # type: ignore[arg-type]
    assert isinstance(failures["heavy"], OutOfMemory)
    assert tried == [["light", "heavy"], ["light"], ["heavy"], ["heavy"], ["heavy"]]


# Passes


UNET = Pass("a", 64, 64, "unet")


def test_passes_are_expected_to_take_what_they_took() -> None:
    """A measured number of rows as measured, others in proportion to the nearest that was."""
    memory = Memory()
    memory.note_peak(UNET, 2, 30)
    memory.note_peak(UNET, 8, 100)
    assert [memory.expected(UNET, rows) for rows in (1, 2, 4, 8, 16)] == [15, 30, 50, 100, 200]
    assert memory.expected(Pass("a", 128, 64, "unet"), 4) == 0


def test_a_batch_that_will_not_fit_is_not_tried() -> None:
    """Once a pass is measured, more rows than the budget has room for are stepped in parts, with no error on the way."""
    memory = Memory(limit=1000)
    memory.hold_model("a", 400)
    memory.hold_adapters("a", 50)
    memory.latents = 50
    assert memory.fitting(UNET, 16) == 16, "nothing is known yet"
    memory.note_peak(UNET, 2, 200)
    assert memory.fitting(UNET, 16) == 5
    memory.hold_model("b", 499)
    assert memory.fitting(UNET, 16) == 1, "one is always tried"


def test_the_engine_steps_in_parts_what_does_not_fit() -> None:
    """The budget splits the batch in the engine; everyone is painted, as if alone."""
    requests = [a_request(str(n), model="a", seed=n, guidance_scale=1, num_inference_steps=6) for n in range(8)]
    free = a_bench(EngineSettings(device="cpu"))
    taken: list[MemoryNumbers] = []
    free.on_deliver = lambda events: taken.append(free.engine.numbers().memory)
    free.paint(*requests)
    stepping = taken[2]  # before anything was decoded, which takes more
    model = FakeModel(weight_bytes=MODEL)
    five_rows = MODEL + stepping.latents + stepping.activations * 5 // 8
    bench = a_bench(EngineSettings(device="cpu", memory_limit=five_rows), fakes={"a": model})
    bench.paint(*requests)
    assert model.batches == [8] + [5, 3] * 5, "the first step shows what a row takes"
    assert bench.of(Failed) == []
    for request in requests:
        assert bench.finished(request.request_id).pictures == free.finished(request.request_id).pictures


def test_each_doubling_is_measured_where_it_costs_something() -> None:
    """Not every number of rows."""
    memory = Memory()
    measured = []
    for rows in range(1, 20):
        if memory.is_news(UNET, rows):
            measured.append(rows)
            memory.note_peak(UNET, rows, rows)
    assert measured == [1, 2, 4, 8, 16]


def test_a_model_takes_its_measurements_along() -> None:
    """What is told of activations is of models in memory."""
    memory = Memory()
    memory.hold_model("a", 7)
    memory.note_peak(UNET, 1, 99)
    assert memory.numbers == MemoryNumbers(models=7, activations=99)
    memory.release_model("a")
    memory.forget_passes([])
    assert memory.numbers == MemoryNumbers()


# Measuring


def test_peak_of_tensors() -> None:
    """What lives at the same time counts together, what was let go of does not, and a view counts nothing."""

    def work() -> torch.Tensor:
        first = torch.ones(1000)
        second = first + 1
        del first
        third = second * 2
        third.add_(1)
        return third[10:].sum()

    with torch.inference_mode():
        result, size = TensorGauge().peak(work)
    assert result.item() == 990 * 5
    assert size == 8000 + 4


def test_measuring_changes_no_bit() -> None:
    """A measured pass gives the numbers of one that is not."""
    layer = torch.nn.Conv2d(4, 8, 3, padding=1)
    with torch.inference_mode():
        x = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(3))
        plain = torch.nn.functional.silu(layer(x))
        measured, size = TensorGauge().peak(lambda: torch.nn.functional.silu(layer(x)))
    assert torch.equal(plain, measured)
    assert size >= plain.nbytes


def test_storages_are_counted_once() -> None:
    """Views and shared weights take no more than what they look at."""
    tensor = torch.zeros(100)
    assert tensors_bytes([tensor, tensor[10:], tensor.view(10, 10), torch.zeros(1)]) == 404
    shared = torch.nn.Linear(10, 10, bias=False)
    assert networks_bytes({"one": shared, "two": torch.nn.Sequential(shared)}, torch.device("cpu")) == 400


def test_the_cpu_has_memory() -> None:
    """No more than the machine, and something."""
    assert device_memory(torch.device("cpu")) > 0


@pytest.mark.parametrize(("name", "value"), [("memory_limit", -1), ("memory_reserve", -1), ("idle_unload", -1.0)])
def test_settings_are_checked(name: str, value: object) -> None:
    """A budget below nothing is refused by its name."""
    with pytest.raises(ValueError, match=f"{name}:"):
        EngineSettings(**{name: value})  # type: ignore[arg-type]
