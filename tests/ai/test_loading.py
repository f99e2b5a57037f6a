"""What is loaded from where, and what is refused with which words."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import diffusers
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from ai.cards import ModelCard
from ai.families import load
from ai.families.family import Model
from ai.families.known import CONFIGS
from ai.types import EngineError, EngineSettings, ModelLoadError
from tests.ai.drive import a_request, denoise, open_rows, relative_error

CPU = EngineSettings(device="cpu")


def load_source(source: Path | str, family: str = "") -> Model:
    """Load whatever is at `source`."""
    return load(ModelCard(name="tiny", source=str(source), family=family), CPU)


@pytest.fixture
def copy(epsilon_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny folder to spoil."""
    return shutil.copytree(epsilon_folder, tmp_path / "copy")


def test_single_file_round_trip(single_file: Path, models: dict[str, Model]) -> None:
    """The same weights as one LDM-layout file paint the same picture."""
    request, model = a_request(), load_source(single_file)
    (latents,) = denoise(model, open_rows(model, [request]))
    (wanted,) = denoise(models["epsilon"], open_rows(models["epsilon"], [request]))
    assert relative_error(latents, wanted) < 1e-6


def test_single_file_with_a_tokenizer_beside_it(single_file: Path, tmp_path: Path) -> None:
    """The tokenizer may lie in the folder `tokenizer` beside the checkpoint."""
    target = tmp_path / "moved.safetensors"
    shutil.copy(single_file, target)
    shutil.copytree(single_file.with_suffix(".config"), target.with_suffix(".config"))
    shutil.move(target.with_suffix(".config") / "tokenizer", tmp_path / "tokenizer")
    assert load_source(target).prompt(a_request(), ()).positive["text"].shape == (1, 77, 24)


def test_single_file_without_a_tokenizer(single_file: Path, tmp_path: Path) -> None:
    """Where no tokenizer can be had, the error says which files to put where."""
    target = tmp_path / "alone.safetensors"
    shutil.copy(single_file, target)
    with pytest.raises(ModelLoadError, match=r"put its vocab.json, merges.txt .* into .*/tokenizer"):
        load_source(target)


def test_single_file_of_another_architecture(single_file: Path, tmp_path: Path) -> None:
    """Weights that do not fit Stable Diffusion 1.5's shipped configuration are refused."""
    target = tmp_path / "other.safetensors"
    shutil.copy(single_file, target)
    shutil.copytree(single_file.with_suffix(".config") / "tokenizer", tmp_path / "tokenizer")
    with pytest.raises(ModelLoadError, match=r"other.safetensors: cannot be loaded"):
        load_source(target)


def test_single_file_that_is_no_model(single_file: Path, tmp_path: Path) -> None:
    """A file of some other tensors (a LoRA, say) is refused."""
    target = tmp_path / "lora.safetensors"
    save_file({"lora_unet.weight": torch.zeros(4)}, target)
    shutil.copytree(single_file.with_suffix(".config"), target.with_suffix(".config"))
    with pytest.raises(ModelLoadError):
        load_source(target)


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".bin", ".pth"])
def test_pickled_files_are_refused(suffix: str, tmp_path: Path) -> None:
    """A pickle is refused by name, before anything of it is read."""
    file = tmp_path / f"model{suffix}"
    file.write_bytes(b"never opened")
    file.chmod(0)
    with pytest.raises(ModelLoadError, match=rf"model\{suffix}: {suffix} files are pickles"):
        load_source(file)


