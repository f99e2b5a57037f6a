"""What is recorded of a live job as it goes, and what it says on its way. Its end is recorded before it is told (endings)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import structlog

from ai.types import Json
from server.clock import Clock
from server.errors import Code, JobFailure, RecordsUnavailable
from server.events import Artifact, Output, Phase, Preview, Progress
from server.interfaces import Announcer, JobStore
from server.job import Job, JobState, LeaseLost, moved
from server.jobs.board import Board
from server.jobs.live import LiveJob

log = structlog.get_logger("atelier.jobs")


class Transitions:
    """Records each state with what is to be told of it elsewhere; progress and previews are told, and not recorded."""

    def __init__(self, store: JobStore, board: Board, announcer: Announcer, clock: Clock) -> None:
        self._store = store
        self._board = board
        self._announcer = announcer
        self._clock = clock

    def begin(self, live: LiveJob) -> None:
        """Record that it is being painted, beside what is done for it; its next transition waits for that."""
        live.beside(partial(self.move, live, JobState.PROCESSING))

    async def move(self, live: LiveJob, state: JobState, failure: JobFailure | None = None) -> None:
        """Raises LeaseLost, RecordsUnavailable."""
        number = self._board.last_number(live.job)
        job = moved(live.job, state, at=self._clock.seconds(), last_event=number, failure=failure)
        live.job = await self._record(job)
        log.debug("job.state", job_id=live.job.id, state=state.value)

    async def end(
        self,
        job: Job,
        state: JobState,
        *,
        artifacts: tuple[Artifact, ...] = (),
        warnings: tuple[str, ...] = (),
        failure: JobFailure | None = None,
        output: Json = None,
        figures: Mapping[str, float] | None = None,
    ) -> Job:
        """The job as recorded; where its end cannot be recorded, it has failed, and if need be only says so.

        Raises LeaseLost, RecordsUnavailable.
        """
        at, number = self._clock.seconds(), self._board.next_number(job.id)
        ended = moved(
            job,
            state,
            at=at,
            last_event=number,
            artifacts=artifacts,
            warnings=warnings,
            failure=failure,
            output=output,
            figures=figures,
        )
        recorded = await self._try(ended)
        if recorded is not None:
            return recorded
        unrecorded = JobFailure(Code.INTERNAL_ERROR, "the job's end could not be recorded")
        failed = moved(job, JobState.FAILED, at=at, last_event=number, warnings=warnings, failure=unrecorded)
        return await self._try(failed) or failed

    def progress(self, live: LiveJob, phase: Phase, step: int, fraction: float, eta_seconds: float) -> None:
        """How far it is."""
        self._board.publish(
            Progress(
                number=self._board.next_number(live.job.id),
                job_id=live.job.id,
                phase=phase,
                step=step,
                total_steps=live.steps,
                fraction=fraction,
                eta_seconds=eta_seconds,
            )
        )

    def preview(self, live: LiveJob, image_index: int, step: int, png: bytes) -> None:
        """How one of its images looks."""
        number = self._board.next_number(live.job.id)
        self._board.publish(Preview(number=number, job_id=live.job.id, image_index=image_index, step=step, png=png))

    def output(self, live: LiveJob, offset: int, text: str) -> None:
        """More of its text."""
        number = self._board.next_number(live.job.id)
        self._board.publish(Output(number=number, job_id=live.job.id, offset=offset, text=text))

    async def _try(self, end: Job) -> Job | None:
        """As recorded; None where that cannot be done, for whatever reason of its own. Raises LeaseLost, RecordsUnavailable."""
        try:
            return await self._record(end)
        except (LeaseLost, RecordsUnavailable):
            raise
        except Exception:
            log.exception("job.unrecorded", job_id=end.id, state=end.state.value)
            return None

    async def _record(self, job: Job) -> Job:
        return await self._store.move(job, self._announcer.calls(job))
