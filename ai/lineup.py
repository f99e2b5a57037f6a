"""What the rows of a forward pass have in common from step to step, for as long as the same ones step together. Imports torch.

Which adapters' slots each row wears, and whatever the layers made of that, or of the prompts, and would make again at every
step. A lineup is made for its rows and goes with them. The slots they wear are held until then (`ai.adapters.residents`), so
nothing that is kept here can be out of date.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from math import gcd

import torch
from torch import Tensor

from ai.adapters.residents import Worn

EMPTY = 0  # the slot that nobody is ever given: zeros

# What a lineup keeps at most; whatever is beyond is made again at each step, which costs little where layers are wide. The
# embedded model's twenty rows with ten adapters take 37 MB; the smallest cards that the large models run on have 4 GB.
KEPT_BYTES = 256 * 1024**2


class Kept:
    """Tensors that are made once, up to `limit` bytes."""

    def __init__(self, limit: int = KEPT_BYTES) -> None:
        self._kept: dict[Hashable, tuple[Tensor | None, tuple[Tensor, ...]]] = {}
        self._room = limit

    def once(
        self, key: Hashable, make: Callable[[], tuple[Tensor, ...]], of: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """What `make` makes, or made when it was asked under this key. What was made of another tensor than `of` does not
        count."""
        source, found = self._kept.get(key, (None, None))
        if found is not None and source is of:
            return found
        made = make()
        size = sum(tensor.nbytes for tensor in made)
        if found is None and size <= self._room:
            self._room -= size
            self._kept[key] = (of, made)
        return made

    def tensors(self) -> Iterator[Tensor]:
        """All that is kept."""
        return (tensor for _, made in self._kept.values() for tensor in made)


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """Neighbouring rows that gather equally many slots: `slots` is int64 [rows, most slots], filled up with the empty one;
    `scales` float32 of the same shape. `layers` are those that one of their adapters changes.

    Each `alike` rows in turn wear the same.
    """

    first: int
    last: int  # the first that is not one of them
    slots: Tensor
    scales: Tensor
    layers: frozenset[str]
    alike: int


@dataclass(frozen=True, slots=True, eq=False)
class Lineup:
    """The rows that wear something, in bands, and what is kept for all of them."""

    bands: tuple[Band, ...] = ()
    kept: Kept = field(default_factory=Kept)


def line_up(told: Sequence[Sequence[Worn]], device: torch.device) -> Lineup:
    """The lineup of rows that wear this. It costs least where rows with as many slots, and those that wear the same, are
    neighbours."""
    bands, first = [], 0
    for slots, together in groupby(told, slots_of):
        rows = list(together)
        if slots:
            bands.append(_band(first, rows, slots, device))
        first += len(rows)
    return Lineup(tuple(bands))


def slots_of(row: Sequence[Worn]) -> int:
    """How many slots a row gathers: a power of two, so that few rows find no neighbour who gathers as many."""
    count = sum(len(worn.resident.slots) for worn in row)
    return 1 << (count - 1).bit_length() if count else 0


def _band(first: int, rows: Sequence[Sequence[Worn]], most: int, device: torch.device) -> Band:
    worn = [[(slot, one.scale) for one in row for slot in one.resident.slots] for row in rows]
    full = [row + [(EMPTY, 0.0)] * (most - len(row)) for row in worn]
    slots = torch.tensor([[slot for slot, _ in row] for row in full], device=device)
    scales = torch.tensor([[scale for _, scale in row] for row in full], dtype=torch.float32, device=device)
    layers = frozenset[str]().union(*(one.resident.layers for row in rows for one in row))
    alike = gcd(*(len(list(same)) for _, same in groupby(rows, tuple)))
    return Band(first, first + len(rows), slots, scales, layers, alike)
