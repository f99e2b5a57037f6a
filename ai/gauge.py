"""What tensors and passes take of a device's memory, measured. Imports torch.

On CUDA a pass's peak is the allocator's own figure (`torch.cuda.max_memory_allocated`), which costs nothing. On the CPU
torch keeps no such figure and the process's resident size says more of the C allocator than of the pass; so the pass is
watched operator by operator, and every tensor that one of them makes is counted for as long as it lives. What an operator
takes and gives back inside itself (oneDNN's scratch pads) is not seen there.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ai.cores import Cores
from ai.device import Place, cpu_threads
from ai.memory import Memory, Network, Pass
from ai.types import EngineSettings

T = TypeVar("T")

# A control group's limit, as version 2 and version 1 write it; a container's memory is not the machine's.
_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def memory_limit(settings: EngineSettings, place: Place) -> int:
    """The bytes that an engine may fill: those of the settings, else all that the device has but the reserve."""
    total = device_memory(place.device)
    if settings.memory_limit:
        if place.device.type == "cuda":  # held to by the allocator too
            torch.cuda.set_per_process_memory_fraction(min(1.0, settings.memory_limit / total), place.device)
        return settings.memory_limit
    return max(total - settings.memory_reserve, total // 2)  # a reserve that leaves nothing is not meant so


def main_memory_limit(settings: EngineSettings) -> int:
    """The bytes of main memory that may be filled beside an engine whose device is another: what there is but the reserve."""
    total = device_memory(torch.device("cpu"))
    return max(total - settings.memory_reserve, total // 2)


def device_memory(device: torch.device) -> int:
    """The bytes that a device has; of the CPU those of the machine, or of the container if that has fewer."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in _CGROUP_LIMITS:
        try:
            limits.append(int(path.read_text()))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return min(limits)


def networks_bytes(networks: Mapping[str, nn.Module], device: torch.device) -> int:
    """What the networks' parameters and buffers take of a device, each storage counted once."""
    tensors = (tensor for network in networks.values() for tensor in (*network.parameters(), *network.buffers()))
    return tensors_bytes(tensor for tensor in tensors if tensor.device.type == device.type)


def tensors_bytes(tensors: Iterable[Tensor]) -> int:
    """What the tensors' storages take; several views of one are counted once."""
    storages = {_address(plain): plain for tensor in tensors for plain in _plain(tensor)}
    return sum(plain.untyped_storage().nbytes() for plain in storages.values())


def _plain(tensor: Tensor) -> list[Tensor]:
    """The tensors that a tensor consists of: itself, or those that a quantised weight wraps."""
    names = getattr(tensor, "__tensor_flatten__", None)
    if names is None:
        return [tensor]
    return [plain for name in names()[0] for plain in _plain(getattr(tensor, name))]


def utilisation(place: Place) -> float | None:
    """The share of the last moments (0 to 1) in which the device did something, by NVIDIA's driver; None where that does not
    tell it: on a CPU, without the driver, on a device that keeps it to itself."""
    if place.device.type != "cuda":
        return None
    try:
        return torch.cuda.utilization(place.device) / 100
    except Exception:  # NVML's errors share no type that is there without NVML; a number less is no reason to stop
        return None


def device_use(place: Place) -> tuple[int | None, int | None]:
    """What of the device's memory is used, by whomever, and what it has: bytes, by NVIDIA's driver; None where there is none."""
    if place.device.type != "cuda":
        return None, None
    try:
        free, total = torch.cuda.mem_get_info(place.device)
    except RuntimeError:  # a number less is no reason to stop; a device that is lost is found out by the next step
        return None, None
    return total - free, total


class Gauge(Protocol):
    """Measures passes. `free` says that it costs nothing, so that every pass may be measured."""

    free: bool

    def peak(self, work: Callable[[], T]) -> tuple[T, int]:
        """What `work` returns, and the bytes that it took at most beside what was held before it."""
        ...


def gauge_of(place: Place) -> Gauge:
    """The way to measure on this device."""
    return CudaGauge(place.device) if place.device.type == "cuda" else TensorGauge()


def cores_of(place: Place, settings: EngineSettings) -> Cores | None:
    """Who says how many CPU threads a pass takes; None on a device where that does not matter."""
    return Cores(cpu_threads(settings), torch.set_num_threads) if place.device.type == "cpu" else None


class CudaGauge:
    """By the caching allocator's statistics. What other threads allocate meanwhile is counted along."""

    free = True

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def peak(self, work: Callable[[], T]) -> tuple[T, int]:
        """See `Gauge`. The work need not have ended on the device: memory is taken when an operation is put in line."""
        torch.cuda.reset_peak_memory_stats(self._device)
        before = torch.cuda.memory_allocated(self._device)
        result = work()
        return result, torch.cuda.max_memory_allocated(self._device) - before


class TensorGauge:
    """By the tensors that live."""

    free = False

    def peak(self, work: Callable[[], T]) -> tuple[T, int]:
        """See `Gauge`."""
        watched = _Watched()
        with watched:
            result = work()
        return result, watched.most


class _Watched(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves its __init_subclass__ untyped
    """Counts the storages that operators make, from their making to their end."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._living: set[int] = set()
        self._now = 0
        self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {_address(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and _address(leaf) not in given:
                self._made(leaf)
        return result

    def _made(self, tensor: Tensor) -> None:
        storage, address = tensor.untyped_storage(), _address(tensor)
        if address in self._living:
            return
        size = storage.nbytes()
        self._living.add(address)
        self._now += size
        self.most = max(self.most, self._now)
        weakref.finalize(storage, self._gone, address, size)

    def _gone(self, address: int, size: int) -> None:
        self._living.discard(address)
        self._now -= size


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class Meter:
    """Measures the passes of one model and size, and says how many rows of one fit.

    `disturbed` says whether another thread takes memory at present, which the allocator's figures would show as the pass's.
    `cores` gives the passes their CPU threads.
    """

    def __init__(
        self,
        memory: Memory,
        gauge: Gauge,
        disturbed: Callable[[], bool],
        kind: Callable[[Network], Pass],
        cores: Cores | None = None,
    ) -> None:
        self._memory = memory
        self._gauge = gauge
        self._cores = cores
        self._disturbed = disturbed
        self._kind = kind

    def fitting(self, network: Network, rows: int) -> int:
        """How many of these rows have room in one pass."""
        return self._memory.fitting(self._kind(network), rows)

    def run(self, network: Network, rows: int, work: Callable[[int], T], most_parts: int = 1) -> T:
        """Run a pass of so many rows, and measure it if that costs nothing or is worth its price.

        `work` is told in how many parts to make it, at most so many, which `abreast` runs side by side.
        """
        kind = self._kind(network)
        worth_it = not self._disturbed() if self._gauge.free else self._memory.is_news(kind, rows)
        if not worth_it:
            return self._quickly(kind, rows, work, most_parts)
        result, size = self._gauge.peak(lambda: work(1))
        self._memory.note_peak(kind, rows, size)
        return result

    def abreast(self, parts: Sequence[Callable[[], T]]) -> list[T]:
        """What each part of a pass makes, in inference mode like the pass."""
        assert self._cores is not None, "passes are made in parts on a CPU alone"
        return self._cores.abreast([torch.inference_mode()(part) for part in parts])

    def _quickly(self, kind: Pass, rows: int, work: Callable[[int], T], most_parts: int) -> T:
        """Batches are alike here that need as many bits to count their rows."""
        if self._cores is None:
            return work(1)
        return self._cores.run((kind, rows.bit_length()), work, most_parts)
