"""The embedded model's committed files: what must hold of them whatever they were trained to."""

from __future__ import annotations

from pathlib import Path

import pytest
from diffusers import UNet2DConditionModel
from transformers import CLIPTextModel

from ai.adapters.adapter import Targets, targets_of
from ai.adapters.files import DIFFUSERS_FILE, PEFT_CONFIG, PEFT_FILE
from ai.adapters.folder import find_adapters
from ai.adapters.reading import read_adapter
from models.check import DEMO
from models.training.adapters import RECIPES

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

MEGABYTE = 1_000_000
FILES = {
    "diffusers": [f"{{name}}/{DIFFUSERS_FILE}"],
    "peft": [f"{{name}}/{PEFT_CONFIG}", f"{{name}}/{PEFT_FILE}"],
    "kohya": ["{name}.safetensors"],
}


def bytes_in(path: Path) -> int:
    """The size of a file, or of all files in a folder."""
    return sum(file.stat().st_size for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file())


@pytest.fixture(scope="module")
def targets() -> Targets:
    """The model's layers."""
    unet = UNet2DConditionModel.from_pretrained(DEMO / "unet")
    return targets_of({"unet": unet, "text_encoder": CLIPTextModel.from_pretrained(str(DEMO / "text_encoder"))})


def test_the_model_is_small() -> None:
    """Everybody who clones has it: 40 MB, adapters included."""
    assert bytes_in(DEMO) <= 40 * MEGABYTE


def test_all_styles_are_there() -> None:
    """One adapter for each recipe, and no other."""
    assert set(find_adapters(DEMO / "adapters")) == set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_an_adapter_is_what_its_recipe_says(name: str, targets: Targets) -> None:
    """In its layout, at most a megabyte, read by the loader, every layer of the rank and strength it should have."""
    recipe, path = RECIPES[name], find_adapters(DEMO / "adapters")[name]
    assert bytes_in(path) <= MEGABYTE
    found = sorted(str(file.relative_to(DEMO / "adapters")) for file in [path, *path.rglob("*")] if file.is_file())
    assert found == [file.format(name=name) for file in FILES[recipe.layout]]
    adapter = read_adapter(path, targets)
    assert {layer.rank for layer in adapter.layers.values()} == {recipe.rank}
    assert {layer.scale for layer in adapter.layers.values()} == {recipe.alpha / recipe.rank}
    assert bool(adapter.of("text_encoder")) == recipe.text
    assert all(layer.b.any() for layer in adapter.layers.values())
