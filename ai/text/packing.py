"""Linear layers whose weights lie in memory in the order in which oneDNN's kernels read them. CPU, float32. Imports torch.

A pass of a few rows multiplies them with matrices that are far larger than they are, and is bound by memory. From two rows on
the library brings each weight into such an order first, in every pass: two or three times the traffic of the product itself. Here
it is done once, at loading (docs/benchmarks.md, "Texts"). torch's inductor packs a frozen model by these very operators.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

ROWS = 8  # the batch that the order is meant for; it serves every other as well


class PackedLinear(nn.Module):
    """A linear layer. `weight` is [out, in]; it is copied."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self._packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), ROWS)
        self._bias = bias
        self.weight_bytes = sum(one.numel() * one.element_size() for one in (weight, bias) if one is not None)

    def forward(self, given: Tensor) -> Tensor:
        """[..., in] → [..., out]"""
        done: Tensor = torch.ops.mkldnn._linear_pointwise(given, self._packed, self._bias, "none", [], "")
        return done


def can_pack(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether weights of this device and format can be packed."""
    here: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return here and device.type == "cpu" and dtype == torch.float32


def pack(network: nn.Module) -> None:
    """Pack every linear layer of a network, in place; each goes before the next. A weight that something else uses too, as
    embeddings are, stands twice."""
    for holder in [one for one in network.modules() if any(map(_is_linear, one.children()))]:
        for name in [name for name, layer in holder.named_children() if _is_linear(layer)]:
            setattr(holder, name, _packed(getattr(holder, name)))


def _is_linear(layer: nn.Module) -> bool:
    return type(layer) in (nn.Linear, Conv1D)  # what derives from them does something of its own


def _packed(layer: Any) -> PackedLinear:
    weight = layer.weight.detach()
    bias = None if layer.bias is None else layer.bias.detach()
    return PackedLinear(weight.t() if type(layer) is Conv1D else weight, bias)


def packed_bytes(network: nn.Module) -> int:
    """What the packed layers of a network take."""
    return sum(layer.weight_bytes for layer in network.modules() if isinstance(layer, PackedLinear))
