"""An adapter in memory, in no file's layout any more. Imports torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, eq=False)
class LowRank:
    """What an adapter adds to one layer: scale · B·A.

    `a` is [rank, in] and `b` [out, rank]; of a convolution [rank, in, kh, kw] and [out, rank, 1, 1]. They are as stored
    (float32, float16 or bfloat16, on the CPU). `scale` is alpha / rank, or what the file gives in its place; it is not
    folded into the matrices, so that these stay the file's to the bit.
    """

    a: Tensor
    b: Tensor
    scale: float

    @property
    def rank(self) -> int:
        """Rows of `a`, columns of `b`."""
        return self.a.shape[0]


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """`layers` by the model's own names, the network first ("unet.mid_block.attentions.0.proj_in").

    `content_hash` (SHA-256, hex) is of names, scales and matrices: the same in whatever layout they were stored.
    """

    layers: Mapping[str, LowRank]
    content_hash: str
    total_bytes: int

    @property
    def rank(self) -> int:
        """The largest of its layers."""
        return max(layer.rank for layer in self.layers.values())

    def of(self, network: str) -> dict[str, LowRank]:
        """Its layers in one network, by their names there."""
        prefix = f"{network}."
        return {name.removeprefix(prefix): layer for name, layer in self.layers.items() if name.startswith(prefix)}


def assemble(layers: Mapping[str, LowRank]) -> Adapter:
    """An adapter of these layers."""
    digest, total = hashlib.sha256(), 0
    for name, layer in sorted(layers.items()):
        digest.update(f"{name} {layer.scale!r}".encode())
        for matrix in (layer.a, layer.b):
            content = matrix.contiguous().view(torch.uint8).numpy()
            digest.update(f" {matrix.dtype} {tuple(matrix.shape)}\n".encode())
            digest.update(content.data)
            total += content.nbytes
    return Adapter(dict(layers), digest.hexdigest(), total)


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """What of a model an adapter may change: the shape of each layer's weight, by the names that `Adapter` uses.

    [out, in] for a linear layer, [out, in, kh, kw] for a convolution. `unet_config` is diffusers' own, which its key
    conversion asks for.
    """

    shapes: Mapping[str, tuple[int, ...]]
    unet_config: Any


def targets_of(networks: Mapping[str, Any]) -> Targets:
    """The linear layers and ungrouped convolutions of a model's networks ("unet" and others), before any adapter."""
    shapes = {
        f"{network}.{name}": tuple(layer.weight.shape)
        for network, module in networks.items()
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1)
    }
    return Targets(shapes, networks["unet"].config)
