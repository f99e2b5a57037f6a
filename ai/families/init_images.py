"""Init images into latents, as diffusers' image-to-image pipelines encode them. Imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from ai.types import InitImage


@dataclass(frozen=True, slots=True)
class Posterior:
    """What a VAE makes of a picture: a normal distribution, [channels, h / 8, w / 8] in the VAE's dtype (`InitLatents`)."""

    mean: Tensor
    std: Tensor
    scaling_factor: float

    def sample(self, generator: Generator) -> Tensor:
        """One draw from it, scaled for the network."""
        drawn = torch.randn(self.mean.shape, generator=generator, dtype=self.mean.dtype)
        return ((self.mean + self.std * drawn.to(self.mean.device)) * self.scaling_factor).float()


def encode(vae: Any, image: InitImage) -> Posterior:
    """Encode a picture with a diffusers AutoencoderKL."""
    pixels = torch.from_numpy(np.frombuffer(image.rgb, np.uint8).copy()).view(image.height, image.width, 3)
    picture = (pixels.permute(2, 0, 1).float() / 255 * 2 - 1)[None].to(vae.device, vae.dtype)
    found = vae.encode(picture).latent_dist
    return Posterior(found.mean[0], found.std[0], float(vae.config.scaling_factor))
