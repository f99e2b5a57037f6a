"""What the families whose UNet denoises a VAE's latents have in common: all but the prompts. Imports torch.

diffusers supplies the networks; its pipelines and schedulers are not run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Generator, Tensor

from ai.adapters.residents import Worn
from ai.adapters.stacks import AdapterStacks
from ai.device import Place
from ai.families.family import Conditioning, Prompted
from ai.families.init_images import encode
from ai.families.previews import LatentColours
from ai.gauge import networks_bytes
from ai.kept_text import KeptText
from ai.lineup import Lineup
from ai.solvers import SolverTable, SolverTables
from ai.types import GenerationRequest


class LatentDiffusion(ABC):
    """A loaded model (see `ai.families.family.Model`) that lacks its prompts.

    The networks compute in the place's dtype; the VAE in the one it was given, which may be a wider one.
    """

    def __init__(self, pipeline: Any, place: Place, adapters: AdapterStacks) -> None:
        self._unet, self._vae, self._place, self.adapters = pipeline.unet, pipeline.vae, place, adapters
        self._channels = int(self._unet.config.in_channels)
        self._pixels_per_latent = 2 ** (len(self._vae.config.block_out_channels) - 1)
        self._tables = SolverTables(pipeline.scheduler.config)
        self._text = KeptText(self._unet)
        self._colours = LatentColours(self._encode)
        networks = {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}
        self.weight_bytes = networks_bytes(networks, place.device)

    def prompt(self, request: GenerationRequest, worn: Sequence[Worn]) -> Prompted:
        """Encode the request's prompts while the text encoders wear this, and its init image if it has one."""
        image = None if request.init_image is None else encode(self._vae, request.init_image)
        with self.adapters.wearing(self.adapters.line_up([worn])):
            return replace(self._prompt(request, worn), image=image)

    @abstractmethod
    def _prompt(self, request: GenerationRequest, worn: Sequence[Worn]) -> Prompted:
        """Encode the request's prompts; `worn` is for telling apart what was remembered."""

    @abstractmethod
    def _told(self, conditioning: Conditioning) -> dict[str, Any]:
        """What `prompt` made, as the UNet's arguments."""

    def table(self, solver: str, num_inference_steps: int, start: int) -> SolverTable:
        """The solver's steps on the noise schedule of the model's scheduler configuration."""
        return self._tables.table(solver, num_inference_steps, start)

    def latent_shape(self, height: int, width: int) -> tuple[int, ...]:
        """Four channels, an eighth of the pixels each way."""
        return (self._channels, height // self._pixels_per_latent, width // self._pixels_per_latent)

    def noise(self, generator: Generator, shape: Sequence[int]) -> Tensor:
        """Noise as diffusers draws it."""
        return torch.randn(tuple(shape), generator=generator, dtype=self._place.dtype)

    def predict(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning, lineup: Lineup) -> Tensor:
        """One forward pass of the UNet."""
        with self.adapters.wearing(lineup), self._text.within(lineup.kept):
            output: Tensor = self._unet(
                latents.to(self._place.dtype), timesteps, **self._told(conditioning), return_dict=False
            )[0]
        return output

    def decode(self, latents: Tensor) -> Tensor:
        """The VAE's pictures."""
        scaled = latents.to(self._vae.dtype) / self._vae.config.scaling_factor
        pictures: Tensor = self._vae.decode(scaled, return_dict=False)[0]
        return pictures

    def preview(self, latents: Tensor) -> Tensor:
        """Colours by the linear map fitted at load."""
        return self._colours.paint(latents)

    def _encode(self, pictures: Tensor) -> Tensor:
        encoded = self._vae.encode(pictures.to(self._place.device, self._vae.dtype)).latent_dist
        latents: Tensor = encoded.mode() * self._vae.config.scaling_factor
        return latents
