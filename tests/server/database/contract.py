"""What every `JobStore` must do. A store's test file derives from `JobStoreContract` and gives its store."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from ai.types import AdapterUse, GenerationRequest
from server.errors import Code, JobFailure
from server.events import Artifact
from server.interfaces import JobStore
from server.job import TRANSITIONS, IllegalTransition, Job, JobState
from watermark import Signature, TextMark

REQUEST = GenerationRequest(
    request_id="job-1",
    model="demo",
    prompt="별 ✨ \U0001f600",
    negative_prompt="'; drop table jobs; --",
    width=64,
    height=72,
    num_inference_steps=20,
    guidance_scale=4.5,
    seed=2**63 - 5,
    num_images=4,
    adapters=(AdapterUse("ink.v2", -0.5), AdapterUse("chalk"), AdapterUse("ink.v2", 1 / 3)),
    priority=-100,
    preview_every=3,
)
ARTIFACT = Artifact(
    image_index=3,
    key="jobs/job-1/3.png",
    url="https://pictures.test/jobs/job-1/3.png",
    size=123,
    sha256="ab" * 32,
    content_type="image/png",
    width=64,
    height=72,
    seed=2**63 - 2,
)
FAILURE = JobFailure(Code.GPU_OUT_OF_MEMORY, "no room", field="width", limit="64", retry_after_seconds=1.5)


def a_job(job_id: str = "job-1", **changes: Any) -> Job:
    """A job that was never stored."""
    job = Job(
        id=job_id,
        owner="ada",
        idempotency_key="",
        body_hash="00" * 32,
        request=replace(REQUEST, request_id=job_id),
        signature=Signature(TextMark("Ada"), artist="Ada L."),
        deadline_seconds=60.5,
        created_at=1_700_000_000.25,
    )
    return replace(job, **changes)


WAYS: dict[JobState, tuple[JobState, ...]] = {
    JobState.QUEUED: (),
    JobState.STARTING: (JobState.STARTING,),
    JobState.PROCESSING: (JobState.STARTING, JobState.PROCESSING),
    JobState.RETRYING: (JobState.STARTING, JobState.RETRYING),
    JobState.SUCCEEDED: (JobState.STARTING, JobState.PROCESSING, JobState.SUCCEEDED),
    JobState.FAILED: (JobState.FAILED,),
    JobState.CANCELED: (JobState.CANCELED,),
}


async def brought_to(store: JobStore, state: JobState, job: Job) -> Job:
    """A stored job in `state`."""
    await store.admit(job)
    kept = job
    for number, step in enumerate(WAYS[state], start=1):
        kept = await store.move(job.id, step, at=job.created_at + number, last_event=number)
    return kept


class JobStoreContract:
    """Derive, and override the fixture `store`."""

    @pytest.fixture
    def store(self) -> JobStore:
        """A store that holds nothing, and forgets nothing during a test."""
        raise NotImplementedError

    async def test_an_admitted_job_is_kept_as_it_is(self, store: JobStore) -> None:
        """Every field comes back, whatever characters and numbers it holds."""
        job = a_job(idempotency_key="key")
        assert await store.admit(job) == job
        assert await store.get("job-1") == job
        assert await store.find("ada", "key") == job

    async def test_what_is_not_there_is_none(self, store: JobStore) -> None:
        """By id and by key; an empty key finds nothing."""
        await store.admit(a_job())
        assert await store.get("job-2") is None
        assert await store.get("") is None
        assert await store.find("ada", "key") is None
        assert await store.find("ada", "") is None

    async def test_one_key_of_one_owner_is_one_job(self, store: JobStore) -> None:
        """The second job under a key is not kept; the first is returned."""
        first = a_job(idempotency_key="key")
        await store.admit(first)
        assert (await store.admit(a_job("job-2", idempotency_key="key", body_hash="11"))).id == "job-1"
        assert await store.get("job-2") is None

    async def test_a_key_belongs_to_its_owner(self, store: JobStore) -> None:
        """Two owners may use the same key, and neither finds the other's job."""
        await store.admit(a_job(idempotency_key="key"))
        bobs = a_job("job-2", owner="bob", idempotency_key="key")
        assert await store.admit(bobs) == bobs
        found = [await store.find(owner, "key") for owner in ("ada", "bob", "eve")]
        assert [job.id if job else None for job in found] == ["job-1", "job-2", None]

    async def test_jobs_without_a_key_are_all_different(self, store: JobStore) -> None:
        """No key is no key."""
        for job_id in ("job-1", "job-2"):
            assert (await store.admit(a_job(job_id))).id == job_id

    async def test_a_key_holds_when_its_job_has_ended(self, store: JobStore) -> None:
        """A repeated request finds the ended job with what came of it."""
        job = a_job(idempotency_key="key")
        ended = await brought_to(store, JobState.SUCCEEDED, job)
        assert await store.admit(a_job("job-2", idempotency_key="key")) == ended

    async def test_a_move_records_state_time_and_number(self, store: JobStore) -> None:
        """started_at is the first step's time and stays; completed_at is the end's."""
        await store.admit(a_job())
        starting = await store.move("job-1", JobState.STARTING, at=10.5, last_event=0)
        assert (starting.state, starting.started_at, starting.completed_at) == (JobState.STARTING, 10.5, None)
        processing = await store.move("job-1", JobState.PROCESSING, at=11.5, last_event=7)
        assert (processing.started_at, processing.completed_at, processing.last_event) == (10.5, None, 7)
        done = await store.move(
            "job-1", JobState.SUCCEEDED, at=12.5, last_event=9, artifacts=(ARTIFACT,), warnings=("cut", "별")
        )
        assert (done.started_at, done.completed_at, done.last_event) == (10.5, 12.5, 9)
        assert (done.artifacts, done.warnings, done.failure) == ((ARTIFACT,), ("cut", "별"), None)
        assert await store.get("job-1") == done

    async def test_a_failure_is_kept_with_all_it_says(self, store: JobStore) -> None:
        """Code, text, field, limit and retry time."""
        await store.admit(a_job())
        await store.move("job-1", JobState.FAILED, at=1.0, last_event=1, failure=FAILURE)
        failed = await store.get("job-1")
        assert failed is not None
        assert failed.failure is not None
        assert vars(failed.failure) == vars(FAILURE)

    @pytest.mark.parametrize(("old", "new"), list(itertools.product(JobState, JobState)))
    async def test_every_illegal_move_raises_and_changes_nothing(
        self, store: JobStore, old: JobState, new: JobState
    ) -> None:
        """The store holds to the job's table."""
        before = await brought_to(store, old, a_job())
        assert before.state is old
        if new in TRANSITIONS[old]:
            assert (await store.move("job-1", new, at=99.0, last_event=9)).state is new
            return
        with pytest.raises(IllegalTransition):
            await store.move("job-1", new, at=99.0, last_event=9, warnings=("x",))
        assert await store.get("job-1") == before

    async def test_jobs_do_not_touch_each_other(self, store: JobStore) -> None:
        """A move is one job's."""
        await store.admit(a_job())
        other = a_job("job-2")
        await store.admit(other)
        await store.move("job-1", JobState.CANCELED, at=1.0, last_event=1)
        assert await store.get("job-2") == other
