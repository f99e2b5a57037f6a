"""Stable Diffusion 2.x, and VAEs of their own, against diffusers' pipelines."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import diffusers
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from ai.cards import ModelCard, read_card
from ai.families import load
from ai.families.family import Model
from ai.families.sd15 import RECIPE, SECOND, SECOND_V, recipe_of
from ai.types import EngineSettings, ModelLoadError
from tests.ai import oracle
from tests.ai.drive import a_request, an_image, denoise, open_rows, relative_error
from tests.ai.test_mixed_solvers import TOLERANCE
from tests.ai.tiny import build_tokenizer, build_vae, ldm_unet_key, ldm_vae_key, networks, read_as, set_scheduler
from tests.ai.tiny_xl import open_clip

pytestmark = pytest.mark.filterwarnings(oracle.NUMPY_COPY_WARNING)

CPU = EngineSettings(device="cpu")
LINEAR = {"use_linear_projection": True, "attention_head_dim": (2, 4)}
REQUESTS = [
    a_request("plain", num_inference_steps=5),
    a_request("ancestral", solver="euler_a", negative_prompt="red", seed=3),
    a_request("from an image", solver="ddim", init_image=an_image(), strength=0.6, num_inference_steps=7),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint with 2.x's peculiarities: OpenCLIP's activation and padding, linear projections, v."""
    torch.manual_seed(21)
    made = tmp_path_factory.mktemp("sd2") / "folder"
    networks(build_tokenizer(pad_token="!"), LINEAR, hidden_act="gelu").save_pretrained(made)
    set_scheduler(made, prediction_type="v_prediction")
    return made


@pytest.fixture(scope="module")
def file(folder: Path) -> Path:
    """The same weights as one file in the original layout, its configuration beside it."""
    target = folder.parent / "single.safetensors"
    tensors = dict(read_as(folder / "unet", partial(ldm_unet_key, attended=0))) | dict(
        read_as(folder / "vae", ldm_vae_key)
    )
    encoder = {
        f"text_model.{key.removeprefix('text_model.')}": value for key, value in read_as(folder / "text_encoder", str)
    }
    save_file(tensors | open_clip(encoder, "cond_stage_model.model."), target)
    shutil.copytree(folder, target.with_suffix(".config"), ignore=shutil.ignore_patterns("*.safetensors"))
    return target


@pytest.fixture(scope="module")
def other_vae(folder: Path) -> Path:
    """The folder of a VAE with other weights."""
    torch.manual_seed(22)
    build_vae(scaling_factor=0.3).save_pretrained(folder.parent / "vae")
    return folder.parent / "vae"


def load_card(source: Path, vae: str = "") -> Model:
    """The model at `source`."""
    return load(ModelCard(name="tiny", source=str(source), family="sd15", vae=vae), CPU)


@pytest.mark.parametrize("layout", ["folder", "file"])
def test_it_equals_diffusers(layout: str, folder: Path, file: Path) -> None:
    """Rows from noise and from an image end where the pipeline's end, whichever layout the weights came from."""
    model = load_card({"folder": folder, "file": file}[layout])
    for request, latents in zip(REQUESTS, denoise(model, open_rows(model, REQUESTS)), strict=True):
        assert relative_error(latents, oracle.latents(folder, request)) < TOLERANCE, request.request_id


@pytest.mark.parametrize("layout", ["folder", "file", "original file"])
def test_a_vae_of_its_own(layout: str, folder: Path, other_vae: Path, tmp_path: Path) -> None:
    """It decodes instead of the model's, whose weights need not be there; a file's configuration is the model's."""
    model_folder = shutil.copytree(folder, tmp_path / "model", ignore=lambda path, names: _weights(path, names))
    vae = {"folder": other_vae, "file": next(other_vae.glob("*.safetensors"))}.get(layout, tmp_path / "vae.safetensors")
    if layout == "original file":
        renamed = dict(read_as(other_vae, ldm_vae_key))
        save_file({key.removeprefix("first_stage_model."): value for key, value in renamed.items()}, vae)
    model = load_card(model_folder, vae=str(vae))
    scaling = 0.3 if layout == "folder" else 0.18215
    latents = torch.linspace(-1, 1, 256).view(1, 4, 8, 8)
    with torch.inference_mode():
        wanted = diffusers.AutoencoderKL.from_pretrained(str(other_vae)).decode(latents / scaling).sample
        assert (model.decode(latents) - wanted).abs().max() < 1e-4


