"""Keys and values of texts of different lengths in one batch: each row's from its own beginning. Imports torch.

A row's next token goes to the place after its last one, whatever the others' lengths are; a mask keeps each from looking beyond
its own end. Rows come at the end and go by the last one taking their place, so that those in use are always the first.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

BLOCK = 64  # tokens by which the places grow


class _Layer(CacheLayerMixin):  # type: ignore[misc]  # transformers has no types
    """One layer's: [rows, heads, places, width of a head]."""

    is_sliding = False

    def __init__(self, rows: RowCache, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self._rows = rows
        self.keys, self.values = keys, values
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """It has been."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Take in what is [rows, heads, 1, width], and give all of it."""
        rows = self._rows
        self.keys[rows.numbers, :, rows.positions] = key_states[:, :, 0]
        self.values[rows.numbers, :, rows.positions] = value_states[:, :, 0]
        return self.keys[: rows.count, :, : rows.width], self.values[: rows.count, :, : rows.width]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """For masks that are made from it; ours is given."""
        return self._rows.width, 0

    def get_seq_length(self) -> int:
        """The longest row's."""
        return self._rows.width - 1

    def get_max_length(self) -> int:
        """It grows."""
        return -1


class RowCache:
    """The rows' lengths, and the layers' tensors, which are there while there are rows."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self._device = device
        self._dtype = dtype
        self._lengths: list[int] = []
        self._layers: list[_Layer] = []
        self.numbers = self.positions = torch.empty(0, dtype=torch.long, device=device)
        self.width = 0
        self.cache: Cache | None = None

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self._lengths)

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(2 * layer.keys.numel() * layer.keys.element_size() for layer in self._layers)

    def join(self, prompt: Cache) -> None:
        """One more row, whose prompt's keys and values are those of a batch of one."""
        length = prompt.layers[0].keys.shape[-2]
        self._make_room(prompt, self.count + 1, length + 1)
        for ours, theirs in zip(self._layers, prompt.layers, strict=True):
            ours.keys[self.count, :, :length] = theirs.keys[0]
            ours.values[self.count, :, :length] = theirs.values[0]
        self._lengths.append(length)

    def leave(self, row: int) -> None:
        """A row goes; the last one has its number from now on."""
        last = self.count - 1
        for layer in self._layers if row != last else ():
            layer.keys[row] = layer.keys[last]
            layer.values[row] = layer.values[last]
        self._lengths[row] = self._lengths[last]
        del self._lengths[last]
        if not self._lengths:
            self._layers, self.cache = [], None

    def open(self) -> tuple[Tensor, Tensor]:
        """Make ready for a token of each row: their positions [rows, 1], and what each may look at, [rows, 1, 1, places].

        The same again, where the pass before did not come to its end, is the same place: `close` is what moves on.
        """
        self.width = max(self._lengths) + 1
        self._grow(len(self._layers[0].keys), self.width)
        self.numbers = torch.arange(self.count, device=self._device)
        self.positions = torch.tensor(self._lengths, device=self._device)
        beyond = torch.arange(self.width, device=self._device) > self.positions[:, None]
        mask = torch.zeros(beyond.shape, dtype=self._dtype, device=self._device)
        mask = mask.masked_fill(beyond, torch.finfo(self._dtype).min)
        return self.positions[:, None], mask[:, None, None, :]

    def close(self) -> None:
        """Each row has a token more."""
        self._lengths = [length + 1 for length in self._lengths]

    def _make_room(self, prompt: Cache, rows: int, places: int) -> None:
        if not self._layers:
            empty = [(_empty_like(layer.keys), _empty_like(layer.values)) for layer in prompt.layers]
            self._layers = [_Layer(self, keys, values) for keys, values in empty]
            self.cache = Cache(layers=self._layers)
        have = len(self._layers[0].keys)
        self._grow(have if rows <= have else max(rows, 2 * have), places)

    def _grow(self, rows: int, places: int) -> None:
        keys = self._layers[0].keys
        if rows <= len(keys) and places <= keys.shape[-2]:
            return
        places = max(-(-places // BLOCK) * BLOCK, keys.shape[-2])
        for layer in self._layers:
            layer.keys, layer.values = _grown(layer.keys, rows, places), _grown(layer.values, rows, places)


def _empty_like(prompt: Tensor) -> Tensor:
    return prompt.new_zeros((0, prompt.shape[1], 0, prompt.shape[3]))


def _grown(old: Tensor, rows: int, places: int) -> Tensor:
    """Zeros, not whatever was in memory: a NaN would show through the mask."""
    new = old.new_zeros((max(rows, len(old)), old.shape[1], places, old.shape[3]))
    new[: old.shape[0], :, : old.shape[2]] = old
    return new
