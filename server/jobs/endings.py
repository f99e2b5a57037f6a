"""The end of a job, which comes once: recorded, then told."""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from ai.types import Answered, Json
from server.clock import Clock
from server.errors import Code, JobFailure, RecordsUnavailable
from server.events import Artifact
from server.futures import Tasks
from server.interfaces import Painter
from server.job import JobState, LeaseLost
from server.jobs.answers import Answers
from server.jobs.board import Board, terminal_event
from server.jobs.finishing import Finisher
from server.jobs.leaving import Leaving
from server.jobs.live import LiveJob, LiveJobs
from server.jobs.transitions import Transitions

log = structlog.get_logger("atelier.jobs")


class Endings:
    """Ends live jobs, and counts them."""

    def __init__(
        self,
        *,
        jobs: LiveJobs,
        transitions: Transitions,
        leaving: Leaving,
        board: Board,
        painter: Painter,
        finisher: Finisher,
        clock: Clock,
        answers: Answers | None = None,
    ) -> None:
        self._answers = answers
        self._jobs = jobs
        self._transitions = transitions
        self._leaving = leaving
        self._board = board
        self._painter = painter
        self._finisher = finisher
        self._clock = clock
        self._tasks = Tasks()
        self._last_end = clock.seconds()
        self._seconds_per_job = 1.0
        self.ended = {JobState.SUCCEEDED: 0, JobState.FAILED: 0, JobState.CANCELED: 0}

    def now(self, live: LiveJob, failure: JobFailure | None) -> None:
        """Fail (or, without a failure, cancel) a job whatever is under way for it, unless its end is under way."""
        if live.ending:
            return
        live.ending = True
        self._painter.cancel(live.job.id)
        state = JobState.CANCELED if failure is None else JobState.FAILED
        self._tasks.start(self._end(live, state, failure=failure))

    def broken(self, live: LiveJob, error: Exception) -> None:
        """Fail it for what nobody foresaw."""
        log.error("job.broken", job_id=live.job.id, exc_info=error)
        self.now(live, JobFailure(Code.INTERNAL_ERROR, f"the server erred: {type(error).__name__}"))

    async def succeeded(
        self,
        live: LiveJob,
        artifacts: tuple[Artifact, ...],
        warnings: tuple[str, ...],
        figures: Mapping[str, float] | None = None,
    ) -> None:
        """Its pictures are stored."""
        live.ending = True
        await self._end(live, JobState.SUCCEEDED, artifacts=artifacts, warnings=warnings, figures=figures)

    async def answered(self, live: LiveJob, answer: Answered) -> None:
        """It has an output."""
        live.ending = True
        await self._end(
            live, JobState.SUCCEEDED, warnings=answer.warnings, output=answer.output, figures=answer.figures
        )

    async def _end(
        self,
        live: LiveJob,
        state: JobState,
        *,
        artifacts: tuple[Artifact, ...] = (),
        warnings: tuple[str, ...] = (),
        failure: JobFailure | None = None,
        output: Json = None,
        figures: Mapping[str, float] | None = None,
    ) -> None:
        """Record the terminal state, then tell it: in this order, so that what was told stays true."""
        await live.is_begun()
        if live.left:
            return
        job = live.job
        try:
            ended = await self._transitions.end(
                job,
                state,
                artifacts=artifacts,
                warnings=warnings,
                failure=failure,
                output=output,
                figures=figures,
            )
        except LeaseLost:
            self._leaving.lose(live)
            return
        except RecordsUnavailable:  # the server stops, and the records do not come back in time
            self._leaving.give_up(live)
            return
        if self._answers is not None and live.answer_key and ended.state is JobState.SUCCEEDED:
            await self._answers.keep(live.answer_key, ended)  # before it is told: who asks again then has it
        self._jobs.let_go(live)
        self.ended[ended.state] += 1
        self._note_pace()
        reason = {"code": ended.failure.code.name, "reason": ended.failure.message} if ended.failure else {}
        log.info("job.ended", job_id=job.id, state=ended.state.value, **reason)
        self._board.close(terminal_event(ended))
        if state is JobState.SUCCEEDED and ended.state is JobState.FAILED:
            await self._finisher.discard(artifacts)

    def retry_after(self) -> float:
        """Seconds until a place is likely free: the pace at which jobs ended lately."""
        return min(max(self._seconds_per_job, 1.0), 60.0)

    def _note_pace(self) -> None:
        now = self._clock.seconds()
        self._seconds_per_job += (now - self._last_end - self._seconds_per_job) / 10  # about the last ten jobs count
        self._last_end = now