def _weights(path: str, names: list[str]) -> list[str]:
    return [name for name in names if name.endswith(".safetensors")] if Path(path).name == "vae" else []


def test_a_card_names_its_vae(folder: Path, other_vae: Path, tmp_path: Path) -> None:
    """By a path from the card's folder on; what cannot be read as one is refused by its name."""
    (tmp_path / "card.toml").write_text(f'source = "{folder}"\nvae = "own"')
    shutil.copytree(other_vae, tmp_path / "own")
    card = read_card("tiny", str(tmp_path))
    assert card.vae == str(tmp_path / "own")
    (tmp_path / "vae.pt").write_bytes(b"never opened")
    for vae, problem in (
        ("nowhere", "no such file"),
        (str(tmp_path / "vae.pt"), "pickles"),
        (str(tmp_path), "vae.pt: a pickle"),
    ):
        with pytest.raises(ModelLoadError, match=f"vae: .*{problem}"):
            load_card(folder, vae=vae)


def test_shipped_configurations() -> None:
    """They are Stable Diffusion 2's, by its published numbers of parameters, the one of epsilon and the other of v."""
    for recipe, prediction in ((SECOND, "epsilon"), (SECOND_V, "v_prediction")):
        config = recipe.shipped_config
        told = {name: json.loads((config / name).read_text()) for name in ("unet/config.json", "vae/config.json")}
        with torch.device("meta"):
            unet = diffusers.UNet2DConditionModel.from_config(told["unet/config.json"])
            vae = diffusers.AutoencoderKL.from_config(told["vae/config.json"])
            text_encoder = transformers.CLIPTextModel(
                transformers.CLIPTextConfig.from_pretrained(config / "text_encoder")
            )
        sizes = [sum(weight.numel() for weight in network.parameters()) for network in (unet, vae, text_encoder)]
        assert sizes == [865_910_724, 83_653_863, 340_387_840]
        schedule = json.loads((config / "scheduler" / "scheduler_config.json").read_text())
        assert schedule.get("prediction_type", "epsilon") == prediction


def test_the_usual_sizes(file: Path, single_file: Path, tmp_path: Path) -> None:
    """A card has 768 pixels for what predicts v, which was trained with so many, 512 for the others: by the configuration
    that a file is read with, without loading anything."""
    bare = tmp_path / "bare.safetensors"
    for source, size in ((file, 768), (single_file, 512)):
        shutil.copy(source, bare)
        defaults = read_card("two", str(bare)).defaults
        assert (defaults.width, defaults.height) == (size, size)


def test_which_of_them_a_single_file_is(file: Path, single_file: Path, folder: Path, tmp_path: Path) -> None:
    """By the text encoder's names; what it predicts by its ModelSpec, else by the original configuration beside it."""
    assert recipe_of(str(folder)) == recipe_of(str(single_file)) == RECIPE
    assert recipe_of(str(file)) == SECOND_V
    tensors, copy = load_file(file), tmp_path / "copy.safetensors"
    save_file(tensors, copy, metadata={"modelspec.prediction_type": "epsilon"})
    assert recipe_of(str(copy)) == SECOND
    save_file(tensors, copy)
    copy.with_suffix(".yaml").write_text("model:\n  params:\n    linear_start: 0.00085\n")
    assert recipe_of(str(copy)) == SECOND
    copy.with_suffix(".yaml").write_text('model:\n  params:\n    parameterization: "v"\n')
    assert recipe_of(str(copy)) == SECOND_V
