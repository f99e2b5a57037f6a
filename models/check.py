"""Judges the embedded model on the held-out prompts: `python -m models.check`, one JSON line.

Shares of 1; null for what the model does not have. The pictures are diffusers' own pipeline's (the engine's are held
equal to them by tests/ai), at the card's steps and guidance.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spinning threads starve each other; before torch is loaded

import diffusers
import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from ai.cards import read_card
from models.training.judge import read_scene, shares_right, to_floats
from models.training.world import Scene, held_out, prompt_of

DEMO = Path(__file__).with_name("demo")
_ROWS = 20  # pictures painted together: little memory, and no slower than more on a CPU
_COLUMNS = 10  # of the contact sheet


def open_pipeline(folder: Path) -> Any:
    """The model in a folder, in float32, on the GPU if there is one."""
    diffusers.utils.logging.disable_progress_bar()
    pipeline = StableDiffusionPipeline.from_pretrained(
        str(folder), torch_dtype=torch.float32, local_files_only=True, safety_checker=None
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to("cuda" if torch.cuda.is_available() else "cpu")


def paint(pipeline: Any, prompts: list[str], steps: int, guidance: float, seed: int = 0) -> Iterator[Image.Image]:
    """One picture of each prompt; picture i has seed + i."""
    for start in range(0, len(prompts), _ROWS):
        some = prompts[start : start + _ROWS]
        generators = [torch.Generator("cpu").manual_seed(seed + start + i) for i in range(len(some))]
        yield from pipeline(some, num_inference_steps=steps, guidance_scale=guidance, generator=generators).images


def contact_sheet(pictures: list[Image.Image]) -> Image.Image:
    """All pictures side by side."""
    side = pictures[0].width
    sheet = Image.new("RGB", (side * _COLUMNS, side * -(-len(pictures) // _COLUMNS)))
    for number, picture in enumerate(pictures):
        sheet.paste(picture, (side * (number % _COLUMNS), side * (number // _COLUMNS)))
    return sheet


def choose(scenes: tuple[Scene, ...], count: int) -> list[Scene]:
    """`count` of the held-out scenes, evenly from the (sorted) list."""
    return [scenes[i] for i in np.linspace(0, len(scenes) - 1, min(count, len(scenes))).round().astype(int).tolist()]


def main(given: list[str] | None = None) -> None:
    """Paint, judge, print."""
    parser = argparse.ArgumentParser(prog="python -m models.check", description=__doc__)
    parser.add_argument("--model", type=Path, default=DEMO)
    parser.add_argument("--count", type=int, default=500, help="how many of the 500 held-out prompts")
    parser.add_argument("--steps", type=int, help="instead of the card's")
    parser.add_argument("--guidance", type=float, help="instead of the card's")
    parser.add_argument("--sheet", type=Path, help="also write the first hundred pictures here")
    arguments = parser.parse_args(given)
    card = read_card("demo", str(arguments.model)).defaults
    scenes = choose(held_out(), arguments.count)
    steps, guidance = arguments.steps or card.num_inference_steps, arguments.guidance or card.guidance_scale
    pipeline = open_pipeline(arguments.model)
    pictures = list(paint(pipeline, [prompt_of(scene) for scene in scenes], steps, guidance))
    if arguments.sheet:
        contact_sheet(pictures[:100]).save(arguments.sheet)
    shares = shares_right(scenes, [read_scene(to_floats(picture)) for picture in pictures])
    named = {"background" if aspect == "ground" else aspect: share for aspect, share in shares.items()}
    print(json.dumps(named | {"style": None, "style_keeps_prompt": None, "scorer": None}))


if __name__ == "__main__":
    main()
