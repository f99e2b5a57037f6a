"""How much of a device's memory is spoken for, and by what: the one budget of models, adapters, latents, activations.

Plain numbers: whoever holds tensors says what they take, whoever ran a pass says what it took (`ai.gauge` measures both).
Everything here runs on the loop's thread.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, NamedTuple

from ai.types import MemoryNumbers

Network = Literal["unet", "vae"]
"""What a pass runs: a step of the one, a decode by the other."""


class Pass(NamedTuple):
    """What decides how much a row of a pass takes: the model, the size in pixels, and which of its networks runs."""

    model: str
    height: int
    width: int
    network: Network


class Memory:
    """The budget of one device, in bytes. A `limit` of 0 means that it is not known: then nothing is held back for it."""

    def __init__(self, limit: int = 0) -> None:
        self.limit = limit
        self.latents = 0
        self.texts = 0  # keys and values of the texts under way, as long as they may become
        self._models: dict[str, int] = {}
        self._adapters: dict[str, int] = {}
        self._peaks: dict[Pass, dict[int, int]] = {}

    # Models and their adapters

    def hold_model(self, name: str, size: int) -> None:
        """Count a model: what it is expected to take from when its loading begins, what it takes from when it has ended."""
        self._models[name] = size

    def hold_adapters(self, model: str, size: int) -> None:
        """Count what a model's adapters take together."""
        self._adapters[model] = size

    def release_model(self, name: str) -> None:
        """The model is no more, and its adapters with it."""
        self._models.pop(name, None)
        self._adapters.pop(name, None)

    def fits(self, size: int) -> bool:
        """Whether so much more has room, beside what the passes of the models in memory are known to take."""
        return not self.limit or size <= self.limit - self._held - self.activations

    # Passes

    def is_news(self, kind: Pass, rows: int) -> bool:
        """Whether a pass of so many rows should be measured, where measuring costs something.

        Each doubling is: sizes in between follow from it, and a batch that grows row by row is not measured at each.
        """
        known = self._peaks.get(kind)
        return not known or rows >= 2 * max(known)

    def note_peak(self, kind: Pass, rows: int, size: int) -> None:
        """A pass of so many rows took so much at its highest, beside what was held before it."""
        peaks = self._peaks.setdefault(kind, {})
        peaks[rows] = max(size, peaks.get(rows, 0))

    def expected(self, kind: Pass, rows: int) -> int:
        """What a pass of so many rows takes: what it took, else its share of the next larger that was measured, else of
        the largest; 0 where none was. (A pass has a part that does not grow with the rows, so this is rather too much.)"""
        known = self._peaks.get(kind)
        if not known:
            return 0
        nearest = min((size for size in known if size >= rows), default=max(known))
        return -(-known[nearest] * rows // nearest)

    def fitting(self, kind: Pass, rows: int) -> int:
        """How many of the rows fit into one pass beside all that is held: at least 1, since trying is the only proof."""
        if not self.limit or kind not in self._peaks:
            return rows
        room = self.limit - self._held
        return next((some for some in range(rows, 1, -1) if self.expected(kind, some) <= room), 1)

    def forget_passes(self, present: Collection[str]) -> None:
        """Let go of what was measured of models that are not `present` any more."""
        self._peaks = {kind: peaks for kind, peaks in self._peaks.items() if kind.model in present}

    # What is told

    @property
    def activations(self) -> int:
        """The most that a pass of the models in memory was seen to take. Only one pass runs at a time."""
        there = (peaks for kind, peaks in self._peaks.items() if kind.model in self._models)
        return max((max(peaks.values()) for peaks in there), default=0)

    @property
    def _held(self) -> int:
        return sum(self._models.values()) + sum(self._adapters.values()) + self.latents + self.texts

    @property
    def numbers(self) -> MemoryNumbers:
        """By kind."""
        return MemoryNumbers(
            limit=self.limit,
            models=sum(self._models.values()),
            adapters=sum(self._adapters.values()),
            latents=self.latents + self.texts,
            activations=self.activations,
        )
