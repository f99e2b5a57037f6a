"""diffusers' own pipeline and scheduler: what the engine must equal."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoPipelineForImage2Image,
    DDIMScheduler,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
)
from numpy.typing import NDArray
from PIL import Image

from ai.types import GenerationRequest

# diffusers 0.42's scheduler under numpy 2: the oracle's own, nothing that runs in the engine.
NUMPY_COPY_WARNING = "ignore:__array__ implementation:DeprecationWarning:diffusers"


# diffusers' scheduler of each solver's name, and what its user sets beside the model's own configuration. DDIM's would clip
# latents to -1…1 wherever the file does not deny it: known for spoiling pictures, and not what anyone asks for.
SCHEDULERS: dict[str, tuple[Any, dict[str, object]]] = {
    "dpmpp_2m": (DPMSolverMultistepScheduler, {"use_karras_sigmas": False}),
    "dpmpp_2m_karras": (DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
    "euler": (EulerDiscreteScheduler, {"use_karras_sigmas": False}),
    "euler_a": (EulerAncestralDiscreteScheduler, {}),
    "ddim": (DDIMScheduler, {"clip_sample": False}),
    "lcm": (LCMScheduler, {}),
}


def scheduler(solver: str, config: Any) -> Any:
    """diffusers' scheduler of a solver's name, made from a configuration."""
    kind, changes = SCHEDULERS[solver]
    return kind.from_config(config, **changes)


@cache
def pipeline(folder: Path) -> Any:
    """The folder's own pipeline with its own scheduler, float32 on the CPU."""
    loaded = DiffusionPipeline.from_pretrained(str(folder), dtype=torch.float32, local_files_only=True)
    loaded.set_progress_bar_config(disable=True)
    return loaded


@cache
def painter(folder: Path, solver: str, from_image: bool) -> Any:
    """The pipeline with the solver's scheduler, of the kind that starts from an image or not."""
    loaded = pipeline(folder)
    kind = AutoPipelineForImage2Image if from_image else type(loaded)
    made = kind.from_pipe(loaded, scheduler=scheduler(solver, loaded.scheduler.config))
    made.set_progress_bar_config(disable=True)
    return made


def paint(folder: Path, request: GenerationRequest, image_index: int, output_type: str, **more: object) -> Any:
    """Run the pipeline for one image of a request; `more` are further arguments of it."""
    start: dict[str, object] = {"width": request.width, "height": request.height}
    if request.init_image is not None:
        image = Image.frombytes("RGB", (request.width, request.height), request.init_image.rgb)
        start = {"image": image, "strength": request.strength}
    return painter(folder, request.solver, request.init_image is not None)(
        request.prompt,
        negative_prompt=request.negative_prompt or None,  # None is what its caller gives who has none
        num_inference_steps=request.num_inference_steps,
        guidance_scale=request.guidance_scale,
        output_type=output_type,
        **({"generator": [torch.Generator("cpu").manual_seed(request.seed + image_index)]} | start | more),
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
