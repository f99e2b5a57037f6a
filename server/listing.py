"""Which of an owner's jobs are asked for: newest first, a page at a time, from where another page ended. Plain data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from server.errors import Code, Refusal
from server.job import Job, JobState

MOST = 100  # jobs on a page: some 100 kB of JSON, and a few ms of a reading thread
MOST_SKIPPED = 10_000  # by number; the database walks over each, so whoever wants more goes on from a place


class JobPlace(NamedTuple):
    """Where a job stands among its owner's: by its time, in seconds since 1970, then by its id."""

    created_at: float
    job_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPage:
    """At most `most` jobs in `states` (none: all), without the `skip` newest of them.

    `before` is a place: only older jobs. `after`: only newer ones, those next to it. `overdue` tells failed jobs apart: those
    alone that their deadline failed (True), or the others alone (False). `keys` are idempotency keys (none: all jobs).
    """

    states: frozenset[JobState] = frozenset()
    overdue: bool | None = None
    before: JobPlace | None = None
    after: JobPlace | None = None
    skip: int = 0
    most: int = MOST
    keys: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Raise Refusal for more than is given at once."""
        if not 1 <= self.most <= MOST:
            raise Refusal.invalid("limit", f"1 to {MOST}", self.most)
        if not 0 <= self.skip <= MOST_SKIPPED:
            raise Refusal.invalid("skip", f"0 to {MOST_SKIPPED}; beyond, go on from a page's end", self.skip)

    def has(self, job: Job) -> bool:
        """Whether a job is of those that are asked for, wherever it stands."""
        if self.states and job.state not in self.states:
            return False
        if self.keys and job.idempotency_key not in self.keys:
            return False
        return self.overdue is None or job.state is not JobState.FAILED or is_overdue(job) == self.overdue

    def of(self, jobs: Iterable[Job]) -> tuple[list[Job], bool]:
        """This page of an owner's jobs, and whether there are more where it ends: what a store gives, in words that need none."""
        ordered = sorted(filter(self.has, jobs), key=place_of, reverse=self.after is None)
        if self.before is not None:
            ordered = [job for job in ordered if place_of(job) < self.before]
        if self.after is not None:
            ordered = [job for job in ordered if place_of(job) > self.after]
        found = ordered[self.skip :][: self.most]
        return (found if self.after is None else found[::-1]), len(ordered) > self.skip + self.most


def place_of(job: Job) -> JobPlace:
    """Where a job stands."""
    return JobPlace(job.created_at, job.id)


def is_overdue(job: Job) -> bool:
    """Whether a job ended because its deadline passed, and not because its model took longer than models may."""
    late = job.failure is not None and job.failure.code is Code.DEADLINE_EXCEEDED
    return late and job.state is JobState.FAILED and job.deadline_seconds is not None
