"""Which device and number format an engine works in, and the thread-local torch state its loop needs. Imports torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch

from ai.types import DeviceLost, EngineSettings


@dataclass(frozen=True, slots=True)
class Place:
    """Where tensors live and the number format the networks compute in (latents are float32 everywhere)."""

    device: torch.device
    dtype: torch.dtype


def find_place(settings: EngineSettings) -> Place:
    """The device and dtype that the settings mean here. Raises DeviceLost for a device that is not there."""
    name = settings.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceLost(f"device: {name!r} is not a device: {error}") from error
    if device.type not in ("cpu", "cuda"):
        raise DeviceLost(f"device: {name!r} is neither a CPU nor a CUDA device")
    if device.type == "cuda":
        if not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count():
            raise DeviceLost(f"device: {name!r} is not there; torch sees {torch.cuda.device_count()} CUDA device(s)")
        device = torch.device("cuda", device.index or 0)
    automatic = torch.float16 if device.type == "cuda" else torch.float32  # few CPUs are quick in half precision
    dtypes = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    return Place(device, dtypes.get(settings.dtype, automatic))


def driver_name(place: Place) -> str:
    """What the driver calls the device; "" for a CPU."""
    return torch.cuda.get_device_name(place.device) if place.device.type == "cuda" else ""


# torch's own choice, one a core; asked for before anybody changes it.
_ONE_A_CORE = torch.get_num_threads()


def cpu_threads(settings: EngineSettings) -> int:
    """How many threads an operation on the CPU has at most."""
    return settings.torch_threads or _ONE_A_CORE


@contextmanager
def working_on(settings: EngineSettings) -> Iterator[Place]:
    """Set what torch keeps per thread: no gradients, the CUDA device, the number of CPU threads."""
    place = find_place(settings)
    torch.set_num_threads(cpu_threads(settings))
    cuda = torch.cuda.device(place.device) if place.device.type == "cuda" else nullcontext()
    with torch.inference_mode(), cuda:
        yield place
