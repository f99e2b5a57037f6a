"""What the engine asks of a model, whatever its family.

A family module has a `load` function; it stands in the table of `ai.families`. Everything is called on the engine's
thread in inference mode, except `load` itself, which runs there with gradients merely off (its parameters stay
ordinary tensors).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ai.cards import ModelCard
from ai.solvers import SolverTable
from ai.types import AdapterUse, EngineSettings, GenerationRequest

if TYPE_CHECKING:
    from torch import Tensor

Conditioning = Mapping[str, "Tensor"]
"""What the network is told besides latents and timestep, by name: tensors of [1, ...] for a row, [rows, ...] stacked."""


@dataclass(frozen=True, slots=True)
class Prompted:
    """A request's prompts, encoded. `negative` is None where guidance is off, and then costs no row."""

    positive: Conditioning
    negative: Conditioning | None
    warnings: tuple[str, ...] = ()


class Model(Protocol):
    """One loaded model. Latents are [rows, channels, height / 8, width / 8]; float32 unless said otherwise."""

    def wear(self, adapters: Sequence[AdapterUse]) -> None:
        """Let these adapters and no others act from now on, in `prompt` and in `predict`. Cheap if they do already.

        One that is not in memory is read now. Raises AdapterError; then nothing has changed.
        """
        ...

    def prompt(self, request: GenerationRequest) -> Prompted:
        """Encode the request's prompts."""
        ...

    def table(self, solver: str, num_inference_steps: int) -> SolverTable:
        """The solver's steps on this model's noise schedule. Raises GenerationError."""
        ...

    def noise(self, seed: int, height: int, width: int) -> Tensor:
        """Standard normal noise of one image, [channels, height / 8, width / 8], the same on every device."""
        ...

    def predict(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """One forward pass of the network; `timesteps` is [rows]. The result has the latents' shape, in any dtype."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """The pictures [rows, 3, height, width], -1 to 1 (not yet clamped), in the network's dtype."""
        ...

    def preview(self, latents: Tensor) -> Tensor:
        """A rough look at clean latents: uint8 [rows, height / 8, width / 8, 3]."""
        ...


LoadModel = Callable[[ModelCard, EngineSettings], Model]
"""Puts a card's model into memory. Raises ModelLoadError, with a text that says what is wrong with which file."""
