"""A refiner makes the last steps: against diffusers' two pipelines, one after the other."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ai.cards import ModelCard, read_card
from ai.families import load
from ai.families.family import Model
from ai.stepping import Row, Stepper, open_row, refine_row
from ai.types import AdapterUse, EngineSettings, Failed, GenerationRequest, ModelLoadError, ModelReady, Stepped
from tests.ai import oracle
from tests.ai.drive import Bench, a_request, pixels, relative_error
from tests.ai.fakes import FakeModel
from tests.ai.test_sd15 import TOLERANCE
from tests.ai.test_sdxl import PICTURE

pytestmark = pytest.mark.filterwarnings(oracle.NUMPY_COPY_WARNING)

SWITCH = 0.7

MIX = [
    a_request("plain", num_inference_steps=6),
    a_request("without guidance", num_inference_steps=4, guidance_scale=1.0, seed=1),
    a_request("negative", num_inference_steps=9, negative_prompt="red", seed=3, prompt="two blue cats"),
    a_request("ancestral", num_inference_steps=5, solver="euler_a", seed=4),
    a_request("euler", num_inference_steps=7, solver="euler", seed=5),
    a_request("from a picture", num_inference_steps=8, seed=6, init_image=PICTURE, strength=0.8),
]


@cache
def chained(base: Path, refiner: Path, request: GenerationRequest, output_type: str, switch: float = SWITCH) -> Any:
    """What diffusers' pipelines paint: the base model until `switch`, then the refiner, with one generator."""
    generator = torch.Generator("cpu").manual_seed(request.seed)
    latents = oracle.paint(base, request, 0, "latent", generator=generator, denoising_end=switch)
    return oracle.painter(refiner, request.solver, from_image=False)(
        request.prompt,
        image=latents[None],
        negative_prompt=request.negative_prompt or None,
        num_inference_steps=request.num_inference_steps,
        guidance_scale=request.guidance_scale,
        denoising_start=switch,
        generator=generator,
        output_type=output_type,
    ).images[0]


@pytest.fixture(scope="module")
def card(xl_folder: Path, xl_refiner_folder: Path) -> ModelCard:
    """A base model that hands over to the refiner."""
    refiner = read_card("tiny:refiner", str(xl_refiner_folder))
    return ModelCard(name="tiny", source=str(xl_folder), refiner=refiner, refiner_switch=SWITCH)


@pytest.fixture(scope="module")
def models(card: ModelCard) -> dict[str, Model]:
    """Both models, loaded, by their cards' names."""
    assert card.refiner is not None
    return {one.name: load(one, EngineSettings(device="cpu")) for one in (card, card.refiner)}


@pytest.fixture
def bench(card: ModelCard, models: dict[str, Model]) -> Bench:
    """An engine of both."""
    return Bench(lambda card, settings: models[card.name], cards=[card])


def test_a_mixed_batch_equals_the_two_pipelines(bench: Bench, xl_folder: Path, xl_refiner_folder: Path) -> None:
    """Requests that differ in everything change models each at its own step, and end where diffusers' two end."""
    bench.paint(*MIX)
    for request in MIX:
        (picture,) = bench.finished(request.request_id).pictures
        wanted = np.asarray(chained(xl_folder, xl_refiner_folder, request, "pil")).astype(int)
        assert np.abs(pixels(picture) - wanted).max() <= 1, request.request_id


def run(row: Row, model: Model, until: int) -> None:
    """Step one row alone."""
    stepper = Stepper(model)
    while row.step < until:
        assert stepper.step([row]) == {}


