"""A cheap look at latents: the linear map from latent channels to colours, fitted to a model's own VAE. Imports torch.

A latent pixel of the Stable Diffusion VAEs is close to a linear function of the mean colour of the picture pixels
under it, so least squares on a few synthetic pictures is enough for a thumbnail, without decoding.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

PICTURE_SIZE = 64  # pixels; small, since a VAE's encoder is slow on a CPU


class LatentColours:
    """Fits at construction: `encode` takes pictures [n, 3, h, w] in -1…1 to latents [n, channels, h / f, w / f]."""

    def __init__(self, encode: Callable[[Tensor], Tensor]) -> None:
        pictures = _training_pictures()
        latents = encode(pictures).float().cpu()
        colours = torch.nn.functional.adaptive_avg_pool2d(pictures, (latents.shape[2], latents.shape[3]))
        known = _with_bias(latents).flatten(0, 2)
        wanted = colours.permute(0, 2, 3, 1).flatten(0, 2)
        usable = torch.isfinite(known).all(1)  # a VAE in half precision may overflow on a picture or two
        self._map: Tensor = torch.linalg.lstsq(
            known[usable], wanted[usable], driver="gelsd"
        ).solution  # [channels + 1, 3]

    def paint(self, latents: Tensor) -> Tensor:
        """Clean latents [rows, channels, h, w] as colours: uint8 [rows, h, w, 3]."""
        self._map = self._map.to(latents.device)
        colours = _with_bias(latents.float()) @ self._map
        return ((colours / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)


def _with_bias(latents: Tensor) -> Tensor:
    channels_last = latents.permute(0, 2, 3, 1)
    return torch.cat([channels_last, torch.ones_like(channels_last[..., :1])], dim=-1)


def _training_pictures() -> Tensor:
    """Flat colours (the cube's corners and middle) and gradients between random colours: [24, 3, 64, 64] in -1…1."""
    corners = torch.cartesian_prod(*[torch.tensor([-0.9, 0.9])] * 3)
    middle = torch.cartesian_prod(*[torch.tensor([-0.4, 0.4])] * 3)
    flat = torch.cat([corners, middle])[:, :, None, None].expand(-1, -1, PICTURE_SIZE, PICTURE_SIZE)
    ends = torch.rand((8, 2, 3, 1, 1), generator=torch.Generator().manual_seed(0)) * 2 - 1
    ramp = torch.linspace(0, 1, PICTURE_SIZE)
    across, down = ramp.expand(4, 1, PICTURE_SIZE, PICTURE_SIZE), ramp[:, None].expand(4, 1, PICTURE_SIZE, PICTURE_SIZE)
    weight = torch.cat([across, down])
    return torch.cat([flat, ends[:, 0] * (1 - weight) + ends[:, 1] * weight])
