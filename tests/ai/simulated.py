"""A device that takes simulated seconds for its steps, to see what the policy does over thousands of them. No torch."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from ai.batching import BatchPolicy, Group
from ai.types import EngineSettings

SQUARE, WIDE, LARGE = Group("m", 64, 64), Group("m", 64, 128), Group("m", 128, 128)


@dataclass(eq=False)
class Image:
    """A sample without tensors."""

    owner: str = "ada"
    group: Group = SQUARE
    priority: int = 0
    steps_left: int = 4
    rows: int = 2
    begun: bool = False
    arrival: int = field(default_factory=itertools.count().__next__)

    @property
    def step_work(self) -> int:
        """Pixel-steps of one step."""
        return self.rows * self.group.height * self.group.width


def no_time(group: Group, rows: int) -> float:
    """Every step takes a tenth of a second, whatever is in it."""
    return 0.1


@dataclass
class Device:
    """Runs a policy; nothing limits its batches but `max_batch`, unless `settings` says so."""

    settings: EngineSettings = field(default_factory=lambda: limits(4))
    seconds: Callable[[Group, int], float] = no_time
    images: list[Image] = field(default_factory=list)  # in order of arrival
    turns: list[list[Image]] = field(default_factory=list)
    parked: list[Image] = field(default_factory=list)  # at the latest turn
    now: float = 0.0
    served: Counter[str] = field(default_factory=Counter)  # pixel-steps by owner

    def __post_init__(self) -> None:
        self.policy: BatchPolicy[Image] = BatchPolicy(self.settings)

    def submit(self, *images: Image) -> None:
        """They may join at the next step."""
        for image in images:
            self.images.append(image)
            self.policy.add(image)

    def cancel(self, image: Image) -> None:
        """It is gone."""
        self.images.remove(image)
        self.policy.discard(image)

    def step(self) -> list[Image]:
        """One turn; whoever made its last step leaves."""
        turn = self.policy.next_step()
        self.parked = turn.parked
        seconds = self.seconds(turn.samples[0].group, sum(image.rows for image in turn.samples))
        self.now += seconds
        for image in turn.samples:
            image.begun = True
            image.steps_left -= 1
            self.served[image.owner] += image.step_work
        self.policy.stepped(turn.samples, seconds)
        for image in turn.samples:
            if not image.steps_left:
                self.cancel(image)
        self.turns.append(list(turn.samples))
        return self.turns[-1]

    def steps(self, count: int) -> list[list[Image]]:
        """So many turns."""
        return [self.step() for _ in range(count)]

    def run(self) -> list[list[Image]]:
        """Turns until nobody is left."""
        before = len(self.turns)
        while self.images:
            self.step()
        return self.turns[before:]


def limits(max_batch: int, **changes: object) -> EngineSettings:
    """Settings for batches of any size up to `max_batch`, however long their steps take."""
    values: dict[str, object] = {"max_batch": max_batch, "max_step_seconds": 1e9}
    return EngineSettings(**(values | changes))  # type: ignore[arg-type]
