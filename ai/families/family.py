"""What the engine asks of a model, whatever its family.

A family module has a `load` function; it stands in the table of `ai.families`. Everything is called on the engine's
thread in inference mode, except `load` itself, which is called on the loading thread and switches inference mode off
(its parameters stay ordinary tensors).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ai.adapters.residents import Slots, Worn
from ai.cards import ModelCard
from ai.solvers import SolverTable
from ai.types import EngineSettings, GenerationRequest

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from ai.lineup import Lineup

Conditioning = Mapping[str, "Tensor"]
"""What the network is told besides latents and timestep, by name: tensors of [1, ...] for a row, [rows, ...] stacked."""


class InitLatents(Protocol):
    """A request's init image, encoded: a distribution, as a VAE gives it."""

    def sample(self, generator: Generator) -> Tensor:
        """Latents of one image, [channels, height / 8, width / 8] in float32; takes its noise from the generator."""
        ...


@dataclass(frozen=True, slots=True)
class Prompted:
    """A request's prompts and init image, encoded. `negative` is None where guidance is off, and then costs no row."""

    positive: Conditioning
    negative: Conditioning | None
    warnings: tuple[str, ...] = ()
    image: InitLatents | None = None


class AdapterSlots(Slots, Protocol):
    """A model's adapters as its batches see them (`ai.adapters.stacks.AdapterStacks`)."""

    def line_up(self, told: Sequence[Sequence[Worn]]) -> Lineup:
        """The lineup of a batch whose rows wear this, for `Model.predict`."""
        ...


class Model(Protocol):
    """One loaded model. Latents are [rows, channels, height / 8, width / 8]; float32 unless said otherwise."""

    @property
    def weight_bytes(self) -> int:
        """What its networks take of the device's memory, without adapters."""
        ...

    @property
    def adapters(self) -> AdapterSlots:
        """Where the adapters of its networks are kept."""
        ...

    def prompt(self, request: GenerationRequest, worn: Sequence[Worn]) -> Prompted:
        """Encode the request's prompts as the text encoders do when they wear this, and its init image if it has one."""
        ...

    def table(self, solver: str, num_inference_steps: int, start: int) -> SolverTable:
        """The solver's steps on this model's noise schedule, from step `start` on. Raises GenerationError."""
        ...

    def latent_shape(self, height: int, width: int) -> tuple[int, ...]:
        """The latents of one picture of so many pixels: (channels, height / 8, width / 8)."""
        ...

    def noise(self, generator: Generator, shape: Sequence[int]) -> Tensor:
        """Standard normal noise for one image, the same on every device: drawn, and left, on the CPU in the network's dtype
        (which decides the numbers drawn)."""
        ...

    def predict(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning, lineup: Lineup) -> Tensor:
        """One forward pass of the network; `timesteps` is [rows], `lineup` what `adapters.line_up` made for these rows.

        The result has the latents' shape, in any dtype.
        """
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """The pictures [rows, 3, height, width], -1 to 1 (not yet clamped), in the network's dtype."""
        ...

    def preview(self, latents: Tensor) -> Tensor:
        """A rough look at clean latents: uint8 [rows, height / 8, width / 8, 3]."""
        ...


LoadModel = Callable[[ModelCard, EngineSettings], Model]
"""Puts a card's model into memory. Raises ModelLoadError, with a text that says what is wrong with which file."""