def test_folders_of_pickles_are_refused(copy: Path) -> None:
    """A folder with only a pickle for one of its networks is refused with that file's name."""
    (copy / "unet" / "diffusion_pytorch_model.safetensors").rename(copy / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(ModelLoadError, match=r"unet/diffusion_pytorch_model.bin: a pickle"):
        load_source(copy)


def test_other_files_are_refused(tmp_path: Path) -> None:
    """A file that is no safetensors file is refused."""
    file = tmp_path / "model.zip"
    file.touch()
    with pytest.raises(ModelLoadError, match=r"model.zip: not a .safetensors file"):
        load_source(file)


@pytest.mark.parametrize("source", ["/nowhere/at/all", "models/missing", "missing.safetensors", "", "a/b/c"])
def test_missing(source: str) -> None:
    """A source that is not there is an error that repeats it."""
    with pytest.raises(ModelLoadError, match=r"there is no such file or folder|model_index.json: missing"):
        load_source(source)


def test_hub_id_out_of_reach() -> None:
    """A hub id that cannot be fetched is a ModelLoadError like all others."""
    with pytest.raises(ModelLoadError, match="nobody-at-all/nothing: cannot be loaded"):
        load_source("nobody-at-all/nothing")


def test_missing_network(copy: Path) -> None:
    """A folder without one of its networks is refused by that network's name."""
    shutil.rmtree(copy / "vae")
    with pytest.raises(ModelLoadError, match="vae: there is no such folder"):
        load_source(copy)


def test_missing_tokenizer(copy: Path) -> None:
    """A folder without a tokenizer is refused."""
    shutil.rmtree(copy / "tokenizer")
    with pytest.raises(ModelLoadError, match="tokenizer: its vocabulary is missing"):
        load_source(copy)


@pytest.mark.parametrize("network", ["unet", "vae", "text_encoder"])
@pytest.mark.parametrize("damage", ["cut", "garbage"])
def test_damaged_weights(network: str, damage: str, copy: Path) -> None:
    """A file that was cut or overwritten is refused."""
    (path,) = (copy / network).glob("*.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"\xff" * len(whole))
    with pytest.raises(ModelLoadError, match="cannot be loaded"):
        load_source(copy)


@pytest.mark.parametrize("network", ["unet", "vae", "text_encoder"])
def test_weights_that_are_not_in_the_file(network: str, copy: Path) -> None:
    """A checkpoint that lacks a tensor is refused, not filled up with noise."""
    (path,) = (copy / network).glob("*.safetensors")
    tensors = load_file(path)
    del tensors[sorted(tensors)[-1]]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ModelLoadError):
        load_source(copy)


def test_damaged_index(copy: Path) -> None:
    """A model_index.json that is no JSON is refused by name."""
    (copy / "model_index.json").write_text("{")
    with pytest.raises(ModelLoadError, match=r"model_index.json"):
        load_source(copy)


def test_unknown_pipeline_class(copy: Path) -> None:
    """A folder of another pipeline class is refused with that class's name."""
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps(index | {"_class_name": "FluxPipeline"}))
    with pytest.raises(ModelLoadError, match="pipeline class 'FluxPipeline' is not known"):
        load_source(copy)


def test_scheduler_that_is_not_implemented(copy: Path) -> None:
    """A scheduler setting that would change the pictures and is not implemented is refused by its name."""
    path = copy / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"prediction_type": "sample"}))
    with pytest.raises(ModelLoadError, match="scheduler: prediction_type: 'sample'"):
        load_source(copy)


def test_unknown_family(copy: Path) -> None:
    """A family that does not exist is an error that lists those that do."""
    with pytest.raises(ModelLoadError, match="family 'sd99' is not known; there are sd15"):
        load_source(copy, family="sd99")


def test_half_precision_variant(copy: Path) -> None:
    """A folder that holds its weights under their fp16 names only is read."""
    for network in ("unet", "vae", "text_encoder"):
        (path,) = (copy / network).glob("*.safetensors")
        halved = {key: value.half() for key, value in load_file(path).items()}
        save_file(halved, path.with_suffix(".fp16.safetensors"), metadata={"format": "pt"})
        path.unlink()
    model = load_source(copy)
    (latents,) = denoise(model, open_rows(model, [a_request()]))
    assert latents.isfinite().all()


def test_weights_stored_in_half_precision_run_in_float32(copy: Path) -> None:
    """The dtype asked for is used everywhere, whatever the files were stored in."""
    for network in ("vae", "text_encoder"):
        (path,) = (copy / network).glob("*.safetensors")
        tensors = {key: value.half() for key, value in load_file(path).items()}
        save_file(tensors, path, metadata={"format": "pt"})
    assert load_source(copy).prompt(a_request(), ()).positive["text"].dtype == torch.float32


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_other_number_formats(dtype: str, epsilon_folder: Path) -> None:
    """A model runs in the number format of the settings, its latents in float32 all the same."""
    model = load(ModelCard(name="tiny", source=str(epsilon_folder)), EngineSettings(device="cpu", dtype=dtype))
    (latents,) = denoise(model, open_rows(model, [a_request()]))
    assert latents.dtype == torch.float32
    assert latents.isfinite().all()


@pytest.mark.parametrize("device", ["cuda:99", "tpu", "mps"])
def test_devices_that_are_not_there(device: str, epsilon_folder: Path) -> None:
    """A device that torch does not see is an error that names the setting."""
    with pytest.raises(EngineError, match=f"device: '{device}'"):
        load(ModelCard(name="tiny", source=str(epsilon_folder)), EngineSettings(device=device))


def test_shipped_configuration() -> None:
    """The configuration shipped for single files is Stable Diffusion 1.5's, by its published numbers of parameters."""
    with torch.device("meta"):
        unet = diffusers.UNet2DConditionModel.from_config(json.loads((CONFIGS / "sd15/unet/config.json").read_text()))
        vae = diffusers.AutoencoderKL.from_config(json.loads((CONFIGS / "sd15/vae/config.json").read_text()))
        text_encoder = transformers.CLIPTextModel(
            transformers.CLIPTextConfig.from_pretrained(CONFIGS / "sd15" / "text_encoder")
        )
    sizes = [sum(weight.numel() for weight in network.parameters()) for network in (unet, vae, text_encoder)]
    assert sizes == [859_520_964, 83_653_863, 123_060_480]
