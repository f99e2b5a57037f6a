"""A transition of a job that is in a store, by its id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from server.interfaces import JobStore
from server.job import Job, JobState, moved
from server.webhook import OutboxCall


async def move_job(
    store: JobStore, job_id: str, state: JobState, *, fence: int, calls: Sequence[OutboxCall] = (), **told: Any
) -> Job:
    """As its holder with that fence would record it."""
    job = await store.get(job_id)
    assert job is not None
    return await store.move(moved(replace(job, fence=fence), state, **told), calls)
