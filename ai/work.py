"""A request while the engine has it: its samples, what is finished of it, and how far it is. Plain Python."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ai.batching import Group
from ai.cards import ModelCard
from ai.types import AdapterUse, DeadlineExceeded, Finished, GenerationRequest, Parked, Phase, Picture, Stepped

if TYPE_CHECKING:
    from ai.adapters.residents import Outfit
    from ai.families.family import Prompted
    from ai.stepping import Row


@dataclass(slots=True, eq=False)
class Sample:
    """One image of a request. From its first step on it holds a row of tensors, also while it is `parked`, and while it waits
    for a seat in the refiner's group after the hand-over."""

    work: Work
    index: int
    arrival: int
    row: Row | None = None
    picture: Picture | None = None
    parked: bool = False  # a higher priority keeps it from the step it could take

    @property
    def group(self) -> Group:
        """Who it can share a forward pass with. A step may change it: from the hand-over on they are the refiner's."""
        handed_over = self.row is not None and self.row.step >= self.row.handover
        return self.work.refiner if handed_over else self.work.group

    @property
    def opened_row(self) -> Row:
        """The row, of a sample that has been seated and has no picture yet."""
        assert self.row is not None, "a sample without a seat has no row"
        return self.row

    @property
    def owner(self) -> str:
        """The request's owner."""
        return self.work.request.owner

    @property
    def priority(self) -> int:
        """The request's priority."""
        return self.work.request.priority

    @property
    def rows(self) -> int:
        """Rows of the network's batch: guidance costs a second one."""
        return 2 if self.work.request.guidance_scale > 1 else 1

    @property
    def steps_left(self) -> int:
        """Steps to make."""
        if self.row is not None:
            return self.row.table.steps - self.row.step
        return self.work.request.num_inference_steps - self.work.request.first_step

    @property
    def steps_left_here(self) -> int:
        """Of them those that it will make in this group, at least."""
        if self.row is None:
            return math.floor(self.steps_left * self.work.switch)
        if self.row.step < self.row.handover < self.row.table.steps:
            return int(self.row.handover) - self.row.step
        return self.steps_left

    @property
    def begun(self) -> bool:
        """Whether it has had a seat, and so has tensors."""
        return self.row is not None

    @property
    def running(self) -> bool:
        """Whether it has a seat now."""
        return self.row is not None and not self.row.at_handover and not self.parked

    @property
    def painted(self) -> bool:
        """Whether only its decoding is left."""
        return self.row is not None and self.row.done

    @property
    def wears(self) -> bool:
        """Whether its next step is one with the request's adapters: not the refiner's, nor the decoding."""
        return self.picture is None and not self.painted and self.group == self.work.group

    @property
    def wants_preview(self) -> bool:
        """Whether a preview was asked for at the step just made; the last step has the picture itself."""
        every = self.work.request.preview_every
        return every > 0 and self.row is not None and not self.painted and self.row.step % every == 0


