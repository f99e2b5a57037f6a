"""The embedded stream model: small, made as its script makes it, and better than a guess from each frame alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ai.live.manifests import read_manifest
from ai.live.program import load_program
from config.settings import DEMO_MODEL
from models.training.stream_model import (
    EXPRESSIONS,
    PARAMETERS,
    STATE,
    error,
    export,
    guessed,
    held_out,
    least_squares,
    run_all,
    train,
)

FOLDER = DEMO_MODEL.with_name("stream-demo")


def test_the_committed_model_foresees_expressions() -> None:
    """On faces that no training saw, with three quarters of the error that the best guess without a memory makes."""
    program, _ = load_program(read_manifest(FOLDER))
    inputs, dt, truth = held_out()
    guess = guessed(least_squares(torch.Generator().manual_seed(2)), inputs)
    with torch.no_grad():
        said = run_all(program, inputs, dt)
    assert error(said, truth) < 0.75 * error(guess, truth)
    assert 0.0 <= float(said.min()) <= float(said.max()) <= 1.0


def test_it_is_what_its_manifest_says_and_small() -> None:
    """The names of the script, and less than two megabytes."""
    manifest = read_manifest(FOLDER)
    assert (manifest.inputs, manifest.outputs, manifest.state) == (PARAMETERS, EXPRESSIONS, STATE)
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 2_000_000


def test_training_is_the_same_each_time_and_its_export_loads(tmp_path: Path) -> None:
    """From a seed; a few steps learn something already."""
    first, again = train(20), train(20)
    for mine, theirs in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-3)  # several threads sum in any order
    inputs, dt, truth = held_out()
    with torch.no_grad():
        assert error(run_all(first, inputs, dt), truth) < error(run_all(train(1), inputs, dt), truth)
    export(first, tmp_path / "made")
    program, _ = load_program(read_manifest(tmp_path / "made"))
    with torch.no_grad():
        rows = (torch.rand(3, len(PARAMETERS)), torch.zeros(3, STATE), torch.full((3,), 1 / 30))
        assert program(*rows)[0] == pytest.approx(first(*rows)[0], abs=1e-6)
