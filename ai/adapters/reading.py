"""A path becomes an adapter, checked against the model it is for. Imports torch.

Nothing of a model is touched here: reading may be done ahead, on any thread.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import torch

from ai.adapters.adapter import Adapter, LowRank, Targets, assemble
from ai.adapters.files import open_files
from ai.adapters.layouts import Half, halves_of
from ai.types import MAX_ADAPTER_BYTES, MAX_ADAPTER_RANK, AdapterError

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def read_adapter(
    path: Path, targets: Targets, *, max_bytes: int = MAX_ADAPTER_BYTES, max_rank: int = MAX_ADAPTER_RANK
) -> Adapter:
    """Read the adapter at `path` (see `ai.adapters.files`) for the model that has `targets`.

    Raises AdapterError, whose text begins with the file and names the key, for whatever cannot be applied as it stands:
    nothing is left out, and nothing is filled up.
    """
    layers: dict[str, LowRank] = {}
    for stored in open_files(path, max_bytes):
        found = halves_of(stored, targets)
        for half in found:
            _check_tensor(stored.name, half)
        for layer, (a, b) in _pairs(stored.name, found).items():
            _check_shapes(stored.name, a, b, targets.shapes[layer], max_rank)
            rank = a.tensor.shape[0]
            layers[layer] = LowRank(a.tensor, b.tensor, _scale(stored.name, a, rank))
    return assemble(layers)


def _check_tensor(name: str, half: Half) -> None:
    if half.tensor.dtype not in _DTYPES:
        dtype = str(half.tensor.dtype).removeprefix("torch.")
        raise AdapterError(f"{name}: {half.key}: is {dtype}; float32, float16 and bfloat16 are read")
    if not half.tensor.isfinite().all():
        raise AdapterError(f"{name}: {half.key}: has numbers that are not finite")


def _pairs(name: str, found: Iterable[Half]) -> dict[str, tuple[Half, Half]]:
    halves: dict[str, dict[str, Half]] = {}
    for half in found:
        other = halves.setdefault(half.layer, {}).setdefault(half.letter, half)
        if other is not half:
            raise AdapterError(f"{name}: {half.key}: says the same as {other.key}")
    for pair in halves.values():
        for letter in "AB":
            if letter not in pair:
                (alone,) = pair.values()
                raise AdapterError(f"{name}: {alone.key}: its other half (lora_{letter}, down or up) is missing")
    return {layer: (pair["A"], pair["B"]) for layer, pair in halves.items()}


def _check_shapes(name: str, a: Half, b: Half, weight: tuple[int, ...], max_rank: int) -> None:
    """`weight` is the model's [out, in, …]: A must be [rank, in, …], B [out, rank, 1, …]."""
    rank = a.tensor.shape[0] if a.tensor.dim() else 0
    wanted_a = (rank, *weight[1:])
    wanted_b = (weight[0], rank, *(1 for _ in weight[2:]))
    for half, wanted in ((a, wanted_a), (b, wanted_b)):
        shape = tuple(half.tensor.shape)
        if shape != wanted or rank < 1:
            raise AdapterError(
                f"{name}: {half.key}: has shape {list(shape)}, the model's {half.layer} needs {list(wanted)}; "
                "it was made for another base model"
            )
    if rank > max_rank:
        raise AdapterError(f"{name}: {a.key}: has rank {rank}; at most {max_rank} is taken")


def _scale(name: str, a: Half, rank: int) -> float:
    _, _, inside = a.layer.partition(".")
    scale = a.scaling.of(inside, rank)
    if not math.isfinite(scale):
        raise AdapterError(f"{name}: {a.key}: its alpha is not a finite number")
    return scale
