"""The matrices of a model's adapters, stacked, and the layers that gather them by row. Imports torch.

In every layer that some adapter changes stand A [slots, 8, in, …] and B [slots, 8, out], for all adapters in memory. A
forward pass has a lineup (`ai.lineup`), which says for each of its rows the slots that act on it; a layer gathers them:

    y = W x + Σ scale · B·(A x)        with A [rows, ranks, in, …], scale · B [rows, ranks, out]

in two batched matrix products (of a convolution's A: a grouped convolution, or a product whose parts are shifted and
summed), whatever number of adapters the rows wear between them. Where a row has more slots than one (a higher rank,
several adapters) their ranks stand side by side, and the product is their sum.

What is gathered is kept with the lineup, scales and all: from its second step on a layer only multiplies. Nothing waits
for the device, and nothing changes shape or place from step to step.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, fold

from ai.adapters.adapter import Adapter, LowRank, targets_of
from ai.adapters.reading import read_adapter
from ai.adapters.residents import SLOT_RANK, Worn
from ai.device import Place
from ai.kept_text import replace_forward
from ai.lineup import Band, Kept, Lineup, line_up
from ai.types import AdapterError, EngineSettings

# Slots that a layer's tensors begin with; they double until there are as many as the setting says. Four hold the
# styles of a quiet server, and are 20 to 40 MB of Stable Diffusion 1.5 in float16.
FIRST_SLOTS = 4

# The most pixels of a map on which shifting was no slower than a grouped convolution: one CPU thread, 48 to 256
# channels. Beyond it the sum over the taps costs more than it saves.
SMALL_MAP = 64


class _Worn(threading.local):
    """What the calling thread's forward passes wear: parts of one batch run side by side."""

    lineup = Lineup()


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
        self._worn = _Worn()

    @property
    def count(self) -> int:
        """How many slots there are at most, numbered from 1."""
        return self._settings.adapter_slots

    @property
    def total_bytes(self) -> int:
        """What the stacked tensors take at present."""
        return sum(layer.total_bytes for layer in list(self._layers.values()))

    def line_up(self, told: Sequence[Sequence[Worn]]) -> Lineup:
        """The lineup of rows that wear this, for `wearing`; to be made once for as long as they step together."""
        return line_up(told, self._place.device)

    @contextmanager
    def wearing(self, lineup: Lineup) -> Iterator[None]:
        """Let the rows of the forward passes inside wear what the lineup says."""
        self._worn.lineup = lineup
        try:
            yield
        finally:
            self._worn.lineup = Lineup()

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
        return kind(name, self._modules[name], lambda: self._worn.lineup, self._place)


class AdaptedLayer:
    """Stands in for a layer's `forward`: the layer's own, and what the rows' adapters add to it.

    A is kept as [slots, 8, in, …] and scale · B, alpha's part of the scale, as [slots, 8, out].
    """

    def __init__(self, name: str, layer: Any, lineup: Callable[[], Lineup], place: Place) -> None:
        self._name = name
        self._lineup = lineup
        self._layer = layer
        self._plain = replace_forward(layer, self.forward)
        out, *inside = layer.weight.shape
        self._a = torch.zeros((FIRST_SLOTS + 1, SLOT_RANK, *inside), dtype=place.dtype, device=place.device)
        self._b = torch.zeros((FIRST_SLOTS + 1, SLOT_RANK, out), dtype=place.dtype, device=place.device)

    @property
    def total_bytes(self) -> int:
        """What its matrices take."""
        return self._a.nbytes + self._b.nbytes

    def forward(self, x: Tensor) -> Tensor:
        """As the layer's own; rows are `x`'s first dimension."""
        output: Tensor = self._plain(x)
        lineup = self._lineup()
        for band in lineup.bands:
            if self._name in band.layers:
                self.add(output[band.first : band.last], x[band.first : band.last], band, lineup.kept)
        return output

    def add(self, output: Tensor, x: Tensor, band: Band, kept: Kept) -> None:
        """Add what the rows of a band wear to their `output`, in place."""
        raise NotImplementedError

    def gathered(self, band: Band, alike: int) -> tuple[Tensor, Tensor]:
        """A [rows, ranks, in, …] and scale · B [rows, ranks, out], of one in `alike` rows."""
        slots, scales = band.slots[::alike], band.scales[::alike]
        a, b = (stack.index_select(0, slots.flatten()) for stack in (self._a, self._b))
        b = (b * scales.reshape(-1, 1, 1)).to(b.dtype)
        return a.view(len(slots), -1, *a.shape[2:]), b.view(len(slots), -1, b.shape[-1])

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

    def add(self, output: Tensor, x: Tensor, band: Band, kept: Kept) -> None:
        """Two batched products, the second added where the output stands; rows that wear the same are one matrix."""
        a, b = kept.once((self._name, band.first), lambda: self.gathered(band, band.alike))
        low = torch.bmm(x.reshape(len(a), -1, x.shape[-1]), a.mT)
        output.view(len(a), -1, output.shape[-1]).baddbmm_(low, b)


class AdaptedConvolution(AdaptedLayer):
    """x is [rows, in, height, width]."""

    def __init__(self, name: str, layer: Any, lineup: Callable[[], Lineup], place: Place) -> None:
        super().__init__(name, layer, lineup, place)
        self._taps = tuple(layer.kernel_size)
        self._around = _padding_of_the_sum(layer)

    def add(self, output: Tensor, x: Tensor, band: Band, kept: Kept) -> None:
        """A in the quicker of two ways, then B as a batched product."""
        shifted = self._around is not None and (self._taps == (1, 1) or x[0, 0].numel() <= SMALL_MAP)
        a, b = kept.once((self._name, band.first, shifted), lambda: self._prepared(band, shifted))
        low = self._shifted(x, a, tuple(output.shape[2:])) if shifted else self._grouped(x, a)
        output.view(len(x), len(output[0]), -1).baddbmm_(b.mT, low.view(len(x), b.shape[1], -1))

    def _prepared(self, band: Band, shifted: bool) -> tuple[Tensor, Tensor]:
        a, b = self.gathered(band, 1)
        return (a.flip(3, 4).permute(0, 1, 3, 4, 2).flatten(1, 3), b) if shifted else (a, b)

    def _grouped(self, x: Tensor, a: Tensor) -> Tensor:
        """One convolution with a group a row."""
        layer = self._layer
        return conv2d(
            x.reshape(1, -1, *x.shape[2:]), a.flatten(0, 1), None, layer.stride, layer.padding, layer.dilation, len(x)
        )

    def _shifted(self, x: Tensor, a: Tensor, shape: tuple[int, ...]) -> Tensor:
        """One batched product, of A [rows, ranks · taps, in], and the sum over the kernel's taps, each in its place."""
        low = torch.bmm(a, x.flatten(2))
        if self._taps == (1, 1):
            return low
        assert self._around is not None, "only such layers come here"
        return fold(low, shape, self._taps, self._layer.dilation, self._around)


def _padding_of_the_sum(layer: Any) -> tuple[int, ...] | None:
    """What `fold` must cut off so that it sums to the layer's map; None for a layer that cannot be made by it."""
    if tuple(layer.stride) != (1, 1) or isinstance(layer.padding, str):
        return None
    around = tuple(
        reach * (taps - 1) - padding
        for reach, taps, padding in zip(layer.dilation, layer.kernel_size, layer.padding, strict=True)
    )
    return around if min(around) >= 0 else None
