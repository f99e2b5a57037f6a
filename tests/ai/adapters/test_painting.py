"""Pictures with adapters, against diffusers' and PEFT's own and against weights that were merged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from peft import PeftModel

from ai.adapters.residents import Residents, Worn
from ai.cards import ModelCard
from ai.families import load
from ai.families.family import Model
from ai.types import AdapterUse, EngineSettings, GenerationRequest
from tests.ai import oracle
from tests.ai.adapters.made import LAYOUTS, Made, make, save_diffusers, save_kohya, save_peft
from tests.ai.drive import a_request, denoise, open_rows, relative_error

# The oracles' own, nothing that runs in the engine.
pytestmark = [
    pytest.mark.filterwarnings(oracle.NUMPY_COPY_WARNING),
    pytest.mark.filterwarnings("ignore:Already found a `peft_config`:UserWarning"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]

CPU = EngineSettings(device="cpu")
TOLERANCE = 1e-4  # of the latents' scale, in float32
NOTICEABLE = 100 * TOLERANCE
REQUEST = a_request(negative_prompt="blue", num_inference_steps=5)
ONE, TWO = make(seed=1), make(seed=2, rank=2, alpha=2.0)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The same adapter in each layout by the layout's name, and another one."""
    folder = tmp_path_factory.mktemp("adapters")
    return {name: save(ONE, folder / name) for name, save in LAYOUTS.items()} | {
        "other": save_diffusers(TWO, folder / "other")
    }


@pytest.fixture(scope="module")
def model(epsilon_folder: Path, paths: Mapping[str, Path]) -> Model:
    """The tiny model with those adapters."""
    return load(ModelCard(name="tiny", source=str(epsilon_folder), adapters=paths), CPU)


@pytest.fixture(scope="module")
def residents(model: Model, paths: Mapping[str, Path]) -> Residents:
    """What is in the model's slots."""
    return Residents(paths, model.adapters)


def worn(residents: Residents, uses: Sequence[AdapterUse]) -> Sequence[Worn]:
    """The adapters in their slots."""
    outfit = residents.wear(uses, lambda outfit, error: None)
    assert outfit.ready
    return outfit.worn


def painted(
    model: Model, residents: Residents, uses: Sequence[AdapterUse], request: GenerationRequest = REQUEST
) -> torch.Tensor:
    """Final latents of a request that wears these adapters."""
    (latents,) = denoise(model, open_rows(model, [request], worn(residents, uses)))
    return latents


def fresh(folder: Path) -> Any:
    """A pipeline of our own, to be changed."""
    pipeline = StableDiffusionPipeline.from_pretrained(
        str(folder), dtype=torch.float32, safety_checker=None, requires_safety_checker=False, local_files_only=True
    )
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def run(pipeline: Any) -> torch.Tensor:
    """The request's final latents by a pipeline."""
    latents: torch.Tensor = pipeline(
        REQUEST.prompt,
        negative_prompt=REQUEST.negative_prompt,
        width=REQUEST.width,
        height=REQUEST.height,
        num_inference_steps=REQUEST.num_inference_steps,
        guidance_scale=REQUEST.guidance_scale,
        generator=torch.Generator("cpu").manual_seed(REQUEST.seed),
        output_type="latent",
    ).images[0]
    return latents


@cache
def merged(folder: Path, *uses: tuple[Made, float]) -> torch.Tensor:
    """The oracle without any library: W + scale · B·A written into the weights."""
    pipeline = fresh(folder)
    with torch.no_grad():
        for made, scale in uses:
            for name, (a, b) in made.matrices.items():
                network, _, layer = name.partition(".")
                weight = getattr(pipeline, network).get_submodule(layer).weight
                added = (b.flatten(1) @ a.flatten(1)).view_as(weight)
                weight += scale * made.alpha / a.shape[0] * added
    return run(pipeline)


def by_diffusers(folder: Path, paths: Mapping[str, Path], uses: Sequence[AdapterUse]) -> torch.Tensor:
    """What StableDiffusionPipeline paints with load_lora_weights and set_adapters."""
    pipeline = fresh(folder)
    for use in uses:
        pipeline.load_lora_weights(str(paths[use.name]), adapter_name=use.name)
    pipeline.set_adapters([use.name for use in uses], [use.scale for use in uses])
    return run(pipeline)


