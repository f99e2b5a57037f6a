"""What the embedded model is trained with: the computed encoder, the optimizer, runs that go on where they ended."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
import torch
from torch import nn

from models.training.judge import ASPECTS
from models.training.linear import block_averages, principal
from models.training.muon import MuonAndAdamW, orthogonal
from models.training.runs import Run
from models.training.text import told
from models.training.unet import SCHEDULER, Noising
from models.training.vae import draw_pool, new_vae, parse, to_signed
from models.training.world import training_scenes

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_the_encoder_is_the_linear_map_it_is_computed_as() -> None:
    """The VAE's encoder gives the principal components of each block, and their variance is one."""
    arguments = parse(["--seed=3"])
    pictures = to_signed(draw_pool(400, 0.0, 4))
    matrix, offset = principal(pictures, 16)
    wanted = torch.einsum("kc,nchw->nkhw", matrix, block_averages(pictures[:6])) + offset.view(1, -1, 1, 1)
    with torch.no_grad():
        found = new_vae(arguments).encode(pictures[:6]).latent_dist
    assert (found.mode() - wanted).abs().max() < 0.06
    assert found.std.max() < 0.01
    assert 0.8 < wanted.std() < 1.2


def test_orthogonal_steps() -> None:
    """Whatever a matrix was, its singular values come out near one, wide or tall."""
    torch.manual_seed(0)
    for shape in ((3, 24, 60), (2, 60, 24)):
        values = torch.linalg.svdvals(orthogonal(torch.randn(shape)))
        assert 0.5 < values.min() <= values.max() < 1.4


def _network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 8))


def _train(folder: Path, network: nn.Module, stop: int, steps: int = 60) -> float:
    optimizer = MuonAndAdamW(network)
    loss = torch.zeros(())
    for step in Run(folder, steps, 0.02, {"network": network, "optimizer": optimizer}):
        given = torch.randn(16, 8)
        loss = (network(given) - given.flip(1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step + 1 == stop:
            break
    return float(loss.detach())


def test_a_run_learns_and_is_done_once(tmp_path: Path) -> None:
    """The loss falls; a run that was finished has nothing left to do and gives back the same weights."""
    first = _train(tmp_path / "short", _network(), stop=1)
    network, again = _network(), _network()
    assert _train(tmp_path / "long", network, stop=99) < 0.7 * first
    assert _train(tmp_path / "long", again, stop=99) == 0
    for weight, same in zip(network.parameters(), again.parameters(), strict=True):
        assert torch.equal(weight, same)


def test_noise_is_added_as_the_scheduler_says() -> None:
    """Noisy latents and v are latents and noise turned by an angle, and the last timestep is nearly pure noise."""
    noising, ones = Noising(torch.device("cpu")), torch.ones(1, 1, 1, 1)
    for timestep in (0, 300, 700, 999):
        noisy, v = noising.noisy(2 * ones, 3 * ones, torch.tensor([timestep]))
        assert float(noisy**2 + v**2) == pytest.approx(13, rel=1e-4)
    assert float(noising.noisy(ones, 0 * ones, torch.tensor([999]))[0]) < 0.03
    assert SCHEDULER["prediction_type"] == "v_prediction"


def test_what_a_prompt_tells_is_in_it() -> None:
    """A sentence names each aspect that its answers name, and an empty prompt none."""
    random = Random(0)
    scenes = training_scenes()
    for _ in range(300):
        scene = random.choice(scenes)
        text, answers = told(scene, random)
        for aspect, answer, silent in zip(ASPECTS, answers, (12, 12, 12, 3, 5), strict=True):
            value = getattr(scene, aspect)
            if answer != silent and value not in ("medium", "middle", "small", "big"):
                assert value in text
        if not text:
            assert answers == [12, 12, 12, 3, 5]
