"""Whatever a step raised, in the engine's own error types. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator

from ai.types import DeviceLost, EngineError, GenerationError, OutOfMemory

# What torch's CPU allocator says when it finds no memory: a plain RuntimeError, unlike the GPU's.
_CPU_ALLOCATOR = "DefaultCPUAllocator"


def as_engine_error(error: BaseException) -> EngineError:
    """The engine's own error for any exception; out of memory is told from the rest."""
    if isinstance(error, EngineError):
        return error
    first_line = _first_line(error)
    if _says_device_lost(error):
        return DeviceLost(f"the device has failed: {first_line}")
    if _says_out_of_memory(error):
        return OutOfMemory(f"the device has no room for this request even alone: {first_line}")
    return GenerationError(f"{type(error).__name__}: {first_line}")


def ran_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error is one of memory, or was raised because of one."""
    return any(isinstance(one, OutOfMemory) or _says_out_of_memory(one) for one in _causes(error))


def lost_device(error: BaseException | None) -> DeviceLost | None:
    """The loss of the device, if an error is that, or was raised because of it."""
    lost = (one for one in map(as_engine_error, _causes(error)) if isinstance(one, DeviceLost))
    return next(lost, None)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _says_device_lost(error: BaseException) -> bool:
    # What torch raises for a CUDA error after which the process can do nothing more on that device (an illegal memory
    # access, a device that fell off the bus, an uncorrectable memory fault). Out of memory is another type.
    return "AcceleratorError" in {kind.__name__ for kind in type(error).__mro__}


def _says_out_of_memory(error: BaseException) -> bool:
    # torch.OutOfMemoryError by name: this must work where torch is not imported, or cannot be.
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"OutOfMemoryError", "MemoryError"}) or _CPU_ALLOCATOR in _first_line(error)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0]
