"""How far a picture's last bits depend on who shares its passes, in each number format, on the CPU (docs/promises.md).

    python -m bench.sameness                  # the tests' small random models: some ten minutes
    python -m bench.sameness --model demo     # the embedded one, whose 16-bit forwards a CPU is slow at

Crowds of 2 to 10 random requests are painted together, then each alone. Told is the largest difference of final latents, in
units of their standard deviation, and of pixels, in 1/255.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch is imported

import argparse
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ai.cards import ModelCard, read_card
from ai.families import load
from ai.families.family import Model
from ai.schedules import SOLVERS
from ai.stepping import Stepper, open_row
from ai.types import EngineSettings, GenerationRequest
from bench.report import print_machine, print_table
from config.settings import DEMO_MODEL
from tests.ai.tiny import build_folder
from tests.ai.tiny_xl import build_base

DTYPES = ("float32", "float16", "bfloat16")
PROMPTS = ("a big red star", "a small blue circle on a white ground at the left", "two yellow moons", "")

Ends = list[tuple[torch.Tensor, NDArray[np.int16]]]
"""Final latents and pixels, by row."""

SMALL: Mapping[str, Callable[[Path], Path]] = {
    "1.5": build_folder,
    "1.5, v": lambda folder: build_folder(folder, prediction_type="v_prediction"),
    "XL": build_base,
}


def a_crowd(chance: random.Random, card: ModelCard) -> list[GenerationRequest]:
    """Requests that differ in everything but their size."""
    return [
        GenerationRequest(
            request_id=str(number),
            model=card.name,
            prompt=chance.choice(PROMPTS),
            negative_prompt=chance.choice(["", "red"]),
            width=card.defaults.width,
            height=card.defaults.height,
            num_inference_steps=chance.choice([2, 6, 20, 30]),
            guidance_scale=chance.choice([1.0, 2.5, 4.0, 7.5]),
            seed=chance.randrange(1000),
            solver=chance.choice(SOLVERS),
        )
        for number in range(chance.choice([2, 3, 5, 10]))
    ]


def painted(model: Model, requests: Sequence[GenerationRequest]) -> Ends:
    """What the requests become, together."""
    stepper = Stepper(model)
    with torch.inference_mode():
        rows = [open_row(model, request, 0, model.prompt(request, ())) for request in requests]
        while not all(row.done for row in rows):
            assert stepper.step([row for row in rows if not row.done]) == {}
        pictures, failures = stepper.decode(rows)
    assert failures == {}
    return [(row.latents, np.frombuffer(pictures[row], np.uint8).astype(np.int16)) for row in rows]


def measure(card: ModelCard, dtype: str, crowds: int, seed: int) -> tuple[int, float, int]:
    """How many pictures were compared; how far latents and pixels are apart at most."""
    model, chance = load(card, EngineSettings(device="cpu", dtype=dtype)), random.Random(seed)
    latents, pixels = [0.0], [0]
    for _ in range(crowds):
        requests = a_crowd(chance, card)
        for request, (together, picture) in zip(requests, painted(model, requests), strict=True):
            ((alone, other),) = painted(model, [request])
            latents.append(float((together - alone).abs().max() / alone.std()))
            pixels.append(int(np.abs(picture - other).max()))
    return len(pixels) - 1, max(latents), max(pixels)


def main() -> None:
    """Measure every number format, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["small", "demo"], default="small")
    parser.add_argument("--crowds", type=int, default=20, help="of each model, in each number format")
    parser.add_argument("--dtype", choices=DTYPES, help="one number format instead of all")
    parser.add_argument("--seed", type=int, default=5, help="of the crowds")
    given = parser.parse_args()
    print_machine(["torch", "diffusers"], threads=torch.get_num_threads())
    with tempfile.TemporaryDirectory() as folder:
        built = {name: build(Path(folder) / name) for name, build in SMALL.items()} if given.model == "small" else {}
        cards = [read_card(name, str(source)) for name, source in (built or {"demo": DEMO_MODEL}).items()]
        for dtype in [given.dtype] if given.dtype else DTYPES:
            rows = []
            for card in cards:
                pictures, latents, pixels = measure(card, dtype, given.crowds, given.seed)
                rows.append((card.name, str(pictures), f"{latents:.1e}", str(pixels)))
            print_table((dtype, "pictures", "latents apart", "pixels apart"), rows)


if __name__ == "__main__":
    main()