@pytest.mark.parametrize("request_id", [request.request_id for request in MIX])
def test_the_latents_equal_the_two_pipelines(
    request_id: str, models: dict[str, Model], xl_folder: Path, xl_refiner_folder: Path
) -> None:
    """Step for step and to the end, whichever the solver, with noise on the way or without."""
    (request,) = [one for one in MIX if one.request_id == request_id]
    base, refiner = models.values()
    with torch.inference_mode():
        row = open_row(base, request, 0, base.prompt(request, ()), switch=SWITCH)
        run(row, base, int(row.handover))
        refine_row(refiner, request, row, refiner.prompt(request, ()), SWITCH)
        run(row, refiner, row.table.steps)
    wanted = chained(xl_folder, xl_refiner_folder, request, "latent")
    assert relative_error(row.latents, wanted) < TOLERANCE


def test_a_request_may_choose_the_refiner_s_share(bench: Bench, xl_folder: Path, xl_refiner_folder: Path) -> None:
    """None of it, or another than the card's, beside one that leaves it to the card: each as diffusers paints it."""
    asked = [
        a_request("without", num_inference_steps=6, seed=21, refiner_strength=0.0),
        a_request("half", num_inference_steps=6, seed=22, refiner_strength=0.5),
        a_request("the card's", num_inference_steps=6, seed=23),
    ]
    bench.paint(*asked)
    wanted = [
        oracle.paint(xl_folder, asked[0], 0, "pil"),
        chained(xl_folder, xl_refiner_folder, asked[1], "pil", 0.5),
        chained(xl_folder, xl_refiner_folder, asked[2], "pil"),
    ]
    for request, picture in zip(asked, wanted, strict=True):
        painted = pixels(bench.finished(request.request_id).pictures[0]).astype(int)
        assert np.abs(painted - np.asarray(picture).astype(int)).max() <= 1, request.request_id


def test_a_refiner_may_make_every_step_or_none() -> None:
    """A share of 1 leaves the base model the prompt alone; with 0 the refiner is not even loaded."""
    for share, passes in ((1.0, [0, 10]), (0.0, [10, 0])):
        models = {"tiny": FakeModel(), "tiny:refiner": FakeModel()}
        bench = Bench(lambda card, settings, models=models: models[card.name], cards=[a_card()])  # type: ignore[misc]
        bench.paint(a_request(num_inference_steps=10, refiner_strength=share))
        bench.finished("one")
        assert [len(model.batches) for model in models.values()] == passes
        assert [event.model for event in bench.of(ModelReady)] == list(models)[: 1 + bool(share)]


@pytest.mark.parametrize(
    ("model", "share", "said"),
    [
        ("tiny", 1.5, "refiner_strength: must be 0 to 1, is 1.5"),
        ("tiny", float("nan"), "refiner_strength: must be 0 to 1, is nan"),
        ("plain", 0.5, "refiner_strength: plain has no refiner"),
    ],
)
def test_a_share_that_cannot_be_is_refused(model: str, share: float, said: str) -> None:
    """By the engine too, which a model's card may have changed under."""
    bench = Bench(FakeModel().load, cards=[a_card(), ModelCard(name="plain", source="plain")])
    bench.paint(a_request(model=model, refiner_strength=share))
    assert str(bench.failed("one").error) == said


def test_the_hand_over_is_where_diffusers_has_it(models: dict[str, Model]) -> None:
    """The base model makes the steps whose timesteps are in the first share of the schedule; of a step too many, all."""
    base = models["tiny"]
    for steps, handover in ((10, 7), (3, 2), (1, float("inf"))):
        request = a_request(num_inference_steps=steps)
        assert open_row(base, request, 0, base.prompt(request, ()), switch=SWITCH).handover == handover


def a_card(**changes: object) -> ModelCard:
    """A card of fakes with a refiner, who makes the last four of ten steps."""
    values: dict[str, object] = {"name": "tiny", "source": "tiny", "refiner_switch": 0.55}
    return ModelCard(**(values | {"refiner": ModelCard(name="tiny:refiner", source="refiner")} | changes))  # type: ignore[arg-type]


