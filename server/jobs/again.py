"""A live job answered as the same was before: its pictures copied under its own keys and its own name, or its text told whole.

It has the states, the events and the end of any other job; only the engine never hears of it.
"""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from ai.types import Answered
from server.errors import JobFailure
from server.events import Artifact, Phase
from server.job import CACHED, Job
from server.jobs.answers import Answers
from server.jobs.endings import Endings
from server.jobs.finishing import Finisher
from server.jobs.live import LiveJob
from server.jobs.transitions import Transitions

log = structlog.get_logger("atelier.jobs")


class Again:
    """Looks up live jobs before they are given to the engine."""

    def __init__(self, answers: Answers, finisher: Finisher, transitions: Transitions, endings: Endings) -> None:
        self._answers = answers
        self._finisher = finisher
        self._transitions = transitions
        self._endings = endings

    async def answered(self, live: LiveJob, files: Mapping[str, str]) -> bool:
        """Whether the job has its answer, or needs none any more; else its own will be kept."""
        key = await self._answers.key(live.job, files)
        earlier = await self._answers.earlier(key, live.job.owner) if key else None
        if live.ending or (earlier is not None and await self._copied(live, earlier)):
            return True
        live.answer_key = key
        return False

    async def _copied(self, live: LiveJob, earlier: Job) -> bool:
        """False where its pictures are there no more, or cannot be read now."""
        artifacts: tuple[Artifact, ...] = ()
        if earlier.artifacts:
            try:
                artifacts = await self._finisher.copied(live.job, earlier.artifacts)
            except (OSError, ValueError, JobFailure) as error:
                log.info("answer.gone", job_id=live.job.id, earlier=earlier.id, reason=str(error))
                return False
        if live.ending:
            if not live.left:
                await self._finisher.discard(artifacts)
            return True
        log.info("job.answered_again", job_id=live.job.id, earlier=earlier.id)
        live.answer_key = ""
        self._transitions.begin(live)
        figures = {**earlier.figures, CACHED: 1.0}
        if artifacts:
            self._transitions.progress(live, Phase.FINISHING, live.steps, 1.0, 0.0)
            await self._endings.succeeded(live, artifacts, earlier.warnings, figures)
        else:
            if isinstance(earlier.output, str):
                self._transitions.output(live, 0, earlier.output)
            await self._endings.answered(live, Answered(live.job.id, earlier.output, figures, earlier.warnings))
        return True
