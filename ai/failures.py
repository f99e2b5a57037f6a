"""Whatever a step raised, in the engine's own error types. Imports no torch."""

from __future__ import annotations

from ai.types import EngineError, GenerationError, OutOfMemory

# What torch's CPU allocator says when it finds no memory: a plain RuntimeError, unlike the GPU's.
_CPU_ALLOCATOR = "DefaultCPUAllocator"


def as_engine_error(error: BaseException) -> EngineError:
    """The engine's own error for any exception; out of memory is told from the rest."""
    if isinstance(error, EngineError):
        return error
    first_line = (str(error).splitlines() or [""])[0]
    # torch.OutOfMemoryError by name: this must work where torch is not imported, or cannot be.
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & {"OutOfMemoryError", "MemoryError"} or _CPU_ALLOCATOR in first_line:
        return OutOfMemory(f"the device has no room for this request even alone: {first_line}")
    return GenerationError(f"{type(error).__name__}: {first_line}")
