"""The first passes of a model that was just loaded, so that no user's are the first. Imports torch.

What happens once: at the first pass of all, libraries prepare themselves, and on CUDA load their kernels to the device; at the
first of each size, they choose among them. A network that does not take what its prompts say is found out here too.
"""

from __future__ import annotations

import time

import torch

from ai.cards import ModelCard
from ai.families.family import Model
from ai.types import GenerationRequest

# Seconds that the passes of the model's usual size may take. They make the first picture's first step shorter by half a step
# (docs/benchmarks.md), which is not worth keeping waiting who waits for the model, or a batch that goes on beside it.
PATIENCE = 0.5


def warm_up(model: Model, card: ModelCard) -> None:
    """A forward pass and a decode of the smallest picture; then of a guided one of the usual size, unless that would take
    long."""
    size = card.min_size
    with torch.inference_mode():
        _paint(model, size, size, rows=1)
        began = time.perf_counter()
        _paint(model, size, size, rows=1)
        took = time.perf_counter() - began
        width, height = card.defaults.width, card.defaults.height
        if 2 * took * (width * height) / size**2 <= PATIENCE:
            _paint(model, width, height, rows=2)


def _paint(model: Model, width: int, height: int, rows: int) -> None:
    request = GenerationRequest(
        request_id="warm-up", model="", prompt="", width=width, height=height, num_inference_steps=1,
        guidance_scale=1.0, seed=0,
    )  # fmt: skip
    told = {name: torch.cat([one] * rows) for name, one in model.prompt(request, ()).positive.items()}
    device = next(iter(told.values())).device
    latents = torch.zeros((rows, *model.latent_shape(height, width)), device=device)
    timesteps = torch.full((rows,), 500.0, device=device)  # of a thousand
    model.predict(latents, timesteps, told, model.adapters.line_up([()] * rows))
    model.decode(latents[:1]).sum().item()  # waits for the device
