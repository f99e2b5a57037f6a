"""Pictures of Stable Diffusion XL with adapters, against diffusers' own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionXLPipeline

from ai.adapters.residents import Residents
from ai.cards import ModelCard
from ai.families import load
from ai.types import AdapterUse, EngineSettings
from tests.ai import oracle
from tests.ai.adapters.made import LAYOUTS, make, tiny_xl_targets
from tests.ai.drive import a_request, denoise, open_rows, relative_error

pytestmark = pytest.mark.filterwarnings(oracle.NUMPY_COPY_WARNING)

TOLERANCE = 1e-4  # of the latents' scale, in float32
REQUEST = a_request(negative_prompt="blue", num_inference_steps=4)
STYLE = AdapterUse("style", 0.8)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """One adapter of the UNet and both text encoders, by layout."""
    made, folder = make(targets=tiny_xl_targets(), strength=0.06), tmp_path_factory.mktemp("adapters")
    return {layout: save(made, folder / layout) for layout, save in LAYOUTS.items() if layout != "peft"}


@pytest.fixture(scope="module")
def painted(xl_folder: Path, files: Mapping[str, Path]) -> tuple[torch.Tensor, torch.Tensor]:
    """Final latents of two rows in one batch: with the adapter, and without."""
    paths = {STYLE.name: files["kohya"]}
    model = load(ModelCard(name="xl", source=str(xl_folder), adapters=paths), EngineSettings(device="cpu"))
    outfit = Residents(paths, model.adapters).wear([STYLE], lambda outfit, error: None)
    rows = open_rows(model, [REQUEST], outfit.worn) + open_rows(model, [REQUEST])
    styled, plain = denoise(model, rows)
    return styled, plain


@pytest.mark.parametrize("layout", ["diffusers", "kohya"])
def test_it_equals_diffusers(
    layout: str, painted: tuple[torch.Tensor, torch.Tensor], xl_folder: Path, files: Mapping[str, Path]
) -> None:
    """What diffusers loads from the same file paints the same, in the batch of one who wears nothing."""
    pipeline = StableDiffusionXLPipeline.from_pretrained(str(xl_folder), dtype=torch.float32, local_files_only=True)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_lora_weights(str(files[layout]), adapter_name=STYLE.name)
    pipeline.set_adapters([STYLE.name], [STYLE.scale])
    wanted = pipeline(
        REQUEST.prompt,
        negative_prompt=REQUEST.negative_prompt,
        width=REQUEST.width,
        height=REQUEST.height,
        num_inference_steps=REQUEST.num_inference_steps,
        guidance_scale=REQUEST.guidance_scale,
        generator=torch.Generator("cpu").manual_seed(REQUEST.seed),
        output_type="latent",
    ).images[0]
    styled, plain = painted
    assert relative_error(styled, wanted) < TOLERANCE
    assert relative_error(plain, oracle.latents(xl_folder, REQUEST)) < TOLERANCE
    assert relative_error(styled, plain) > 100 * TOLERANCE
