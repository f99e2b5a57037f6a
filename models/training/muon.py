"""Muon: momentum whose matrices are made orthogonal before they are taken as steps.

Networks this small learn from fewer steps by it than by AdamW, and steps are what a CPU has few of. After Keller
Jordan, https://kellerjordan.github.io/posts/muon/ (2024); the step's scale is Moonlight's (arXiv:2502.16982), so that
AdamW's learning rates fit. What is no matrix (biases, norms, first and last layers) goes to AdamW.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

_QUINTIC = (3.4445, -4.7750, 2.0315)  # Newton-Schulz coefficients of the source: fast, not exact
_ROUNDS = 5


def orthogonal(matrices: Tensor) -> Tensor:
    """The nearest (semi-)orthogonal matrices to [count, rows, columns], about: singular values of 0.7 to 1.2."""
    a, b, c = _QUINTIC
    turned = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if turned else matrices).bfloat16()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(_ROUNDS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    result: Tensor = (x.mT if turned else x).to(matrices.dtype)
    return result


class Muon(torch.optim.Optimizer):
    """For weights of two or more dimensions; convolutions count as [out, everything else]."""

    def __init__(
        self, weights: Iterable[Tensor], lr: float = 1e-3, momentum: float = 0.95, decay: float = 0.01
    ) -> None:
        super().__init__(list(weights), {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step. Weights of one shape are made orthogonal together."""
        for group in self.param_groups:
            alike: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                moving = self.state[weight].setdefault("moving", torch.zeros_like(weight))
                moving.lerp_(weight.grad, 1 - group["momentum"])
                ahead = weight.grad.lerp(moving, group["momentum"])
                alike[(weight.shape[0], weight[0].numel())].append((weight, ahead))
            for (rows, columns), pairs in alike.items():
                steps = orthogonal(torch.stack([ahead.reshape(rows, columns) for _, ahead in pairs]))
                scale = 0.2 * max(rows, columns) ** 0.5
                for (weight, _), step in zip(pairs, steps, strict=True):
                    weight.mul_(1 - group["lr"] * group["decay"])
                    weight.add_(step.view_as(weight), alpha=-group["lr"] * scale)


class MuonAndAdamW:
    """Both as one optimizer: Muon for a network's inner matrices, AdamW for the rest."""

    def __init__(self, network: nn.Module, outer: tuple[str, ...] = ("conv_in", "conv_out", "time_embedding")) -> None:
        inner: list[Tensor] = []
        rest: list[Tensor] = []
        for name, weight in network.named_parameters():
            matrix = weight.dim() >= 2 and not name.startswith(outer)
            (inner if matrix else rest).append(weight)
        self._parts = (Muon(inner), torch.optim.AdamW(rest, lr=1e-3, betas=(0.9, 0.98), weight_decay=0.0))

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """All groups; setting "lr" in each sets the learning rate."""
        return [group for part in self._parts for group in part.param_groups]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for part in self._parts:
            part.zero_grad(set_to_none=True)

    def step(self) -> None:
        """One step of both."""
        for part in self._parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {str(i): part.state_dict() for i, part in enumerate(self._parts)}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """From a checkpoint."""
        for i, part in enumerate(self._parts):
            part.load_state_dict(saved[str(i)])
