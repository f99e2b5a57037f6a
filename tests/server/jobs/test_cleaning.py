"""Old jobs go, and their pictures with them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.internet.task import Clock

from server.errors import RecordsUnavailable
from server.job import Job, JobState
from server.jobs.cleaning import AT_ONCE, EVERY, Cleaning, Keep
from tests.server.database.contract import ARTIFACT, a_job
from tests.server.fakes import FakeArtifacts, settle

KEEP = Keep(jobs=5, seconds=100.0, artifact_bytes=10_000)


class FakeRecords:
    """A `Forgetting` that gives away what it has, and checks how it is asked."""

    def __init__(self, *jobs: Job) -> None:
        self.jobs = list(jobs)
        self.limits: dict[str, Any] = {}
        self.away = False

    async def oldest(self, **limits: Any) -> list[Job]:
        """The first of them."""
        if self.away:
            raise RecordsUnavailable("gone")
        self.limits = limits
        return self.jobs[: limits["most"]]

    async def forget(self, job_ids: Any) -> None:
        """They must be those that were given."""
        assert list(job_ids) == [job.id for job in self.jobs[: len(job_ids)]]
        del self.jobs[: len(job_ids)]


class Scene:
    """A cleaning over fakes."""

    def __init__(self, *jobs: Job) -> None:
        self.clock: Any = Clock()
        self.clock.advance(1000)
        self.records = FakeRecords(*jobs)
        self.artifacts = FakeArtifacts()
        self.cleaning = Cleaning(self.records, self.artifacts, KEEP, self.clock)


async def test_all_that_is_beyond_a_limit_goes() -> None:
    """However many, some at a time; asked for by number, time and bytes."""
    scene = Scene(*(a_job(f"job-{n}", state=JobState.SUCCEEDED, artifacts=(ARTIFACT,)) for n in range(AT_ONCE + 1)))
    assert await scene.cleaning.clean() == AT_ONCE + 1
    assert scene.records.jobs == []
    assert scene.records.limits == {
        "beyond": 5,
        "ended_before": 900.0,
        "more_bytes_than": 10_000,
        "most": AT_ONCE,
    }
    assert scene.artifacts.deletes == [ARTIFACT.key] * (AT_ONCE + 1)


async def test_what_a_killed_server_may_have_left_goes_too() -> None:
    """A job that did not succeed knows of no picture, but one may have been stored before its end."""
    scene = Scene(a_job(state=JobState.CANCELED))
    await scene.cleaning.clean()
    named = [(f"jobs/2023-11-14-22/job-1-{index}.png", f"jobs/job-1/{index}.png") for index in range(4)]
    assert scene.artifacts.deletes == [key for keys in named for key in keys], (
        "older versions had a folder for each job"
    )


async def test_a_backend_s_own_pictures_stay() -> None:
    """Under its own names: it has sold their addresses, or made them again by another job."""
    scene = Scene(
        a_job("job-1", state=JobState.SUCCEEDED, artifacts=(replace(ARTIFACT, key="generations/gen-7.png"),)),
        a_job("job-2", state=JobState.CANCELED, object_key="generations/gen-7.png"),
    )
    assert await scene.cleaning.clean() == 2
    assert scene.artifacts.deletes == []


async def test_a_picture_that_resists_keeps_its_record() -> None:
    """Or nobody would know of it any more; it is tried again the next time, and so is a database that is away."""
    scene = Scene(a_job(state=JobState.SUCCEEDED, artifacts=(ARTIFACT,)))
    scene.cleaning.begin()
    await settle()
    scene.artifacts.delete_error = PermissionError(13, "Permission denied")
    for trouble in ("disk", "database"):
        scene.records.away = trouble == "database"
        scene.clock.advance(EVERY)
        await settle()
        assert len(scene.records.jobs) == 1
    scene.artifacts.delete_error = None
    scene.records.away = False
    scene.clock.advance(EVERY)
    await settle()
    assert scene.records.jobs == []
    scene.cleaning.stop()
    await settle()
    assert scene.clock.getDelayedCalls() == []
