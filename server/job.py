"""The one record of one request, and the table of what may become of it.

queued → starting → processing → succeeded | failed | canceled
(all but the ended may go to retrying, and from there back to queued)
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ai.types import GenerationRequest
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
    JobState.QUEUED: frozenset({JobState.STARTING, JobState.RETRYING}) | _ENDS,
    JobState.STARTING: frozenset({JobState.PROCESSING, JobState.RETRYING}) | _ENDS,
    JobState.PROCESSING: frozenset({JobState.SUCCEEDED, JobState.RETRYING}) | _ENDS,
    JobState.RETRYING: frozenset({JobState.QUEUED}) | _ENDS,
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELED: frozenset(),
}

TERMINAL = frozenset(state for state, following in TRANSITIONS.items() if not following)


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
    which rises with each holder.
    """

    id: str
    owner: str
    idempotency_key: str
    body_hash: str
    request: GenerationRequest
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

    @property
    def signature_bytes(self) -> int:
        """What the picture takes that it is signed with."""
        mark = self.signature.mark if self.signature is not None else None
        return len(mark.png) if isinstance(mark, ImageMark) else 0


def is_recorded(job: Job, state: JobState, *, at: float, last_event: int) -> bool:
    """Whether this very transition is the job's last one: it was recorded before, and its answer was lost."""
    times = {JobState.STARTING: job.started_at, **dict.fromkeys(TERMINAL, job.completed_at)}
    return job.state is state and job.last_event == last_event and times.get(state, at) == at
