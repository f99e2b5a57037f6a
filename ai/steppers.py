"""The steppers of the groups that have samples, and what measures their passes. On the loop's thread.

Imports no torch before the first stepper is made.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING

from ai.batching import Group
from ai.memory import Memory, Pass

if TYPE_CHECKING:
    from ai.cores import Cores
    from ai.families.family import Model
    from ai.gauge import Gauge, Meter
    from ai.stepping import Stepper


class Steppers:
    """`model` gives a model that is in memory, `is_loading` says whether another thread takes memory at present, `relieve` lets
    go of what nobody needs. Passes are measured from when there is a `gauge`; on a CPU `cores` gives them their threads."""

    def __init__(
        self,
        memory: Memory,
        *,
        model: Callable[[str], Model],
        is_loading: Callable[[], bool],
        relieve: Callable[[], bool],
    ) -> None:
        self._memory = memory
        self._model = model
        self._is_loading = is_loading
        self._relieve = relieve
        self._steppers: dict[Group, Stepper] = {}
        self.gauge: Gauge | None = None
        self.cores: Cores | None = None

    def __getitem__(self, group: Group) -> Stepper:
        """The group's stepper, made when it is first asked for. Its model must be in memory."""
        from ai.stepping import Stepper

        if group not in self._steppers:
            self._steppers[group] = Stepper(self._model(group.model), self._meter(group), self._relieve)
        return self._steppers[group]

    def keep(self, groups: Collection[Group]) -> None:
        """Let go of all but these groups' steppers."""
        self._steppers = {group: stepper for group, stepper in self._steppers.items() if group in groups}

    def forget(self, model: str) -> None:
        """Let go of a model's steppers."""
        self.keep([group for group in self._steppers if group.model != model])

    def weigh(self) -> None:
        """Have the budget know what the rows of all steppers take."""
        from ai.gauge import tensors_bytes

        self._memory.latents = tensors_bytes(tensor for one in self._steppers.values() for tensor in one.tensors())

    def _meter(self, group: Group) -> Meter | None:
        from ai.gauge import Meter

        if self.gauge is None:
            return None
        kind = partial(Pass, group.model, group.height, group.width)
        return Meter(self._memory, self.gauge, self._is_loading, kind, self.cores)
