"""What each measure for small devices saves and changes, on the embedded model on the CPU (docs/small-cards.md).

    python -m bench.small_cards

Weights are counted exactly, a pass's memory by the tensors that live in it, at 512 × 512 pixels, where it is more than the
weights. Differences are those of the ten demo prompts at the model's own 128 × 128: of one pass over noise at timestep 500, in
percent of its output's standard deviation, and of pictures of 20 steps, in 1/255. int8 needs torchao.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ai.cards import ModelCard
from ai.engine import Engine
from ai.families import load
from ai.gauge import TensorGauge
from ai.lineup import Lineup
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


def output(settings: EngineSettings) -> torch.Tensor:
    """One pass's, [pictures, channels, 16, 16]."""
    model = load(CARD, settings)
    with torch.inference_mode():
        requests = [a_request(seed, prompt, 128) for seed, (prompt, *_) in enumerate(PROMPTS)]
        rows = [open_row(model, request, 0, model.prompt(request, ())) for request in requests]
        told = {name: torch.cat([row.positive[name] for row in rows]) for name in rows[0].positive}
        latents = torch.stack([row.latents for row in rows])
        return model.predict(latents, torch.full((len(rows),), 500.0), told, Lineup()).float()


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
    plain, plain_output = pictures(EngineSettings(device="cpu")), output(EngineSettings(device="cpu"))
    rows = []
    for name, changes in WAYS.items():
        settings = EngineSettings(device="cpu", **changes)
        sizes = [f"{size / 1e6:,.1f}" for size in taken(settings)]
        percent = (output(settings) - plain_output) / plain_output.std() * 100
        once = (f"{percent.square().mean().sqrt():.2f}", f"{percent.abs().max():.1f}")
        apart = np.abs(pictures(settings) - plain)
        rows.append((name, *sizes, *once, f"{apart.mean():.2f}", f"{apart.max()}"))
    head = ("weights, MB", "step, MB", "decode, MB", "one pass, % rms", "most", "pictures, mean", "most")
    print_table(("", *head), rows)


if __name__ == "__main__":
    main()
