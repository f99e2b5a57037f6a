"""Full-size models of random weights, and random adapters for them: speed does not ask what a picture shows.

Stable Diffusion 1.5's and XL's configurations are those shipped with their families. The tokenizer is the embedded model's,
whose vocabulary is smaller than CLIP's and whose 77 positions are the same. Imports torch.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file

from ai.families.known import CONFIGS
from config.settings import DEMO_MODEL

RANK = 16  # what most shared adapters have
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")


def write_model(family: str, folder: Path, dtype: torch.dtype, device: torch.device) -> Path:
    """A diffusers folder of a family's published sizes with random weights, which are drawn on `device`."""
    configs, generator = CONFIGS / family, torch.manual_seed(1)
    assert generator is not None
    with torch.device(device):
        networks: dict[str, Any] = {
            "unet": UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(configs, subfolder="unet")),
            "vae": AutoencoderKL.from_config(AutoencoderKL.load_config(configs, subfolder="vae")),
            "text_encoder": _text_encoder(transformers.CLIPTextModel, configs / "text_encoder"),
        }
        if family == "sdxl":
            kind = transformers.CLIPTextModelWithProjection
            networks["text_encoder_2"] = _text_encoder(kind, configs / "text_encoder_2")
    tokenizer = transformers.AutoTokenizer.from_pretrained(DEMO_MODEL / "tokenizer", local_files_only=True)
    networks = {name: network.to(dtype) for name, network in networks.items()}
    scheduler = DPMSolverMultistepScheduler.from_pretrained(DEMO_MODEL / "scheduler")
    if family == "sdxl":
        pipeline: Any = StableDiffusionXLPipeline(
            **networks, tokenizer=tokenizer, tokenizer_2=tokenizer, scheduler=scheduler
        )
    else:
        pipeline = StableDiffusionPipeline(
            **networks, tokenizer=tokenizer, scheduler=scheduler, safety_checker=None, feature_extractor=None,
            requires_safety_checker=False,
        )  # fmt: skip
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def _text_encoder(kind: Any, config: Path) -> Any:
    return kind(transformers.CLIPTextConfig.from_pretrained(config))


def copy_demo(folder: Path) -> Path:
    """The embedded model, where adapters can be put beside it."""
    shutil.copytree(DEMO_MODEL, folder, ignore=shutil.ignore_patterns("adapters"))
    return folder


def write_adapters(model: Path, count: int) -> list[str]:
    """So many random adapters of rank 16 on all attention layers of the UNet, in the model's own `adapters` folder."""
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(model, subfolder="unet"))
    shapes = {
        name: tuple(layer.weight.shape)
        for name, layer in unet.named_modules()
        if isinstance(layer, torch.nn.Linear) and name.endswith(ATTENTION)
    }
    (model / "adapters").mkdir()
    names = [f"random{number}" for number in range(count)]
    for seed, name in enumerate(names):
        save_file(dict(_matrices(shapes, seed)), model / "adapters" / f"{name}.safetensors")
    return names


def _matrices(shapes: dict[str, tuple[int, ...]], seed: int) -> Iterator[tuple[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    for layer, (out, inside) in shapes.items():
        yield f"unet.{layer}.lora_A.weight", torch.randn(RANK, inside, generator=generator).half() * 0.02
        yield f"unet.{layer}.lora_B.weight", torch.randn(out, RANK, generator=generator).half() * 0.02
