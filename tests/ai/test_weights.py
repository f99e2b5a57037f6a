"""What a model will take, told from its files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from ai.families.family import Model
from ai.families.weights import expected_bytes
from ai.types import EngineSettings

CPU = EngineSettings(device="cpu")


@pytest.mark.parametrize("name", ["epsilon", "demo"])
def test_folders(name: str, folders: dict[str, Path], models: dict[str, Model]) -> None:
    """A folder's headers tell what its networks take, within what a file leaves out (a table of positions) or holds twice."""
    assert expected_bytes(str(folders[name]), CPU) == pytest.approx(models[name].weight_bytes, rel=0.01)


def test_single_file(single_file: Path, models: dict[str, Model]) -> None:
    """So does a single file's."""
    assert expected_bytes(str(single_file), CPU) == pytest.approx(models["epsilon"].weight_bytes, rel=0.01)


def test_half_precision_is_half(folders: dict[str, Path]) -> None:
    """What counts is the format that the networks compute in, not that of the file."""
    half = EngineSettings(device="cpu", dtype="bfloat16")
    assert expected_bytes(str(folders["epsilon"]), half) * 2 == expected_bytes(str(folders["epsilon"]), CPU)


def test_a_folder_with_two_formats(folders: dict[str, Path], tmp_path: Path) -> None:
    """Of weights that lie there twice only those that are read count, and adapters are no part of the model."""
    copy = shutil.copytree(folders["epsilon"], tmp_path / "copy")
    (weights,) = (copy / "unet").glob("*.safetensors")
    save_file(load_file(weights), weights.with_suffix(".fp16.safetensors"))
    (copy / "adapters").mkdir()
    save_file(load_file(weights), copy / "adapters" / "style.safetensors")
    assert expected_bytes(str(copy), CPU) == expected_bytes(str(folders["epsilon"]), CPU)


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 40, b"\x02\0\0\0\0\0\0\0[]", b"\x0b\0\0\0\0\0\0\0" + b'{"a": null}']
)
def test_what_is_no_model_weighs_nothing(content: bytes, tmp_path: Path) -> None:
    """Whoever loads it says what is wrong."""
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    assert expected_bytes(str(file), CPU) == 0


@pytest.mark.parametrize("source", ["someone/something", "/nowhere/at/all"])
def test_what_is_not_here_weighs_nothing(source: str) -> None:
    """A hub's model is not known before it is loaded."""
    assert expected_bytes(source, CPU) == 0
