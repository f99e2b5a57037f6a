"""Job records in memory."""

from __future__ import annotations

import pytest

from server.interfaces import JobStore
from server.job import JobState
from tests.server.database.contract import JobStoreContract, a_job, brought_to
from tests.server.memory import MemoryJobStore
from tests.server.moving import move_job
from tests.server.pictures import a_png
from watermark import ImageMark, Signature


class TestMemoryJobStore(JobStoreContract):
    """The contract of every store."""

    @pytest.fixture
    def store(self) -> JobStore:
        """One that forgets nothing during a test."""
        return MemoryJobStore(1000)


async def test_the_job_that_ended_first_is_forgotten_first() -> None:
    """Beyond keep_finished, with its key; which was admitted first does not matter."""
    store = MemoryJobStore(2)
    for number in (1, 2, 3):
        await store.admit(a_job(f"job-{number}", idempotency_key=f"key-{number}"))
    for number in (3, 1, 2):
        await move_job(store, f"job-{number}", JobState.CANCELED, fence=1, at=1.0, last_event=1)
    assert await store.get("job-3") is None
    assert await store.find("ada", "key-3") is None
    assert await store.get("job-1") is not None
    again = a_job("job-4", idempotency_key="key-3")
    assert await store.admit(again) == again


async def test_live_jobs_are_never_forgotten() -> None:
    """However many ended beside them."""
    store = MemoryJobStore(1)
    await store.admit(a_job("live", idempotency_key="live"))
    for number in range(10):
        await brought_to(store, JobState.SUCCEEDED, a_job(f"job-{number}"))
    assert await store.get("live") is not None
    assert await store.find("ada", "live") is not None


async def test_forgetting_a_job_without_a_key_leaves_others_keys_alone() -> None:
    """An empty key is nobody's."""
    store = MemoryJobStore(1)
    await brought_to(store, JobState.CANCELED, a_job("job-1"))
    await store.admit(a_job("job-2", idempotency_key="key"))
    await brought_to(store, JobState.CANCELED, a_job("job-3"))
    assert await store.find("ada", "key") is not None


async def test_an_ended_job_holds_no_signature_image() -> None:
    """Ten thousand ended jobs are remembered: each may cost kilobytes, not the picture it was signed with."""

    png = a_png(400, 400)
    job = a_job(signature=Signature(ImageMark(png)))
    store = MemoryJobStore(10)
    ended = await brought_to(store, JobState.SUCCEEDED, job)
    assert ended.signature is None or not isinstance(ended.signature.mark, ImageMark)
