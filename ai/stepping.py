"""One forward pass for many samples, each at its own step of its own run. Imports torch.

Knows no requests: a `Row` is what the tensors need of a sample. A step is functional: rows change only after it has
succeeded, so it can be tried again with fewer of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ai.halving import Failures, Halving
from ai.solvers import SolverTable, update
from ai.types import GenerationError, GenerationRequest

if TYPE_CHECKING:
    from ai.families.family import Conditioning, Model, Prompted


@dataclass(slots=True, eq=False)
class Row:
    """One image being denoised. `latents` and `x0` (the last step's prediction) are float32 [channels, h / 8, w / 8].

    This is all a parked sample would have to keep: step, latents, solver history (`x0`) and what it was asked for.
    """

    table: SolverTable
    guidance_scale: float
    positive: Conditioning
    negative: Conditioning | None
    latents: Tensor
    x0: Tensor
    step: int = 0

    @property
    def done(self) -> bool:
        """Whether only the decoding is left."""
        return self.step == self.table.steps


def open_row(model: Model, request: GenerationRequest, image_index: int, prompted: Prompted) -> Row:
    """The row of image `image_index` of a request, before its first step."""
    table = model.table(request.solver, request.num_inference_steps)
    noise = model.noise(request.seed + image_index, request.height, request.width) * table.init_noise_sigma
    return Row(table, request.guidance_scale, prompted.positive, prompted.negative, noise, torch.zeros_like(noise))


class Stack:
    """The stacked tensors of some rows, kept for as long as the same rows step together.

    Rows with guidance stand first, so that their unconditional halves pair up by slices: the network sees
    [all conditional rows, the guided rows' unconditional ones].
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = sorted(rows, key=lambda row: row.negative is None)
        negatives = [row.negative for row in self._rows if row.negative is not None]
        self._guided = len(negatives)
        told = [row.positive for row in self._rows] + negatives
        self._conditioning = {name: torch.cat([one[name] for one in told]) for name in told[0]}
        self._latents = torch.stack([row.latents for row in self._rows])
        self._x0 = torch.stack([row.x0 for row in self._rows])
        self._device = self._latents.device
        scales = torch.tensor([row.guidance_scale for row in self._rows[: self._guided]], dtype=torch.float32)
        self._scales = scales.to(self._device).view((-1,) + (1,) * (self._latents.dim() - 1))

    def advance(self, model: Model) -> Failures[Row]:
        """One step for all rows. Those whose latents are no longer finite are returned, the others have moved on."""
        numbers = np.stack([row.table.rows[row.step] for row in self._rows]).astype(np.float32)
        on_device = torch.from_numpy(numbers).to(self._device)
        output = self._predict(model, on_device[:, 0])
        latents, x0 = update(self._latents, self._x0, output, on_device[:, 1:])
        # The step's only wait for the device: it keeps the host at the pace of the steps, and tells bad rows.
        finite = latents.flatten(1).sum(1).isfinite().tolist()
        self._latents, self._x0 = latents, x0
        for row, row_latents, row_x0 in zip(self._rows, latents.unbind(), x0.unbind(), strict=True):
            row.latents, row.x0 = row_latents, row_x0
            row.step += 1
        return {row: _not_finite(row) for row, good in zip(self._rows, finite, strict=True) if not good}

    def _predict(self, model: Model, timesteps: Tensor) -> Tensor:
        guided, everyone = self._guided, len(self._rows)
        latents = self._latents
        if guided:
            latents = torch.cat([latents, latents[:guided]])
            timesteps = torch.cat([timesteps, timesteps[:guided]])
        output = model.predict(latents, timesteps, self._conditioning).float()
        if not guided:
            return output
        without = output[everyone:]
        combined = without + self._scales * (output[:guided] - without)
        return combined if guided == everyone else torch.cat([combined, output[guided:everyone]])


def _not_finite(row: Row) -> GenerationError:
    return GenerationError(f"step {row.step} of {row.table.steps}: the latents are no longer finite numbers")


class Stepper:
    """Steps and decodes the rows of one group (one model, one latent size), whatever becomes of some of them."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._stacks: dict[tuple[Row, ...], Stack] = {}
        self._steps = Halving[Row]()
        self._decodes = Halving[Row]()

    def step(self, rows: Sequence[Row]) -> Failures[Row]:
        """One step for every row; the errors of those that failed alone. The others have moved on one step."""
        kept, self._stacks = self._stacks, {}

        def advance(some: Sequence[Row]) -> Failures[Row]:
            key = tuple(some)
            stack = kept.pop(key, None) or Stack(some)
            failures = stack.advance(self.model)
            self._stacks[key] = stack  # only after success: a failed stack is not to be held while halves are tried
            return failures

        return self._steps.run(rows, advance)

    def decode(self, rows: Sequence[Row]) -> tuple[dict[Row, bytes], Failures[Row]]:
        """The rows' pictures as RGB bytes, and the errors of those that failed alone."""
        pictures: dict[Row, bytes] = {}

        def paint(some: Sequence[Row]) -> Failures[Row]:
            decoded = self.model.decode(torch.stack([row.latents for row in some]))
            finite = decoded.flatten(1).isfinite().all(1).tolist()
            pictures.update(zip(some, _as_bytes(decoded), strict=True))
            return {
                row: GenerationError("the decoded picture has numbers that are not finite")
                for row, good in zip(some, finite, strict=True)
                if not good
            }

        failures = self._decodes.run(rows, paint)
        return pictures, failures

    def preview(self, rows: Sequence[Row]) -> list[tuple[int, int, bytes]]:
        """Width, height and RGB bytes of a rough look at each row's predicted picture."""
        painted = self.model.preview(torch.stack([row.x0 for row in rows])).cpu()
        height, width = painted.shape[1:3]
        return [(width, height, picture.numpy().tobytes()) for picture in painted]


def _as_bytes(decoded: Tensor) -> list[bytes]:
    """As diffusers' VaeImageProcessor: [-1, 1] to [0, 1] in the VAE's dtype, then to 0 … 255, halves to even."""
    pictures = (decoded * 0.5 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).float().nan_to_num()
    whole = (pictures * 255).round().to(torch.uint8).cpu().numpy()
    return [picture.tobytes() for picture in whole]
