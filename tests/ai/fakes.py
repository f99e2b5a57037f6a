"""A model without networks, that fails on command: a prompt says what happens to its row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

import torch
from torch import Generator, Tensor

from ai.adapters.adapter import Adapter, LowRank, assemble
from ai.adapters.residents import SLOT_RANK, Worn
from ai.cards import ModelCard
from ai.families.family import Conditioning, Prompted
from ai.lineup import Lineup, line_up
from ai.solvers import SolverTable, SolverTables
from ai.types import AdapterError, EngineSettings, GenerationRequest

PLAIN, BOMB, POISON, HEAVY = range(4)
TABLES = SolverTables({})
MOODS = {"bomb": BOMB, "poison": POISON, "heavy": HEAVY}


SLOT_BYTES = 1000


@dataclass
class FakeAdapters:
    """An adapter is its file's name: a number that is added to a row's prediction. Ranks stand behind a dash ("wide-32")."""

    count: int = 64
    reads: list[str] = field(default_factory=list)
    strengths: Tensor = field(default_factory=lambda: torch.zeros(65))  # by slot; the first of an adapter's has it all
    on_read: Callable[[str], None] = lambda name: None

    there: int = 0  # slots that take memory

    @property
    def total_bytes(self) -> int:
        return self.there * SLOT_BYTES

    def shrink(self, count: int) -> None:
        self.there = min(self.there, count)
        self.strengths[count + 1 :] = torch.nan  # what still wears one of them shall be seen

    def read(self, path: Path) -> Adapter:
        self.reads.append(path.name)
        self.on_read(path.name)
        if path.name == "torn":
            raise AdapterError("not a sound safetensors file")
        rank = int(path.name.partition("-")[2] or 4)
        strength = crc32(path.name.encode()) / 2**32
        return assemble({"unet.layer": LowRank(torch.full((rank, 1), strength), torch.ones(1, rank), 1.0)})

    def write(self, slots: Sequence[int], adapter: Adapter) -> None:
        assert len(slots) == -(-adapter.rank // SLOT_RANK)
        self.there = max(self.there, *slots)
        self.strengths[list(slots)] = 0.0
        self.strengths[slots[0]] = adapter.layers["unet.layer"].a[0, 0]

    def line_up(self, told: Sequence[Sequence[Worn]]) -> Lineup:
        return line_up(told, torch.device("cpu"))


@dataclass
class FakeModel:
    """A row's result depends on the row alone. `room` is how many rows fit into a forward pass or a decode."""

    room: int = 1000
    batches: list[int] = field(default_factory=list)  # rows of each forward pass that was tried
    decodes: list[int] = field(default_factory=list)
    adapters: FakeAdapters = field(default_factory=FakeAdapters)
    on_predict: Callable[[], None] = lambda: None
    weight_bytes: int = 1000

    def prompt(self, request: GenerationRequest, worn: Sequence[Worn]) -> Prompted:
        if request.prompt == "unspeakable":
            raise ValueError("this prompt cannot be encoded")
        mood = torch.tensor([MOODS.get(request.prompt, PLAIN)])
        told = {"text": torch.tensor([[float(len(request.prompt))]]), "mood": mood}
        if request.guidance_scale <= 1:
            return Prompted(told, None)
        return Prompted(told, {"text": torch.tensor([[float(len(request.negative_prompt))]]), "mood": mood})

    def table(self, solver: str, num_inference_steps: int, start: int) -> SolverTable:
        return TABLES.table(solver, num_inference_steps, start)

    def latent_shape(self, height: int, width: int) -> tuple[int, ...]:
        return (4, height // 8, width // 8)

    def noise(self, generator: Generator, shape: Sequence[int]) -> Tensor:
        return torch.randn(tuple(shape), generator=generator)

    def predict(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning, lineup: Lineup) -> Tensor:
        self.on_predict()
        rows, mood = len(latents), conditioning["mood"]
        assert timesteps.shape == (rows,)
        assert conditioning["text"].shape == (rows, 1)
        self.batches.append(rows)
        self._fit(rows, mood)
        if bool((mood == BOMB).any()):
            raise RuntimeError("the network does not like this one")
        output = latents * 0.2 + (conditioning["text"] * 0.01 + timesteps[:, None] / 5000)[..., None, None]
        for band in lineup.bands:
            strengths = (self.adapters.strengths[band.slots] * band.scales).sum(1)
            output[band.first : band.last] += strengths[:, None, None, None]
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
