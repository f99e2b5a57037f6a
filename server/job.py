"""The one record of one request, and the table of what may become of it.

queued → starting → processing → succeeded | failed | canceled
(all but the ended may go to retrying, and from there back to queued; who has nothing to prepare passes starting by)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from ai.types import CustomRequest, GenerationRequest, Json, Request
from server.errors import JobFailure
from server.events import Artifact
from server.webhook import Webhook
from watermark import ImageMark, Signature


class JobState(StrEnum):
    """Where a job stands. The last three are terminal and never left."""

    QUEUED = "queued"
    STARTING = "starting"
    PROCESSING = "processing"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


_ENDS = frozenset({JobState.FAILED, JobState.CANCELED})

TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.STARTING, JobState.PROCESSING, JobState.RETRYING}) | _ENDS,
    JobState.STARTING: frozenset({JobState.PROCESSING, JobState.RETRYING}) | _ENDS,
    JobState.PROCESSING: frozenset({JobState.SUCCEEDED, JobState.RETRYING}) | _ENDS,
    JobState.RETRYING: frozenset({JobState.QUEUED}) | _ENDS,
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELED: frozenset(),
}

CACHED = "cached"
"""Of a job's figures: 1 where it was answered as the same was before (server.jobs.answers)."""

TERMINAL = frozenset(state for state, following in TRANSITIONS.items() if not following)
BEGUN = frozenset({JobState.STARTING, JobState.PROCESSING})


class IllegalTransition(Exception):
    """A job was asked to go where the table has no way: a mistake of ours, never of a caller."""

    def __init__(self, job_id: str, old: JobState, new: JobState) -> None:
        super().__init__(f"job {job_id}: {old} → {new}")


class LeaseLost(Exception):
    """Another node has taken the job up: what this one still has to say of it counts no more."""

    def __init__(self, job_id: str, fence: int) -> None:
        super().__init__(f"job {job_id}: the lease with number {fence} has gone to another holder")


def check_transition(job_id: str, old: JobState, new: JobState) -> None:
    """Raise IllegalTransition unless the table has `old` → `new`."""
    if new not in TRANSITIONS[old]:
        raise IllegalTransition(job_id, old, new)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as it stands. Times are seconds since 1970 (UTC).

    `body_hash` is a hash of what was asked, to tell a repeated request from another one under the same key;
    `last_event` is the number of the latest event that was recorded here; `attempts` counts how often work was begun, but for
    what ended in one of the `retries`; a job that is retrying has its last `failure`. Whoever runs the job knows its `fence`,
    which rises with each holder. A job that paints nothing has an `output` (JSON) when it has succeeded, with `figures` of how
    that came about.
    """

    id: str
    owner: str
    idempotency_key: str
    body_hash: str
    request: Request
    signature: Signature | None
    deadline_seconds: float | None
    created_at: float
    state: JobState = JobState.QUEUED
    started_at: float | None = None
    completed_at: float | None = None
    artifacts: tuple[Artifact, ...] = ()
    warnings: tuple[str, ...] = ()
    failure: JobFailure | None = None
    last_event: int = 0
    attempts: int = 0
    retries: int = 0
    fence: int = 1
    webhook: Webhook | None = None
    object_key: str = ""
    output: Json = None
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def cached(self) -> bool:
        """Whether it was answered as the same was before."""
        return bool(self.figures.get(CACHED))

    @property
    def pictures_asked(self) -> GenerationRequest:
        """The request of a job that paints. Raises TypeError for another's."""
        if not isinstance(self.request, GenerationRequest):
            raise TypeError(f"job {self.id} paints nothing")
        return self.request

    @property
    def signature_bytes(self) -> int:
        """What the picture takes that it is signed with."""
        mark = self.signature.mark if self.signature is not None else None
        return len(mark.png) if isinstance(mark, ImageMark) else 0


def is_recorded(kept: Job, job: Job) -> bool:
    """Whether what is kept is this very transition: it was recorded before, and its answer was lost."""

    def told(one: Job) -> tuple[object, ...]:
        return one.state, one.last_event, one.started_at, one.completed_at

    return told(kept) == told(job)


def without_files(request: Request) -> Request:
    """The request without the pictures that came with it."""
    if isinstance(request, GenerationRequest) and request.init_image is not None:
        return replace(request, init_image=None)
    if isinstance(request, CustomRequest) and request.files:
        return replace(request, files={})
    return request


def moved(
    job: Job,
    state: JobState,
    *,
    at: float,
    last_event: int,
    artifacts: tuple[Artifact, ...] = (),
    warnings: tuple[str, ...] = (),
    failure: JobFailure | None = None,
    output: Json = None,
    figures: Mapping[str, float] | None = None,
) -> Job:
    """The job after a transition at time `at`."""
    began, begins, ended = job.state in BEGUN, state in BEGUN, state in TERMINAL
    attempts, request = job.attempts, job.request
    if begins and not began:
        attempts += 1
    elif state is JobState.RETRYING and began:
        attempts -= 1
    if ended:  # like the signature's, pictures that nobody needs any more
        request = without_files(request)
    return replace(
        job,
        state=state,
        last_event=last_event,
        attempts=attempts,
        retries=job.retries + (state is JobState.RETRYING),
        started_at=at if begins and not began else job.started_at,
        completed_at=at if ended else None,
        artifacts=artifacts,
        warnings=warnings,
        failure=failure,
        signature=None if ended else job.signature,
        request=request,
        output=output,
        figures=figures or {},
    )
