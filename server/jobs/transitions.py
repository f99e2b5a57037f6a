"""What is recorded of a live job as it goes, and what it says on its way. Its end is recorded before it is told (endings)."""

from __future__ import annotations

from dataclasses import replace

import structlog

from server.clock import Clock
from server.errors import Code, JobFailure, RecordsUnavailable
from server.events import Phase, Preview, Progress
from server.interfaces import Announcer, JobStore
from server.job import TERMINAL, Job, JobState, LeaseLost
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

    async def move(self, live: LiveJob, state: JobState, failure: JobFailure | None = None) -> None:
        """Raises LeaseLost, RecordsUnavailable."""
        number = self._board.last_number(live.job)
        live.job = await self._move_to(replace(live.job, state=state, last_event=number, failure=failure))
        log.info("job.state", job_id=live.job.id, state=state.value)

    async def end(self, job: Job, state: JobState) -> Job:
        """The job as recorded; where its end cannot be recorded, it has failed, and if need be only says so.

        Raises LeaseLost, RecordsUnavailable.
        """
        ended = replace(job, state=state, last_event=self._board.next_number(job.id))
        try:
            return await self._move_to(ended)
        except (LeaseLost, RecordsUnavailable):
            raise
        except Exception:
            log.exception("job.unrecorded", job_id=job.id, state=state.value)
        failure = JobFailure(Code.INTERNAL_ERROR, "the job's end could not be recorded")
        failed = replace(ended, state=JobState.FAILED, failure=failure, artifacts=())
        try:
            return await self._move_to(failed)
        except (LeaseLost, RecordsUnavailable):
            raise
        except Exception:
            log.exception("job.unrecorded", job_id=job.id, state=failed.state.value)
            return replace(failed, completed_at=self._clock.seconds())

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

    async def _move_to(self, job: Job) -> Job:
        at = self._clock.seconds()
        told = replace(job, completed_at=at) if job.state in TERMINAL else job
        return await self._store.move(
            job.id,
            job.state,
            fence=job.fence,
            at=at,
            calls=self._announcer.calls(told),
            last_event=job.last_event,
            artifacts=job.artifacts,
            warnings=job.warnings,
            failure=job.failure,
        )
