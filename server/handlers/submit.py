"""Submit and Predict: a job is admitted, and set going."""

from __future__ import annotations

from typing import Protocol

from server.commands import CheckSubmit, Predict, Submit
from server.errors import Code, Refusal
from server.health import Health
from server.job import Job
from server.jobs.admission import Admission
from server.jobs.predicting import PredictAdmission
from server.replies import Admitted


class Begins(Protocol):
    """What becomes of jobs: server.jobs.lifecycle, or server.jobs.dispatching."""

    def begin(self, job: Job) -> None:
        """Take over a job that was just made durable."""
        ...


class SubmitHandler:
    """Refuses while the server stops; what is admitted is durable before anyone is told."""

    def __init__(self, admission: Admission, predictions: PredictAdmission, lifecycle: Begins, health: Health) -> None:
        self._admission = admission
        self._predictions = predictions
        self._lifecycle = lifecycle
        self._health = health

    async def __call__(self, command: Submit | Predict) -> Admitted:
        """Raises Refusal."""
        self._check_house()
        if isinstance(command, Predict):
            admitted = await self._predictions.admit(command)
        else:
            admitted = await self._admission.admit(command)
        if not admitted.duplicate:
            self._lifecycle.begin(admitted.job)
        return admitted

    async def check(self, command: CheckSubmit) -> None:
        """Raises Refusal, as the same Submit would."""
        self._check_house()
        await self._admission.check(command.submit)

    def _check_house(self) -> None:
        if self._health.draining:
            raise Refusal(Code.UNAVAILABLE, "the server is stopping; try again in a moment", retry_after_seconds=5.0)
        if self._health.dead:
            raise Refusal(Code.UNAVAILABLE, f"nothing can be painted any more: {self._health.problem}")
