"""The tiny checkpoint in its layouts, and the demo model; each is built and loaded once."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before huggingface_hub reads it: no test waits for a network

import pytest

from ai.cards import ModelCard
from ai.families import load
from ai.families.family import Model
from ai.types import EngineSettings
from tests.ai.tiny import build_folder, build_single_file
from tests.ai.tiny_xl import build_base, build_refiner

DEMO = Path(__file__).parents[2] / "models" / "demo"
CPU = EngineSettings(device="cpu")


@pytest.fixture(scope="session")
def epsilon_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers folder whose network predicts noise."""
    return build_folder(tmp_path_factory.mktemp("tiny") / "epsilon")


@pytest.fixture(scope="session")
def v_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers folder whose network predicts velocity."""
    return build_folder(tmp_path_factory.mktemp("tiny") / "v", prediction_type="v_prediction")


@pytest.fixture(scope="session")
def single_file(epsilon_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first folder's weights as one LDM-layout file."""
    return build_single_file(epsilon_folder, tmp_path_factory.mktemp("single") / "tiny.safetensors")


@pytest.fixture(scope="session")
def xl_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion XL base model's diffusers folder."""
    return build_base(tmp_path_factory.mktemp("tiny") / "xl")


@pytest.fixture(scope="session")
def xl_refiner_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its refiner's."""
    return build_refiner(tmp_path_factory.mktemp("tiny") / "xl-refiner")


@pytest.fixture(scope="session")
def folders(epsilon_folder: Path, v_folder: Path) -> dict[str, Path]:
    """The folders by short names."""
    return {"epsilon": epsilon_folder, "v": v_folder, "demo": DEMO}


@pytest.fixture(scope="session")
def models(folders: dict[str, Path]) -> dict[str, Model]:
    """The loaded models by the folders' short names."""
    return {name: load(ModelCard(name=name, source=str(folder)), CPU) for name, folder in folders.items()}
