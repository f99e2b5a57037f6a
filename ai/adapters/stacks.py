"""The matrices of a model's adapters, stacked, and the layers that gather them by row. Imports torch.

In every layer that some adapter changes stand A [slots, 8, in, …] and B [slots, 8, out], for all adapters in memory. A
forward pass is told for each of its rows the slots that act on it, and gathers them:

    y = W x + Σ scale · B·(A x)        with A [rows, 8, in], B [rows, 8, out], scale [rows]

in two batched matrix products (of a convolution: one grouped convolution, then one product), whatever number of adapters
the rows wear between them. A row that has more slots than one (a higher rank, several adapters) has the sum of them: the
first slots of all rows are a pass, their second ones another, of those rows alone that have so many, and so on.

The slots to gather and the scales are tensors on the device, made once for as long as the same rows step together; nothing
waits for the device, and nothing changes shape from step to step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from ai.adapters.adapter import Adapter, LowRank, targets_of
from ai.adapters.reading import read_adapter
from ai.adapters.residents import SLOT_RANK, Worn
from ai.device import Place
from ai.types import AdapterError, EngineSettings

# Slots that a layer's tensors begin with; they double until there are as many as the setting says. Four hold the
# styles of a quiet server, and are 20 to 40 MB of Stable Diffusion 1.5 in float16.
FIRST_SLOTS = 4


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """One slot of some rows. `rows` is int64 [n], or None where these are all rows; `slots` int64 [n]; `scales` float32
    [n, 1, 1]. `layers` are those that one of the adapters changes."""

    rows: Tensor | None
    slots: Tensor
    scales: Tensor
    layers: frozenset[str]


WornRows = tuple[Column, ...]
"""What the rows of a forward pass wear: the first slots of all that have any, then the second ones, and so on."""


def worn_rows(told: Sequence[Sequence[Worn]], device: torch.device) -> WornRows | None:
    """What each of the rows wears, as tensors; None where nobody wears anything."""
    slots = [[(slot, worn) for worn in row for slot in worn.resident.slots] for row in told]
    columns = (
        [(row, *of_row[place]) for row, of_row in enumerate(slots) if place < len(of_row)]
        for place in range(max(map(len, slots)))
    )
    return tuple(_column(column, len(told), device) for column in columns) or None


def _column(column: Sequence[tuple[int, int, Worn]], rows: int, device: torch.device) -> Column:
    where, slots, worn = zip(*column, strict=True)
    scales = torch.tensor([one.scale for one in worn], dtype=torch.float32, device=device)
    layers = frozenset[str]().union(*(one.resident.layers for one in worn))
    everyone = None if len(column) == rows else torch.tensor(where, device=device)
    return Column(everyone, torch.tensor(slots, device=device), scales.view(-1, 1, 1), layers)


class AdapterStacks:
    """The slots of one model's networks ("unet" and others by name), and what a forward pass wears.

    `read` and `write` may be called on another thread while the networks run: slots that are written are worn by nobody.
    A network is as it was made until a first adapter changes a layer of it, and computes the same bits as then whenever
    nobody wears any.
    """

    def __init__(self, networks: Mapping[str, nn.Module], place: Place, settings: EngineSettings) -> None:
        self._place = place
        self._settings = settings
        self._targets = targets_of(networks)
        self._modules = {
            name: networks[name.partition(".")[0]].get_submodule(name.partition(".")[2])
            for name in self._targets.shapes
        }
        self._layers: dict[str, AdaptedLayer] = {}
        self._worn: WornRows = ()

    @property
    def count(self) -> int:
        """How many slots there are at most, numbered from 1."""
        return self._settings.adapter_slots

    @property
    def total_bytes(self) -> int:
        """What the stacked tensors take at present."""
        return sum(layer.total_bytes for layer in list(self._layers.values()))

    def rows(self, told: Sequence[Sequence[Worn]]) -> WornRows | None:
        """What the rows of a batch wear, for `wearing`; to be made once for as long as they step together."""
        return worn_rows(told, self._place.device)

    @contextmanager
    def wearing(self, rows: WornRows | None) -> Iterator[None]:
        """Let the rows of the forward passes inside wear this."""
        self._worn = rows or ()
        try:
            yield
        finally:
            self._worn = ()

    def read(self, path: Path) -> Adapter:
        """Read an adapter and check it against the networks. Raises AdapterError."""
        limits = self._settings
        return read_adapter(path, self._targets, max_bytes=limits.max_adapter_bytes, max_rank=limits.max_adapter_rank)

    def write(self, slots: Sequence[int], adapter: Adapter) -> None:
        """Put an adapter into slots that no row wears, in all layers: where it changes nothing they become zeros.

        Raises AdapterError for numbers that the networks' format does not hold.
        """
        # Ordinary tensors: those made in inference mode could be written in no other.
        with torch.inference_mode(mode=False), torch.no_grad():
            for name in adapter.layers.keys() - self._layers.keys():
                self._layers[name] = self._adapted(name)
            for name, layer in self._layers.items():
                layer.write(slots, adapter.layers.get(name), self.count)
            if self._place.device.type == "cuda":
                torch.cuda.current_stream(self._place.device).synchronize()  # this thread's; the loop has its own

    def shrink(self, count: int) -> None:
        """Let go of the memory of all slots but the first so many; they come back when they are written."""
        with torch.inference_mode(mode=False), torch.no_grad():  # ordinary tensors, as in `write`
            for layer in self._layers.values():
                layer.shrink(count)

    def _adapted(self, name: str) -> AdaptedLayer:
        kind = AdaptedConvolution if isinstance(self._modules[name], nn.Conv2d) else AdaptedLinear
        return kind(name, self._modules[name], lambda: self._worn, self._place)


class AdaptedLayer:
    """Stands in for a layer's `forward`: the layer's own, and what the rows' adapters add to it.

    A is kept as [slots, 8, in, …] and scale · B, alpha's part of the scale, as [slots, 8, out].
    """

    def __init__(self, name: str, layer: Any, worn: Callable[[], WornRows], place: Place) -> None:
        self._name = name
        self._worn = worn
        self._layer = layer
        self._plain = layer.forward
        out, *inside = layer.weight.shape
        self._a = torch.zeros((FIRST_SLOTS + 1, SLOT_RANK, *inside), dtype=place.dtype, device=place.device)
        self._b = torch.zeros((FIRST_SLOTS + 1, SLOT_RANK, out), dtype=place.dtype, device=place.device)
        layer.forward = self.forward

    @property
    def total_bytes(self) -> int:
        """What its matrices take."""
        return self._a.nbytes + self._b.nbytes

    def forward(self, x: Tensor) -> Tensor:
        """As the layer's own; rows are `x`'s first dimension."""
        output: Tensor = self._plain(x)
        for column in self._worn():
            if self._name not in column.layers:
                continue
            a = self._a.index_select(0, column.slots)
            b = (self._b.index_select(0, column.slots) * column.scales).to(a.dtype)
            if column.rows is None:
                self.add(output, x, a, b)
            else:
                some = output.index_select(0, column.rows)
                self.add(some, x.index_select(0, column.rows), a, b)
                output.index_copy_(0, column.rows, some)
        return output

    def add(self, output: Tensor, x: Tensor, a: Tensor, b: Tensor) -> None:
        """Add to `output`, in place: A is [rows, 8, in, …], B [rows, 8, out]."""
        raise NotImplementedError

    def write(self, slots: Sequence[int], low: LowRank | None, most: int) -> None:
        """Fill slots, with zeros where `low` is None or of a smaller rank; the tensors grow to `most` slots if they must."""
        while max(slots) >= len(self._a):
            after = min(max(2 * (len(self._a) - 1), FIRST_SLOTS), most) + 1
            self._a, self._b = self._grown(self._a, after), self._grown(self._b, after)
        where = torch.tensor(slots, device=self._a.device)
        self._a[where] = self._padded(None if low is None else low.a, self._a, len(slots))
        self._b[where] = self._padded(
            None if low is None else low.b.flatten(1).T.float() * low.scale, self._b, len(slots)
        )

    def shrink(self, count: int) -> None:
        """Keep the first slots only (and the empty one)."""
        if len(self._a) > count + 1:
            self._a, self._b = self._a[: count + 1].clone(), self._b[: count + 1].clone()

    def _padded(self, matrix: Tensor | None, stack: Tensor, slots: int) -> Tensor:
        padded = torch.zeros((slots * SLOT_RANK, *stack.shape[2:]), dtype=stack.dtype)
        if matrix is not None:
            padded[: len(matrix)] = matrix
            if not padded.isfinite().all():
                raise AdapterError(f"{self._name}: has numbers beyond {str(stack.dtype).removeprefix('torch.')}")
        return padded.view(slots, *stack.shape[1:]).to(stack.device)

    @staticmethod
    def _grown(stack: Tensor, slots: int) -> Tensor:
        grown = stack.new_zeros((slots, *stack.shape[1:]))
        grown[: len(stack)] = stack
        if stack.is_cuda:  # the loop's stream may be reading it still
            stack.record_stream(torch.cuda.default_stream(stack.device))
        return grown


class AdaptedLinear(AdaptedLayer):
    """x is [rows, …, in]."""

    def add(self, output: Tensor, x: Tensor, a: Tensor, b: Tensor) -> None:
        """Two batched products, the second added where the output stands."""
        rows = len(x)
        low = torch.bmm(x.reshape(rows, -1, x.shape[-1]), a.mT)
        output.view(rows, -1, output.shape[-1]).baddbmm_(low, b)


class AdaptedConvolution(AdaptedLayer):
    """x is [rows, in, height, width]."""

    def add(self, output: Tensor, x: Tensor, a: Tensor, b: Tensor) -> None:
        """A as one convolution with a group a row, which measured fastest on a CPU of four ways; B as a batched product."""
        rows, layer = len(x), self._layer
        low = conv2d(
            x.reshape(1, -1, *x.shape[2:]), a.flatten(0, 1), None, layer.stride, layer.padding, layer.dilation, rows
        )
        low = low.view(rows, SLOT_RANK, -1)
        output.view(rows, len(output[0]), -1).baddbmm_(b.mT, low)
