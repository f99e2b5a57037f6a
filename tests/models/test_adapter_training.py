"""How the style adapters are trained and written: tiny networks, a few steps, and the repository's own loader."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from ai.adapters.adapter import Adapter, targets_of
from ai.adapters.reading import read_adapter
from models.training.adapters import RECIPES, Networks, Recipe, open_networks, parse, styled_latents, train, wear, write
from models.training.styles import STYLES
from models.training.tokenizer import LENGTH, build
from models.training.world import held_out, training_scenes

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]

WIDTH = 16


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the parts that training reads, random and tiny, with the embedded model's names of layers."""
    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, block_out_channels=(8, WIDTH), layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4, attention_head_dim=2, cross_attention_dim=WIDTH,
    ).save_pretrained(folder / "unet")  # fmt: skip
    AutoencoderKL(
        block_out_channels=(4, 4, 4, 4), down_block_types=("DownEncoderBlock2D",) * 4, norm_num_groups=2,
        up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=4, mid_block_add_attention=False,
    ).save_pretrained(folder / "vae")  # fmt: skip
    config = CLIPTextConfig(
        vocab_size=len(build()), hidden_size=WIDTH, intermediate_size=WIDTH, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=77,
    )  # fmt: skip
    CLIPTextModel(config).save_pretrained(str(folder / "text_encoder"))
    return folder


CPU = torch.device("cpu")


def read(path: Path, model: Path) -> Adapter:
    """An adapter by the repository's own loader."""
    return read_adapter(path, targets_of(open_networks(model, CPU)))


def forward(networks: Networks) -> torch.Tensor:
    """What text encoder and UNet make of something, whatever they wear."""
    torch.manual_seed(3)
    noise, ids = torch.randn(2, 4, 16, 16), torch.randint(1000, (2, LENGTH))
    with torch.no_grad():
        words = networks["text_encoder"](ids).last_hidden_state
        result: torch.Tensor = networks["unet"](noise, torch.tensor([20, 700]), words, return_dict=False)[0]
    return result


def merged(networks: Networks, adapter: Adapter) -> Networks:
    """The networks with the adapter written into their weights."""
    with torch.no_grad():
        for name, layer in adapter.layers.items():
            network, _, inner = name.partition(".")
            weight = networks[network].get_submodule(inner).weight
            weight += layer.scale * (layer.b.float().flatten(1) @ layer.a.float().flatten(1)).view_as(weight)
    return networks


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe("diffusers", 3, 5, text=True),
        Recipe("diffusers", 4, 4),
        Recipe("peft", 3, 5, text=True),
        Recipe("peft", 4, 2),
        Recipe("kohya", 3, 5, text=True),
        Recipe("kohya", 4, 8),
    ],
    ids=lambda recipe: f"{recipe.layout}-{recipe.rank}",
)
def test_what_was_trained_is_what_is_read(recipe: Recipe, model: Path, tmp_path: Path) -> None:
    """In every layout, with an alpha of its own, an adapter acts after reading as PEFT had it act in training."""
    networks = open_networks(model, CPU)
    plain = forward(networks)
    for weight in wear(networks, recipe, "style"):
        nn.init.normal_(weight, std=0.15)
        weight.data = weight.data.half().float()  # as it will be written
    path = write("style", networks, recipe, tmp_path)
    adapter = read(path, model)
    assert adapter.rank == recipe.rank
    assert all(math.isclose(layer.scale, recipe.alpha / recipe.rank) for layer in adapter.layers.values())
    assert bool(adapter.of("text_encoder")) == recipe.text
    trained = forward(networks)
    assert (trained - plain).abs().max() > 0.05
    assert torch.allclose(forward(merged(open_networks(model, CPU), adapter)), trained, atol=1e-4)


def test_an_adapter_is_written_in_place_of_the_old_one(model: Path, tmp_path: Path) -> None:
    """When its layout changes nothing is left of the old one, which would have the same name."""
    networks = open_networks(model, CPU)
    wear(networks, Recipe("peft", 2, 2), "style")
    for layout, left in (("peft", "style"), ("kohya", "style.safetensors"), ("diffusers", "style")):
        write("style", networks, Recipe(layout, 2, 2), tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [left]


def test_training_changes_an_adapter_and_resumes(model: Path, tmp_path: Path) -> None:
    """One command trains the styles named; broken off and started again, it writes what the whole run writes."""
    common = ["--model", str(model), "--scenes=6", "--batch=2", "--steps=4", "--rate=0.01"]

    def run(name: str, *further: str) -> dict[str, Adapter]:
        out = tmp_path / name
        train(
            parse(
                [*common, "--only", "blueprint", "gradient", "--out", str(out), "--work", str(out / ".run"), *further]
            )
        )
        return {
            style: read(path, model)
            for style, path in (("blueprint", out / "blueprint"), ("gradient", out / "gradient.safetensors"))
        }

    whole = run("whole")
    begun = run("parts", "--minutes=1e-9")  # one step
    ended = run("parts")
    for style, adapter in whole.items():
        assert ended[style].content_hash == adapter.content_hash != begun[style].content_hash
        assert any(layer.b.any() for layer in adapter.layers.values())


def test_held_out_scenes_are_refused(model: Path) -> None:
    """No style is drawn of a scene that the model is judged by."""
    vae = AutoencoderKL.from_pretrained(model / "vae")
    scenes = [*training_scenes()[:2], held_out()[0]]
    with pytest.raises(AssertionError, match="held-out"):
        styled_latents(vae, STYLES["neon"], scenes, 0, CPU)


def test_every_style_has_a_recipe() -> None:
    """All ten, in all three layouts, some with alphas that are not their ranks, of ranks 4 to 16."""
    assert set(RECIPES) == set(STYLES)
    assert {recipe.layout for recipe in RECIPES.values()} == {"diffusers", "peft", "kohya"}
    assert all(4 <= recipe.rank <= 16 for recipe in RECIPES.values())
    assert any(recipe.alpha != recipe.rank for recipe in RECIPES.values())
