"""A request while the engine has it: its samples, what is finished of it, and how far it is. Plain Python."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ai.batching import Group
from ai.types import AdapterUse, Finished, GenerationRequest, Phase, Picture, Stepped

if TYPE_CHECKING:
    from ai.families.family import Prompted
    from ai.stepping import Row


@dataclass(slots=True, eq=False)
class Sample:
    """One image of a request. It holds a seat (`running`) from its first step on, and a row of tensors with it."""

    work: Work
    index: int
    arrival: int
    row: Row | None = None
    picture: Picture | None = None

    @property
    def group(self) -> Group:
        """Who it can share a forward pass with."""
        return self.work.group

    @property
    def priority(self) -> int:
        """The request's priority."""
        return self.work.request.priority

    @property
    def running(self) -> bool:
        """Whether it has a seat."""
        return self.row is not None

    @property
    def painted(self) -> bool:
        """Whether only its decoding is left."""
        return self.row is not None and self.row.done

    @property
    def wants_preview(self) -> bool:
        """Whether a preview was asked for at the step just made; the last step has the picture itself."""
        every = self.work.request.preview_every
        return every > 0 and self.row is not None and not self.painted and self.row.step % every == 0


@dataclass(slots=True, eq=False)
class Work:
    """A request and its samples, in the order of its images."""

    request: GenerationRequest
    group: Group = field(init=False)
    samples: list[Sample] = field(init=False)
    prompted: Prompted | None = None
    started: bool = False

    def __post_init__(self) -> None:
        request = self.request
        self.group = Group(request.model, request.height, request.width, worn_together(request.adapters))
        self.samples = []

    def add_samples(self, first_arrival: int) -> None:
        """One sample for each image, numbered from `first_arrival`."""
        self.samples = [Sample(self, index, first_arrival + index) for index in range(self.request.num_images)]

    @property
    def complete(self) -> bool:
        """Whether every image has been painted."""
        return all(sample.picture is not None for sample in self.samples)

    def stepped(self, seconds_per_turn: float) -> Stepped:
        """How far the request is; `seconds_per_turn` is the time from one of its steps to the next."""
        total = next(sample.row.table.steps for sample in self.samples if sample.row is not None)
        made = [_steps_made(sample, total) for sample in self.samples]
        left = total * len(made) - sum(made)
        seated = sum(sample.running for sample in self.samples)
        return Stepped(
            request_id=self.request.request_id,
            phase=Phase.DENOISING if left else Phase.DECODING,
            step=min(made),
            total=total,
            fraction=sum(made) / (total * len(made)),
            eta_seconds=math.ceil(left / max(1, seated)) * seconds_per_turn,
        )

    def finished(self) -> Finished:
        """The event that ends a complete request."""
        pictures = tuple(sample.picture for sample in self.samples if sample.picture is not None)
        warnings = self.prompted.warnings if self.prompted is not None else ()
        return Finished(self.request.request_id, pictures, warnings)

    def keep_picture(self, sample: Sample, rgb: bytes) -> None:
        """Take in the finished image of a sample; its tensors are let go."""
        seed = self.request.seed + sample.index
        sample.picture = Picture(seed, self.request.width, self.request.height, rgb)
        sample.row = None


def worn_together(uses: Iterable[AdapterUse]) -> tuple[AdapterUse, ...]:
    """The same adapters however they were asked for: by name, scales of one name summed, those that add nothing left out."""
    scales: defaultdict[str, float] = defaultdict(float)
    for use in uses:
        scales[use.name] += use.scale
    return tuple(AdapterUse(name, scale) for name, scale in sorted(scales.items()) if scale)


def _steps_made(sample: Sample, total: int) -> int:
    if sample.picture is not None:
        return total
    return sample.row.step if sample.row is not None else 0
