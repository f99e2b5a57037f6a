"""Which failures of a job may go well later, and how long to wait before it begins again."""

from __future__ import annotations

from collections.abc import Sequence

from server.errors import Code, JobFailure
from server.job import Job

PASSING = frozenset({Code.GPU_OUT_OF_MEMORY, Code.STORAGE_FAILED})
"""What others' work or a network brought about; anything else would only fail again."""


class Retries:
    """So many retries as there are `delays` (seconds), each after its own."""

    def __init__(self, delays: Sequence[float]) -> None:
        self._delays = tuple(delays)

    def delay(self, job: Job, failure: JobFailure) -> float | None:
        """Seconds until the job should begin again; None: it has failed."""
        if failure.code not in PASSING or job.retries >= len(self._delays):
            return None
        return self._delays[job.retries]
