"""What went wrong in an engine, as a job's failure: each kind of error has its code."""

from __future__ import annotations

from ai import types as engine
from server.errors import Code, JobFailure

_FAILURE_CODES: tuple[tuple[type[engine.EngineError], Code], ...] = (
    (engine.ModelLoadError, Code.MODEL_LOAD_FAILED),
    (engine.AdapterError, Code.ADAPTER_INVALID),
    (engine.OutOfMemory, Code.GPU_OUT_OF_MEMORY),
    (engine.MemoryLimitExceeded, Code.MEMORY_LIMIT_EXCEEDED),
    (engine.DeadlineExceeded, Code.DEADLINE_EXCEEDED),
    (engine.EngineError, Code.GENERATION_FAILED),
)


def failure_of(error: engine.EngineError) -> JobFailure:
    """The same, with its field where there is one."""
    if isinstance(error, engine.InputError):
        return JobFailure(Code.INVALID_PARAMETER, str(error), field=error.field, limit=error.limit)
    return JobFailure(next(code for kind, code in _FAILURE_CODES if isinstance(error, kind)), str(error))


def engine_stopped() -> JobFailure:
    """Whatever it was at."""
    return JobFailure(Code.UNAVAILABLE, "the engine stopped before the job was done; submit it again")