@pytest.mark.parametrize("scale", [1.0, 0.4, -0.7])
@pytest.mark.parametrize("layout", ["diffusers", "kohya"])
def test_it_equals_diffusers(
    layout: str, scale: float, model: Model, residents: Residents, epsilon_folder: Path, paths: Mapping[str, Path]
) -> None:
    """Every layer of UNet and text encoder, convolutions too, at any scale."""
    uses = [AdapterUse(layout, scale)]
    latents = painted(model, residents, uses)
    assert relative_error(latents, by_diffusers(epsilon_folder, paths, uses)) < TOLERANCE
    assert relative_error(latents, oracle.latents(epsilon_folder, REQUEST)) > NOTICEABLE


def test_it_equals_peft(model: Model, residents: Residents, epsilon_folder: Path, paths: Mapping[str, Path]) -> None:
    """A PEFT folder acts as PeftModel.from_pretrained lets it act."""
    pipeline = fresh(epsilon_folder)
    for network in ("unet", "text_encoder"):
        PeftModel.from_pretrained(getattr(pipeline, network), str(paths["peft"] / network))  # changes it in place
    assert relative_error(painted(model, residents, [AdapterUse("peft")]), run(pipeline)) < TOLERANCE


@pytest.mark.parametrize("scale", [1.0, -0.5])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_equals_merged_weights(
    layout: str, scale: float, model: Model, residents: Residents, epsilon_folder: Path
) -> None:
    """Whatever the layout, the picture is that of a model with the change written into its weights."""
    assert (
        relative_error(painted(model, residents, [AdapterUse(layout, scale)]), merged(epsilon_folder, (ONE, scale)))
        < TOLERANCE
    )


def test_two_at_once(model: Model, residents: Residents, epsilon_folder: Path, paths: Mapping[str, Path]) -> None:
    """Several adapters on one picture add up, each with its scale, in any order."""
    uses = [AdapterUse("diffusers", 0.6), AdapterUse("other", -0.8)]
    latents = painted(model, residents, uses)
    assert relative_error(latents, merged(epsilon_folder, (ONE, 0.6), (TWO, -0.8))) < TOLERANCE
    assert relative_error(latents, by_diffusers(epsilon_folder, paths, uses)) < TOLERANCE
    assert relative_error(painted(model, residents, uses[::-1]), latents) < TOLERANCE


def test_taken_off_again_nothing_is_left(model: Model, residents: Residents, models: Mapping[str, Model]) -> None:
    """With adapters loaded and none active the picture is, to the bit, that of a model which never had one."""
    (plain,) = denoise(models["epsilon"], open_rows(models["epsilon"], [REQUEST]))
    assert relative_error(painted(model, residents, [AdapterUse("kohya")]), plain) > NOTICEABLE
    assert torch.equal(painted(model, residents, []), plain)


def test_prompts_are_remembered_with_what_was_worn(model: Model, residents: Residents) -> None:
    """An embedding made under an adapter of the text encoder is not taken for the plain one, nor for another scale's."""
    embeddings = []
    with torch.inference_mode():
        for uses in ([], [AdapterUse("diffusers")], [AdapterUse("diffusers", 0.5)], []):
            embeddings.append(model.prompt(REQUEST, worn(residents, uses)).positive["text"])
    assert torch.equal(embeddings[0], embeddings[3])
    assert all((embeddings[0] - other).abs().max() > 0.01 for other in embeddings[1:3])
    assert (embeddings[1] - embeddings[2]).abs().max() > 0.01


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_other_number_formats(dtype: str, epsilon_folder: Path, tmp_path: Path) -> None:
    """An adapter stored in one format acts in a model that runs in another."""
    path = save_peft(make(dtype=torch.float32), tmp_path / "style")
    settings = EngineSettings(device="cpu", dtype=dtype)
    half = load(ModelCard(name="tiny", source=str(epsilon_folder), adapters={"style": path}), settings)
    residents = Residents({"style": path}, half.adapters)
    assert painted(half, residents, [AdapterUse("style", 0.5)]).isfinite().all()


def test_half_precision_files_in_single_precision(epsilon_folder: Path, tmp_path: Path) -> None:
    """A float16 file in a float32 model acts as its numbers say."""
    made = make(dtype=torch.float16)
    path = save_kohya(made, tmp_path / "style")
    whole = Made({name: (a.float(), b.float()) for name, (a, b) in made.matrices.items()}, made.alpha)
    model = load(ModelCard(name="tiny", source=str(epsilon_folder), adapters={"style": path}), CPU)
    residents = Residents({"style": path}, model.adapters)
    assert (
        relative_error(painted(model, residents, [AdapterUse("style")]), merged(epsilon_folder, (whole, 1.0)))
        < TOLERANCE
    )
