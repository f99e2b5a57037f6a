"""Puts the trained parts into one diffusers folder: `python -m models.training.assemble`.

Whatever else is in the folder (card.toml, README.md, adapters/) stays as it is.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel

from models.training.tokenizer import build

PARTS = ("scheduler", "text_encoder", "tokenizer", "unet", "vae")


def assemble(parts: Path, out: Path) -> None:
    """Write the model, in fp16, over whatever model stands in `out`."""
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(parts / "vae", torch_dtype=torch.float16),
        text_encoder=CLIPTextModel.from_pretrained(str(parts / "text_encoder"), dtype=torch.float16),
        tokenizer=build(),
        unet=UNet2DConditionModel.from_pretrained(parts / "unet", torch_dtype=torch.float16),
        scheduler=DPMSolverMultistepScheduler.from_pretrained(parts / "scheduler"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    for part in PARTS:
        shutil.rmtree(out / part, ignore_errors=True)
    pipeline.save_pretrained(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m models.training.assemble", description=__doc__)
    parser.add_argument("--parts", type=Path, default=Path("build/model"))
    parser.add_argument("--out", type=Path, default=Path("models/demo"))
    arguments = parser.parse_args()
    assemble(arguments.parts, arguments.out)
