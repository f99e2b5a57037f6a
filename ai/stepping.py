"""One forward pass for many samples, each at its own step of its own run. Imports torch.

Knows no requests: a `Row` is what the tensors need of a sample. A step is functional: rows change only after it has
succeeded, so it can be tried again with fewer of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from ai.halving import Failures, Halving
from ai.lineup import slots_of
from ai.memory import Network
from ai.solvers import SolverTable, update
from ai.types import GenerationError, GenerationRequest

if TYPE_CHECKING:
    from ai.adapters.residents import Worn
    from ai.families.family import Conditioning, Model, Prompted
    from ai.gauge import Meter

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Row:
    """One image being denoised. `latents` and `x0` (the last step's prediction) are float32 [channels, h / 8, w / 8].

    This is all that a parked sample has to keep: step, latents, solver history (`x0`), the state of its generator, the adapters
    it wears (which stay in their slots for as long as its request holds them) and what it was asked for.
    """

    table: SolverTable
    guidance_scale: float
    positive: Conditioning
    negative: Conditioning | None
    latents: Tensor
    x0: Tensor
    generator: torch.Generator
    worn: Sequence[Worn] = ()
    handover: float = math.inf  # the step from which on a refiner makes them
    refined: bool = False  # whether it is the refiner's already: its table and its prompts
    step: int = 0
    _noise: Tensor | None = None  # drawn for the step to come, and kept until that has succeeded

    @property
    def done(self) -> bool:
        """Whether only the decoding is left."""
        return self.step == self.table.steps

    @property
    def at_handover(self) -> bool:
        """Whether its next step is the refiner's, which does not have it yet."""
        return self.step >= self.handover and not self.refined

    def park(self) -> None:
        """Keep no more memory than its own: until now its tensors were slices of a batch's, which would stay with them."""
        self.latents, self.x0 = self.latents.clone(), self.x0.clone()

    def noise(self, model: Model) -> Tensor | None:
        """The fresh noise of the next step, on the CPU; None for a step that needs none. Asked again, it is the same."""
        if self._noise is None and self.table.is_noisy(self.step):
            self._noise = model.noise(self.generator, self.latents.shape)
        return self._noise

    @property
    def drawn_noise(self) -> Tensor | None:
        """The next step's noise, if it has been drawn."""
        return self._noise

    def go_on(self, step: int, latents: Tensor, x0: Tensor, noise: Tensor | None) -> None:
        """Be where another life of the row was."""
        self.step, self.latents, self.x0, self._noise = step, latents, x0, noise

    def move(self, latents: Tensor, x0: Tensor) -> None:
        """Take in what a step made."""
        self.latents, self.x0, self._noise = latents, x0, None
        self.step += 1


def open_row(
    model: Model,
    request: GenerationRequest,
    image_index: int,
    prompted: Prompted,
    worn: Sequence[Worn] = (),
    *,
    switch: float = 1.0,
) -> Row:
    """The row of image `image_index` of a request, before its first step; a refiner gets it at the share `switch` of the
    noise schedule.

    Its generator is asked in the order in which diffusers asks it: for the latents of an init image, for the noise that x
    starts from, then for each step's.
    """
    table = model.table(request.solver, request.num_inference_steps, request.first_step)
    generator = torch.Generator("cpu").manual_seed(request.seed + image_index)
    image = None if prompted.image is None else prompted.image.sample(generator)
    drawn = model.noise(generator, model.latent_shape(request.height, request.width))
    noise = drawn.to(next(iter(prompted.positive.values())).device, torch.float32)
    latents = noise * table.init_noise_sigma if image is None else image * table.image_scale + noise * table.noise_scale
    zeros = torch.zeros_like(latents)
    steps = table.steps_within(switch)
    handover = steps if steps < table.steps else math.inf
    told = (prompted.positive, prompted.negative)
    return Row(table, request.guidance_scale, *told, latents, zeros, generator, worn, handover)


def refine_row(model: Model, request: GenerationRequest, row: Row, prompted: Prompted, switch: float) -> None:
    """Have the refiner make the other steps of a row: as diffusers' pipeline begins at `denoising_start`, with no history.
    It wears no adapters, which were trained on the base model.

    Its solver runs on its own noise schedule; the generator goes on where it stands.
    """
    shape = model.latent_shape(request.height, request.width)
    if shape != tuple(row.latents.shape):
        raise GenerationError(f"refiner: its latents are {list(shape)}, those of the model {list(row.latents.shape)}")
    whole = model.table(request.solver, request.num_inference_steps, 0)
    start = max(whole.steps_within(switch), request.first_step)
    row.table = row.table.continued(row.step, model.table(request.solver, request.num_inference_steps, start))
    row.positive, row.negative, row.worn, row.refined = prompted.positive, prompted.negative, (), True


class Ahead(NamedTuple):
    """A step that was made and not yet taken: latents and x0 of all rows, and whether each row's are finite."""

    latents: Tensor
    x0: Tensor
    finite: tuple[bool, ...]


class Stack:
    """The stacked tensors of some rows, kept for as long as the same rows step together.

    The network sees each row with its unconditional half, if it has one, behind it; those first that wear most. So rows
    that wear the same are neighbours, and so are rows that gather equally many slots.
    """

    def __init__(self, model: Model, rows: Sequence[Row]) -> None:
        self._model = model
        self.key = tuple(rows)  # in the order in which they were given
        self._rows = sorted(rows, key=lambda row: slots_of(row.worn), reverse=True)
        halves = [(at, told) for at, row in enumerate(self._rows) for told in _told(row)]
        seen = [at for at, _ in halves]
        self._lineup = model.adapters.line_up([self._rows[at].worn for at in seen])
        self._conditioning = {name: torch.cat([told[name] for _, told in halves]) for name in halves[0][1]}
        self._latents = torch.stack([row.latents for row in self._rows])
        self._x0 = torch.stack([row.x0 for row in self._rows])
        self._device = self._latents.device
        first = [seen.index(at) for at in range(len(self._rows))]
        last = [len(seen) - 1 - seen[::-1].index(at) for at in range(len(self._rows))]
        self._seen, self._first, self._last = (
            torch.tensor(index, device=self._device) for index in (seen, first, last)
        )
        scales = torch.tensor([row.guidance_scale for row in self._rows], dtype=torch.float32, device=self._device)
        self._scales = scales.view((-1,) + (1,) * (self._latents.dim() - 1))

    def tensors(self) -> Iterator[Tensor]:
        """All that is kept for these rows from step to step."""
        yield from (self._latents, self._x0, self._scales, *self._conditioning.values(), *self._lineup.kept.tensors())
        for row in self._rows:
            yield from row.positive.values()
            yield from (row.negative or {}).values()

    def advance(self) -> Failures[Row]:
        """One step for all rows. Those whose latents are no longer finite are returned, the others have moved on."""
        return self.take(self.ahead())

    def ahead(self) -> Ahead:
        """What one step makes of the rows, which stay where they are until it is taken."""
        numbers = np.stack([row.table.rows[row.step] for row in self._rows]).astype(np.float32)
        on_device = torch.from_numpy(numbers).to(self._device)
        output = self._predict(on_device[:, 0])
        latents, x0 = update(self._latents, self._x0, output, on_device[:, 1:], self._noise())
        # The step's only wait for the device: it keeps the host at the pace of the steps, and tells bad rows.
        finite = latents.flatten(1).sum(1).isfinite().tolist()
        return Ahead(latents, x0, tuple(finite))

    def take(self, ahead: Ahead) -> Failures[Row]:
        """Move all rows on. Those whose latents are no longer finite are returned."""
        self._latents, self._x0 = ahead.latents, ahead.x0
        for row, latents, x0 in zip(self._rows, ahead.latents.unbind(), ahead.x0.unbind(), strict=True):
            row.move(latents, x0)
        return {row: _not_finite(row) for row, good in zip(self._rows, ahead.finite, strict=True) if not good}

    def _noise(self) -> Tensor | None:
        """Fresh noise like the latents, zero for rows that need none; nothing is drawn where none does."""
        drawn = [row.noise(self._model) for row in self._rows]
        known = [noise for noise in drawn if noise is not None]
        if not known:
            return None
        blank = torch.zeros_like(known[0])
        together = torch.stack([blank if noise is None else noise for noise in drawn])
        return together.to(self._device, torch.float32)

    def _predict(self, timesteps: Tensor) -> Tensor:
        latents, timesteps = self._latents[self._seen], timesteps[self._seen]
        output = self._model.predict(latents, timesteps, self._conditioning, self._lineup).float()
        if len(output) == len(self._rows):
            return output
        # Of a row without guidance both are the same, and so is the sum.
        conditional, unconditional = output[self._first], output[self._last]
        return unconditional + self._scales * (conditional - unconditional)


def _in_parts(rows: Sequence[Row], parts: int) -> list[tuple[Row, ...]]:
    """So many runs of neighbours, as equal as can be."""
    bounds = [len(rows) * part // parts for part in range(parts + 1)]
    return [tuple(rows[first:last]) for first, last in pairwise(bounds)]


def _told(row: Row) -> list[Conditioning]:
    """What the network is told of a row: with its prompt, and with the negative one if there is guidance."""
    return [row.positive] if row.negative is None else [row.positive, row.negative]


def _not_finite(row: Row) -> GenerationError:
    return GenerationError(f"step {row.step} of {row.table.steps}: the latents are no longer finite numbers")


class Stepper:
    """Steps and decodes the rows of one group (one model, one latent size), whatever becomes of some of them.

    `meter` measures the passes and says how many rows fit into one; `relieve` lets go of something that nobody needs at
    present, and says whether there was anything.
    """

    def __init__(self, model: Model, meter: Meter | None = None, relieve: Callable[[], bool] = lambda: False) -> None:
        self.model = model
        self._meter = meter
        self._stacks: dict[tuple[Row, ...], Stack] = {}
        self._steps = Halving[Row](relieve)
        self._decodes = Halving[Row](relieve)

    def tensors(self) -> Iterator[Tensor]:
        """All that is kept for the rows that step together."""
        return (tensor for stack in self._stacks.values() for tensor in stack.tensors())

    def step(self, rows: Sequence[Row]) -> Failures[Row]:
        """One step for every row; the errors of those that failed alone. The others have moved on one step."""
        kept, self._stacks = self._stacks, {}

        def advance(some: Sequence[Row]) -> Failures[Row]:
            def work(parts: int) -> list[tuple[Stack, Ahead]]:
                keys = _in_parts(some, parts)
                stacks = [kept.pop(key) if key in kept else Stack(self.model, key) for key in keys]
                return list(zip(stacks, self._abreast([stack.ahead for stack in stacks]), strict=True))

            failures: Failures[Row] = {}
            seen = sum(len(_told(row)) for row in some)
            for stack, ahead in self._measured("unet", seen, work, len(some)):  # once all parts have succeeded
                failures.update(stack.take(ahead))
                self._stacks[stack.key] = stack  # a failed stack is not to be held while halves are tried
            return failures

        wide = 2 if any(row.negative is not None for row in rows) else 1
        return self._steps.run(rows, advance, at_most=self._fitting("unet", len(rows) * wide) // wide or 1)

    def decode(self, rows: Sequence[Row]) -> tuple[dict[Row, bytes], Failures[Row]]:
        """The rows' pictures as RGB bytes, and the errors of those that failed alone."""
        pictures: dict[Row, bytes] = {}

        def paint(some: Sequence[Row]) -> Failures[Row]:
            latents = torch.stack([row.latents for row in some])

            def work(parts: int) -> Tensor:
                pieces = latents.tensor_split(parts)
                return torch.cat(self._abreast([partial(self.model.decode, piece) for piece in pieces]))

            decoded = self._measured("vae", len(some), work, len(some))
            finite = decoded.flatten(1).isfinite().all(1).tolist()
            pictures.update(zip(some, _as_bytes(decoded), strict=True))
            return {
                row: GenerationError("the decoded picture has numbers that are not finite")
                for row, good in zip(some, finite, strict=True)
                if not good
            }

        failures = self._decodes.run(rows, paint, at_most=self._fitting("vae", len(rows)))
        return pictures, failures

    def _fitting(self, network: Network, rows: int) -> int:
        return rows if self._meter is None else self._meter.fitting(network, rows)

    def _measured(self, network: Network, rows: int, work: Callable[[int], T], most_parts: int) -> T:
        return work(1) if self._meter is None else self._meter.run(network, rows, work, most_parts)

    def _abreast(self, parts: Sequence[Callable[[], T]]) -> list[T]:
        return [parts[0]()] if len(parts) == 1 or self._meter is None else self._meter.abreast(parts)

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
