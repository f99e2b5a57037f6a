"""A model without networks, that fails on command: a prompt says what happens to its row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ai.cards import ModelCard
from ai.families.family import Conditioning, Prompted
from ai.solvers import Schedule, SolverTable, build_table
from ai.types import AdapterError, AdapterUse, EngineSettings, GenerationRequest

PLAIN, BOMB, POISON, HEAVY = range(4)
MOODS = {"bomb": BOMB, "poison": POISON, "heavy": HEAVY}


@dataclass
class FakeModel:
    """A row's result depends on the row alone. `room` is how many rows fit into a forward pass or a decode."""

    room: int = 1000
    batches: list[int] = field(default_factory=list)  # rows of each forward pass that was tried
    decodes: list[int] = field(default_factory=list)
    worn: list[tuple[AdapterUse, ...]] = field(default_factory=list)  # before each step
    on_predict: Callable[[], None] = lambda: None

    def wear(self, adapters: Sequence[AdapterUse]) -> None:
        if any(use.name == "torn" for use in adapters):
            raise AdapterError("adapter torn: not a sound safetensors file")
        self.worn.append(tuple(adapters))

    def prompt(self, request: GenerationRequest) -> Prompted:
        if request.prompt == "unspeakable":
            raise ValueError("this prompt cannot be encoded")
        mood = torch.tensor([MOODS.get(request.prompt, PLAIN)])
        told = {"text": torch.tensor([[float(len(request.prompt))]]), "mood": mood}
        if request.guidance_scale <= 1:
            return Prompted(told, None)
        return Prompted(told, {"text": torch.tensor([[float(len(request.negative_prompt))]]), "mood": mood})

    def table(self, solver: str, num_inference_steps: int) -> SolverTable:
        return build_table(Schedule(), solver, num_inference_steps)

    def noise(self, seed: int, height: int, width: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn((4, height // 8, width // 8), generator=generator)

    def predict(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        self.on_predict()
        rows, mood = len(latents), conditioning["mood"]
        assert timesteps.shape == (rows,)
        assert conditioning["text"].shape == (rows, 1)
        self.batches.append(rows)
        self._fit(rows, mood)
        if bool((mood == BOMB).any()):
            raise RuntimeError("the network does not like this one")
        output = latents * 0.2 + (conditioning["text"] * 0.01 + timesteps[:, None] / 5000)[..., None, None]
        output[mood == POISON] = torch.nan
        return output

    def decode(self, latents: Tensor) -> Tensor:
        self.decodes.append(len(latents))
        self._fit(len(latents), torch.zeros(1))
        return torch.nn.functional.interpolate(latents[:, :3], scale_factor=8.0) / 4

    def preview(self, latents: Tensor) -> Tensor:
        return (latents[:, :3].permute(0, 2, 3, 1) * 20 + 128).clamp(0, 255).to(torch.uint8)

    def _fit(self, rows: int, mood: Tensor) -> None:
        if rows > self.room or bool((mood == HEAVY).any()):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB")

    def load(self, card: ModelCard, settings: EngineSettings) -> FakeModel:
        """A `LoadModel`."""
        return self
