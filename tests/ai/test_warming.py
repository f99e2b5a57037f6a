"""The passes that a model makes when it was just loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from ai import families
from ai.cards import read_card
from ai.families import warming
from ai.families.family import Conditioning
from ai.families.warming import warm_up
from ai.lineup import Lineup
from ai.types import EngineSettings, ModelLoadError
from tests.ai.fakes import FakeModel
from tests.ai.tiny import build_folder


class Watched(FakeModel):
    """Notes the shape of each forward pass."""

    shapes: list[tuple[int, ...]]

    def predict(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning, lineup: Lineup) -> Tensor:
        self.shapes = [*getattr(self, "shapes", []), tuple(latents.shape)]
        return super().predict(latents, timesteps, conditioning, lineup)


def test_the_smallest_picture_and_one_of_the_usual_size() -> None:
    """The usual size has a guided picture's two rows, and one decode."""
    model, card = Watched(), read_card("demo", "models/demo")
    warm_up(model, card)
    usual = (2, 4, card.defaults.height // 8, card.defaults.width // 8)
    small = (1, 4, card.min_size // 8, card.min_size // 8)
    assert model.shapes == [small, small, usual]
    assert model.decodes == [1, 1, 1]


def test_a_large_model_makes_nobody_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a pass of the usual size would take long, there is none."""
    monkeypatch.setattr(warming, "PATIENCE", 0.0)
    model, card = Watched(), read_card("demo", "models/demo")
    warm_up(model, card)
    assert {rows for rows, *_ in model.shapes} == {1}


def test_networks_that_do_not_fit_are_found_out_at_the_load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A model whose first pass fails is told as one that cannot be loaded, with its name."""

    def broken(*_: object) -> Tensor:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr("ai.families.latent.LatentDiffusion.predict", broken)
    source = build_folder(tmp_path / "model")
    with pytest.raises(ModelLoadError, match=r"model: cannot be loaded: RuntimeError: mat1 and mat2"):
        families.load(read_card("tiny", str(source)), EngineSettings(device="cpu"))


def test_warming_up_changes_no_picture(tmp_path: Path) -> None:
    """What the passes leave behind is nothing that a later one sees."""
    source = build_folder(tmp_path / "model")
    model = families.load(read_card("tiny", str(source)), EngineSettings(device="cpu"))
    latents = torch.randn(1, *model.latent_shape(64, 64), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        before = model.decode(latents)
        warm_up(model, read_card("tiny", str(source)))
        assert torch.equal(model.decode(latents), before)
