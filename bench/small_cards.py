"""What each measure for small devices saves and changes, on the embedded model on the CPU (docs/small-cards.md).

    python -m bench.small_cards

Weights are counted exactly, a pass's memory by the tensors that live in it, at 512 × 512 pixels, where it is more than the
weights. The pictures' difference is that of the ten demo prompts at the model's own 128 × 128, 20 steps, in 1/255. int8 needs
torchao.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ai.cards import ModelCard
from ai.engine import Engine
from ai.families import load
from ai.gauge import TensorGauge
from ai.stepping import Stack, open_row
from ai.types import EngineEvent, EngineSettings, Finished, GenerationRequest
from atelier.demo import PROMPTS
from bench.report import print_machine, print_table
from config.settings import DEMO_MODEL

CARD = ModelCard(name="demo", source=str(DEMO_MODEL))
LARGE, ROWS = 512, 2  # pixels and pictures of the passes whose memory is measured
WAYS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "bfloat16": {"dtype": "bfloat16"},
    "float16": {"dtype": "float16"},
    "int8 weights": {"weights": "int8"},
    "sliced attention": {"attention": "sliced"},
    "VAE slicing": {"vae_slicing": True},
    "VAE tiling": {"vae_tiling": True},
}


def a_request(seed: int, prompt: str, size: int) -> GenerationRequest:
    """One of the demo's."""
    return GenerationRequest(
        request_id=str(seed), model="demo", prompt=prompt, width=size, height=size, num_inference_steps=20,
        guidance_scale=4.0, seed=seed,
    )  # fmt: skip


def taken(settings: EngineSettings) -> tuple[int, int, int]:
    """Bytes of the weights, of a step's pass and of a decode."""
    model, gauge = load(CARD, settings), TensorGauge()
    with torch.inference_mode():
        requests = [a_request(seed, "a red circle", LARGE) for seed in range(ROWS)]
        rows = [open_row(model, request, 0, model.prompt(request, ())) for request in requests]
        stack = Stack(model, rows)
        _, step = gauge.peak(stack.advance)
        latents = torch.stack([row.latents for row in rows])
        _, decode = gauge.peak(lambda: model.decode(latents))
    return model.weight_bytes, step, decode


def pictures(settings: EngineSettings) -> np.ndarray[Any, Any]:
    """The ten demo prompts', as [pictures, numbers]."""
    events: list[EngineEvent] = []
    engine = Engine([CARD], settings, lambda: None, events.extend)
    for seed, (prompt, *_) in enumerate(PROMPTS):
        engine.submit(a_request(seed, prompt, 128))
    engine.run()
    found = {event.request_id: event.pictures[0].rgb for event in events if isinstance(event, Finished)}
    return np.stack([np.frombuffer(found[str(seed)], np.uint8) for seed in range(len(PROMPTS))]).astype(np.int16)


def main() -> None:
    """Measure every way, and print the table."""
    print_machine(["torch", "diffusers"], threads=torch.get_num_threads())
    plain = pictures(EngineSettings(device="cpu"))
    rows = []
    for name, changes in WAYS.items():
        settings = EngineSettings(device="cpu", **changes)
        sizes = [f"{size / 1e6:,.1f}" for size in taken(settings)]
        apart = np.abs(pictures(settings) - plain)
        rows.append((name, *sizes, f"{apart.mean():.2f}", f"{apart.max()}"))
    print_table(("", "weights, MB", "step, MB", "decode, MB", "apart, mean", "most"), rows)


if __name__ == "__main__":
    main()
