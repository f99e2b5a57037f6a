"""Small stream models for tests, exported as an operator's are."""

from __future__ import annotations

import tomllib
from pathlib import Path

import torch
from torch import Tensor, nn

from ai.live.manifests import Manifest, read_manifest

FACE = """\
name = "face"
description = "Sums"
inputs = ["jaw", "smile"]
outputs = ["sum", "frames", "dt"]
state = 1
tick_hz = 30
"""
EYE = """\
name = "eye"
image = [2, 3]
outputs = ["red", "blue"]
tick_hz = 30
"""


class Sums(nn.Module):
    """The sum of the inputs, how many frames there were, and the time since the last; inputs above 100 give what is no number."""

    def forward(self, inputs: Tensor, state: Tensor, dt: Tensor) -> tuple[Tensor, Tensor]:
        frames = state + 1.0
        total = inputs.sum(1, keepdim=True)
        total = torch.where(total > 100.0, torch.log(-total), total)
        return torch.cat([total, frames, dt[:, None]], 1), frames


class Colours(nn.Module):
    """The mean of red and of blue; without a state."""

    def forward(self, inputs: Tensor, state: Tensor, dt: Tensor) -> tuple[Tensor, Tensor]:
        return torch.stack([inputs[:, 0].mean((1, 2)), inputs[:, 2].mean((1, 2))], 1), state + 0.0


class Mixes(Sums):
    """A program that shows each session something of the others."""

    def forward(self, inputs: Tensor, state: Tensor, dt: Tensor) -> tuple[Tensor, Tensor]:
        values, after = super().forward(inputs, state, dt)
        return values - inputs.mean(0).sum(), after


class Doubles(Sums):
    """Gives float64."""

    def forward(self, inputs: Tensor, state: Tensor, dt: Tensor) -> tuple[Tensor, Tensor]:
        values, after = super().forward(inputs, state, dt)
        return values.double(), after


def exported(folder: Path, network: nn.Module, manifest: str = FACE) -> Path:
    """A folder with this program and this manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    document = tomllib.loads(manifest)
    shape = (2, len(document["inputs"])) if "inputs" in document else (2, 3, *document["image"])
    example = (torch.zeros(shape), torch.zeros(2, document.get("state", 0)), torch.zeros(2))
    batch = torch.export.Dim("batch", min=1, max=4096)
    shapes = {"inputs": {0: batch}, "state": {0: batch}, "dt": {0: batch}}
    torch.export.save(torch.export.export(network.eval(), example, dynamic_shapes=shapes), folder / "model.pt2")
    (folder / "manifest.toml").write_text(manifest, encoding="utf-8")
    return folder


def face(folder: Path, network: nn.Module | None = None, manifest: str = FACE) -> Manifest:
    """The manifest of one that was just exported."""
    return read_manifest(exported(folder, network or Sums(), manifest))
