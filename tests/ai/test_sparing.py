"""Measures for devices with little memory: each does what its setting says, to the memory and to the picture."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from ai.cards import ModelCard
from ai.families import load
from ai.families.family import Model
from ai.families.sparing import keep_away, quantise, stream_layers
from ai.gauge import TensorGauge, networks_bytes
from ai.types import EngineSettings, ModelLoadError
from tests.ai.drive import a_request, denoise, open_rows, relative_error
from tests.ai.tiny import build_tokenizer, networks

REQUESTS = [a_request(str(n), seed=n) for n in range(2)]
CPU = torch.device("cpu")
WITH_TORCHAO = importlib.util.find_spec("torchao") is not None


def loaded(folder: Path, **settings: Any) -> Model:
    """The tiny model with these settings."""
    return load(ModelCard(name="tiny", source=str(folder)), EngineSettings(device="cpu", **settings))


def latents(model: Model) -> torch.Tensor:
    """What two requests come to."""
    return torch.stack(denoise(model, open_rows(model, REQUESTS)))


def test_sliced_attention_changes_no_picture(epsilon_folder: Path, models: dict[str, Model]) -> None:
    """Head by head is the same sum in another order."""
    assert relative_error(latents(loaded(epsilon_folder, attention="sliced")), latents(models["epsilon"])) < 1e-4


def decode_peak(model: Model, rows: int) -> tuple[torch.Tensor, int]:
    """The pictures of so many rows of 128 x 128 pixels, and what decoding them took."""
    latents = torch.randn(rows, 4, 16, 16, generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        return TensorGauge().peak(lambda: model.decode(latents))


def test_vae_slicing_takes_the_memory_of_one_picture(epsilon_folder: Path, models: dict[str, Model]) -> None:
    """Whatever the number of pictures; they are the same."""
    sliced, size = decode_peak(loaded(epsilon_folder, vae_slicing=True), 4)
    together, whole = decode_peak(models["epsilon"], 4)
    assert size < whole / 2
    assert (sliced - together).abs().max() < 1e-4


def test_vae_tiling_takes_the_memory_of_a_tile(epsilon_folder: Path, models: dict[str, Model]) -> None:
    """Larger pictures are put together from tiles; one of a tile's size is as before."""
    model = loaded(epsilon_folder, vae_tiling=True)  # tiles are of the VAE's own size: 64 pixels
    tiled, size = decode_peak(model, 1)
    whole, all_of_it = decode_peak(models["epsilon"], 1)
    assert size < all_of_it
    assert tiled.shape == whole.shape
    small = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        assert torch.equal(model.decode(small), models["epsilon"].decode(small))


class Visitor(torch.nn.Module):
    """A network that notes where it is told to go, and what runs there."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    def to(self, *args: Any, **kwargs: Any) -> Visitor:
        """Instead of going there."""
        self.notes.append(str(args[0]))
        return self

    def decode(self, fails: bool = False) -> str:
        """Runs, or raises."""
        self.notes.append("runs")
        if fails:
            raise torch.OutOfMemoryError
        return "a picture"


def test_a_network_that_is_kept_away_visits_its_device() -> None:
    """Only while it runs, and it leaves after an error too."""
    network = Visitor()
    keep_away(network, torch.device("cuda:0"), ("decode",))
    assert network.decode() == "a picture"
    with pytest.raises(torch.OutOfMemoryError):
        network.decode(fails=True)
    assert network.notes == ["cuda:0", "runs", "cpu"] * 2


def test_layers_that_are_streamed_hold_nothing(models: dict[str, Model], epsilon_folder: Path) -> None:
    """Between passes none of the weights is on the device, and a pass gives the same numbers."""
    unet = networks(build_tokenizer()).unet.requires_grad_(False)
    arguments = (torch.ones(1, 4, 8, 8), torch.tensor([7]), torch.ones(1, 77, 24))
    plain = unet(*arguments).sample
    assert networks_bytes({"unet": unet}, CPU) > 0
    stream_layers(unet, CPU)
    assert networks_bytes({"unet": unet}, CPU) == 0
    assert torch.equal(unet(*arguments).sample, plain)


@pytest.mark.skipif(WITH_TORCHAO, reason="torchao is installed here")
def test_int8_without_its_library(epsilon_folder: Path) -> None:
    """The refusal names the setting and what to install."""
    with pytest.raises(ModelLoadError, match=r"ATELIER_WEIGHTS=int8 needs torchao.*requirements-int8.txt"):
        loaded(epsilon_folder, weights="int8")


@pytest.mark.skipif(not WITH_TORCHAO, reason="torchao is not installed (make test-int8 installs it)")
def test_int8_weights(folders: dict[str, Path], models: dict[str, Model]) -> None:
    """They take less, and change the demo model's pictures little; adapters and batches work as before."""
    model = loaded(folders["demo"], weights="int8")
    assert model.weight_bytes < 0.85 * models["demo"].weight_bytes
    requests = [a_request(str(n), seed=n, width=128, height=128) for n in range(2)]
    found = torch.stack(denoise(model, open_rows(model, requests)))
    wanted = torch.stack(denoise(models["demo"], open_rows(models["demo"], requests)))
    assert 0 < float((found - wanted).std() / wanted.std()) < 0.1
    (alone,) = denoise(model, open_rows(model, requests[:1]))
    assert relative_error(alone, found[0]) < 1e-3


@pytest.mark.skipif(not WITH_TORCHAO, reason="torchao is not installed (make test-int8 installs it)")
def test_int8_weights_are_counted() -> None:
    """What a quantised weight wraps is what it takes: a byte a number, and a scale a row."""
    network = torch.nn.Sequential(torch.nn.Linear(64, 32, bias=False)).requires_grad_(False)
    quantise(network)
    assert 64 * 32 <= networks_bytes({"one": network}, CPU) <= 64 * 32 + 32 * 8 + 64


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"weights": "int3"}, "weights: 'int3' is none of same, int8"),
        ({"attention": "none"}, "attention:"),
        ({"cpu_offload": "all"}, "cpu_offload:"),
        ({"weights": "int8", "cpu_offload": "layers"}, "weights, cpu_offload:"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], says: str) -> None:
    """What there is not is refused by its name."""
    with pytest.raises(ValueError, match=says):
        EngineSettings(device="cpu", **settings)
