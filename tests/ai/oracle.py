"""diffusers' own pipeline and scheduler: what the engine must equal."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from numpy.typing import NDArray

from ai.types import GenerationRequest

# diffusers 0.42's scheduler under numpy 2: the oracle's own, nothing that runs in the engine.
NUMPY_COPY_WARNING = "ignore:__array__ implementation:DeprecationWarning:diffusers"


@cache
def pipeline(folder: Path) -> Any:
    """StableDiffusionPipeline with DPM-Solver++ 2M, float32 on the CPU."""
    loaded = StableDiffusionPipeline.from_pretrained(
        str(folder), dtype=torch.float32, safety_checker=None, requires_safety_checker=False, local_files_only=True
    )
    loaded.scheduler = DPMSolverMultistepScheduler.from_config(loaded.scheduler.config)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def paint(folder: Path, request: GenerationRequest, image_index: int, output_type: str) -> Any:
    """Run the pipeline for one image of a request."""
    return pipeline(folder)(
        request.prompt,
        negative_prompt=request.negative_prompt,
        width=request.width,
        height=request.height,
        num_inference_steps=request.num_inference_steps,
        guidance_scale=request.guidance_scale,
        generator=torch.Generator("cpu").manual_seed(request.seed + image_index),
        output_type=output_type,
    ).images[0]


@cache
def latents(folder: Path, request: GenerationRequest, image_index: int = 0) -> torch.Tensor:
    """The final latents [4, h / 8, w / 8]."""
    result: torch.Tensor = paint(folder, request, image_index, "latent")
    return result


@cache
def picture(folder: Path, request: GenerationRequest, image_index: int = 0) -> NDArray[np.uint8]:
    """The picture [h, w, 3]."""
    return np.asarray(paint(folder, request, image_index, "pil"))