def test_the_refiner_is_loaded_when_it_is_reached() -> None:
    """Not before a sample stands at the hand-over; progress goes on where it was, over the steps of both."""
    bench = Bench(FakeModel().load, cards=[a_card()])
    bench.paint(a_request(num_inference_steps=10))
    kinds = [
        event.model if isinstance(event, ModelReady) else event.step
        for event in bench.events
        if isinstance(event, (ModelReady, Stepped))
    ]
    assert kinds == ["tiny", 1, 2, 3, 4, 5, 6, "tiny:refiner", 7, 8, 9, 10]
    assert {event.total for event in bench.of(Stepped)} == {10}


def test_a_refiner_that_cannot_be_loaded() -> None:
    """Requests fail with what is wrong with it, those without one are painted."""
    fake = FakeModel()

    def load_model(card: ModelCard, settings: EngineSettings) -> Model:
        if card.name == "tiny:refiner":
            raise ModelLoadError("refiner: there is no such file or folder")
        return fake.load(card, settings)

    bench = Bench(load_model, cards=[a_card(), ModelCard(name="plain", source="plain")])
    bench.paint(a_request("refined"), a_request("plain", model="plain"))
    assert str(bench.failed("refined").error) == "refiner: there is no such file or folder"
    bench.finished("plain")


def test_the_refiner_s_batch_keeps_its_limit() -> None:
    """Whoever is handed over waits for a place in the refiner's batch, as every newcomer does in any."""
    refiner = FakeModel()
    models = {"tiny": FakeModel(), "tiny:refiner": refiner}
    settings = EngineSettings(device="cpu", max_batch=2)
    bench = Bench(lambda card, settings: models[card.name], settings=settings, cards=[a_card(refiner_switch=0.25)])
    bench.paint(*(a_request(str(n), num_inference_steps=1 + 3 * n, guidance_scale=1.0, seed=n) for n in range(1, 6)))
    assert max(refiner.batches) == 2
    for n in range(1, 6):
        bench.finished(str(n))


def test_all_steps_may_be_the_refiner_s() -> None:
    """From a picture that little is changed of, no step is left for the base model."""
    models = {"tiny": FakeModel(), "tiny:refiner": FakeModel()}
    bench = Bench(lambda card, settings: models[card.name], cards=[a_card()])
    bench.paint(a_request(num_inference_steps=10, init_image=PICTURE, strength=0.1))
    bench.finished("one")
    assert [len(model.batches) for model in models.values()] == [0, 1]


def test_adapters_that_the_refiner_does_not_wear() -> None:
    """The result says so, by name, where a refiner made any steps; not where none did, nor of adapters that add nothing."""
    bench = Bench(FakeModel().load, cards=[a_card(adapters={"neon": Path("neon"), "chalk": Path("chalk")})])
    styled = (AdapterUse("neon"), AdapterUse("chalk", 0.0))
    bench.paint(
        a_request("refined", num_inference_steps=10, adapters=styled),
        a_request("too short", num_inference_steps=1, adapters=styled),
        a_request("plain", num_inference_steps=10, adapters=(AdapterUse("chalk", 0.0),)),
    )
    told = "adapters: the refiner, which made the last steps, wears none (here: neon)"
    assert bench.finished("refined").warnings == (told,)
    assert bench.finished("too short").warnings == bench.finished("plain").warnings == ()


def test_latents_of_another_shape() -> None:
    """A refiner whose latents are not the base model's fails the request that reaches it, and says so."""

    class Wide(FakeModel):
        def latent_shape(self, height: int, width: int) -> tuple[int, ...]:
            return (16, height // 8, width // 8)

    models = {"tiny": FakeModel(), "tiny:refiner": Wide()}
    bench = Bench(lambda card, settings: models[card.name], cards=[a_card()])
    bench.paint(a_request(num_inference_steps=10))
    ended = bench.end("one")
    assert isinstance(ended, Failed)
    assert str(ended.error) == "refiner: its latents are [16, 8, 8], those of the model [4, 8, 8]"