@dataclass(slots=True, eq=False)
class Work:
    """A request and its samples, in the order of its images."""

    request: GenerationRequest
    submitted_at: float = 0.0  # on the engine's clock
    group: Group = field(init=False)
    samples: list[Sample] = field(init=False)
    uses: tuple[AdapterUse, ...] = field(init=False)
    outfit: Outfit | None = None
    waiting: bool = False  # stands aside until its outfit has come
    refiner: Group = field(init=False)
    switch: float = 1.0  # the share of the noise schedule at which the refiner takes over; 1: none does
    prompted: Prompted | None = None
    refiner_prompted: Prompted | None = None
    started: bool = False
    joined: bool = False  # whether it has made a step
    device_seconds: float = 0.0  # its share of the time of the passes it was part of

    def __post_init__(self) -> None:
        request = self.request
        self.group = Group(request.model, request.height, request.width)
        self.uses = worn_together(request.adapters)
        self.refiner = self.group
        self.samples = []

    def refine_by(self, card: ModelCard) -> None:
        """Have the model's refiner make the last steps, if its card names one and the request does not do without. Adapters are
        the base model's alone."""
        share = self.request.refiner_strength
        if card.refiner is not None and share != 0:
            self.refiner = self.group._replace(model=card.refiner.name)
            self.switch = card.refiner_switch if share is None else 1 - share

    def add_samples(self, first_arrival: int) -> None:
        """One sample for each image, numbered from `first_arrival`."""
        self.samples = [Sample(self, index, first_arrival + index) for index in range(self.request.num_images)]

    @property
    def wearers(self) -> list[Sample]:
        """The images that have steps to make with its adapters."""
        return [sample for sample in self.samples if sample.wears]

    def undress(self) -> None:
        """Let go of its adapters, or of the wish for them."""
        if self.outfit is not None:
            self.outfit.release()
            self.outfit = None

    @property
    def complete(self) -> bool:
        """Whether every image has been painted."""
        return all(sample.picture is not None for sample in self.samples)

    def stepped(self, seconds_per_turn: float) -> Stepped:
        """How far the request is; `seconds_per_turn` is the time from one of its steps to the next."""
        made, total = self._made()
        left = total * len(made) - sum(made)
        seated = sum(sample.running for sample in self.samples)
        return Stepped(
            request_id=self.request.request_id,
            phase=Phase.DENOISING if left else Phase.DECODING,
            step=min(made),
            total=total,
            fraction=sum(made) / (total * len(made)),
            eta_seconds=math.ceil(left / max(1, seated)) * seconds_per_turn,
            device_seconds=self.device_seconds,
        )

    def parked(self) -> Parked:
        """How far the request was when it lost its place."""
        made, total = self._made()
        return Parked(self.request.request_id, min(made), total, sum(made) / (total * len(made)))

    def late(self, now: float, least_seconds: Callable[[Group, int], float]) -> DeadlineExceeded | None:
        """Why the request cannot be painted in time any more. `least_seconds` tells what so many steps take at least."""
        seconds = self.request.deadline_seconds
        if seconds is None:
            return None
        left = self.submitted_at + seconds - now
        unpainted = [sample for sample in self.samples if sample.picture is None]
        needed = max((least_seconds(sample.group, sample.steps_left_here) for sample in unpainted), default=0.0)
        if left > 0 and needed <= left:
            return None
        if left <= 0:
            return DeadlineExceeded(f"deadline_seconds: {seconds:g} s have passed")
        steps = max(sample.steps_left_here for sample in unpainted)
        return DeadlineExceeded(
            f"deadline_seconds: {left:.1f} s of {seconds:g} s are left, and the steps left ({steps}) take {needed:.1f} s alone"
        )

    def _made(self) -> tuple[list[int], int]:
        """The steps made of each image, and how many there are to make. For a request that has begun."""
        total = next(sample.row.table.steps for sample in self.samples if sample.row is not None)
        return [_steps_made(sample, total) for sample in self.samples], total

    def finished(self) -> Finished:
        """The event that ends a complete request."""
        pictures = tuple(sample.picture for sample in self.samples if sample.picture is not None)
        warnings = self.prompted.warnings if self.prompted is not None else ()
        if self.uses and self.refiner_prompted is not None:
            names = ", ".join(use.name for use in self.uses)
            warnings += (f"adapters: the refiner, which made the last steps, wears none (here: {names})",)
        return Finished(self.request.request_id, pictures, warnings, self.device_seconds)

    def keep_picture(self, sample: Sample, rgb: bytes) -> None:
        """Take in the finished image of a sample; its tensors are let go."""
        seed = self.request.seed + sample.index
        sample.picture = Picture(seed, self.request.width, self.request.height, rgb)
        sample.row = None


def share_out(seconds: float, rows: Collection[tuple[Work, int]]) -> None:
    """Note what a pass took: each request's share is that of its rows."""
    total = sum(count for _, count in rows)
    for work, count in rows:
        work.device_seconds += seconds * count / total


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
