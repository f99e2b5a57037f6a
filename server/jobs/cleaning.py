"""Old jobs are forgotten, and their pictures deleted with them: by age, by number and by the room that pictures take."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from ai.types import GenerationRequest
from server.clock import Clock, Pauses
from server.errors import RecordsUnavailable
from server.futures import Tasks
from server.interfaces import AnswerRecords, ArtifactStore, Forgetting
from server.job import Job
from server.jobs.finishing import is_ours, keys_ever

log = structlog.get_logger("atelier.jobs")

EVERY = 60.0  # seconds between looks
AT_ONCE = 100  # jobs; their records and pictures are read, deleted and forgotten before the next are looked at


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """How much is kept of what has ended: jobs, seconds, bytes of pictures. Whatever is beyond one of them goes."""

    jobs: int
    seconds: float
    artifact_bytes: int
    usage_seconds: float = math.inf
    answers: int = 0
    answer_seconds: float = 0.0


class Cleaning:
    """Looks from time to time, what ended first going first."""

    def __init__(
        self,
        records: Forgetting,
        artifacts: ArtifactStore,
        keep: Keep,
        clock: Clock,
        forget_usage: Callable[[float], Awaitable[None]] | None = None,
        answers: AnswerRecords | None = None,
    ) -> None:
        self._answers = answers
        self._forget_usage = forget_usage
        self._records = records
        self._artifacts = artifacts
        self._keep = keep
        self._clock = clock
        self._pauses = Pauses(clock)
        self._tasks = Tasks()

    def begin(self) -> None:
        """The first look is some time after the start, which has enough to do."""
        self._tasks.start(self._clean_for_ever())

    def stop(self) -> None:
        """Look no more."""
        self._pauses.stop()

    async def clean(self) -> int:
        """Forget all that is beyond the limits; how many jobs. Raises RecordsUnavailable, and OSError of the storage."""
        forgotten = 0
        while jobs := await self._beyond():
            for job in jobs:
                await self._delete_pictures(job)
            await self._records.forget([job.id for job in jobs])
            forgotten += len(jobs)
        if self._forget_usage is not None:
            await self._forget_usage(self._clock.seconds() - self._keep.usage_seconds)
        if self._answers is not None:
            before = self._clock.seconds() - self._keep.answer_seconds
            await self._answers.forget(beyond=self._keep.answers, before=before)
        return forgotten

    async def _beyond(self) -> list[Job]:
        return await self._records.oldest(
            beyond=self._keep.jobs,
            ended_before=self._clock.seconds() - self._keep.seconds,
            more_bytes_than=self._keep.artifact_bytes,
            most=AT_ONCE,
        )

    async def _delete_pictures(self, job: Job) -> None:
        """First the pictures, then the record that knows of them: after a crash in between they are deleted once more.

        Also those of a job that did not succeed, which a server that was killed may have left.
        """
        painted = job.request.num_images if isinstance(job.request, GenerationRequest) else 1
        keys = [artifact.key for artifact in job.artifacts]
        for key in keys or [key for index in range(painted) for key in keys_ever(job, index)]:
            if is_ours(key):
                await self._artifacts.delete(key)

    async def _clean_for_ever(self) -> None:
        while await self._pauses.take(EVERY):
            try:
                forgotten = await self.clean()
            except (RecordsUnavailable, OSError) as error:
                log.warning("cleaning.failed", reason=getattr(error, "reason", str(error)))
            else:
                if forgotten:
                    log.info("jobs.forgotten", jobs=forgotten)
