"""What may go well later is tried again, and nothing else is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence

import pytest

from ai.types import GenerationError, OutOfMemory
from server import events
from server.errors import Code, JobFailure
from server.job import Job, JobState
from server.jobs.announcing import Announcers
from server.jobs.retrying import PASSING, Retries
from server.webhook import Channel, OutboxCall
from tests.server.database.contract import a_job
from tests.server.fakes import Recorder, picture_key, settle
from tests.server.house import House
from tests.server.memory import MemoryJobStore


def phases(watcher: Recorder) -> list[str]:
    """Of the progress that was heard."""
    return [event.phase.value for event in watcher.events if isinstance(event, events.Progress)]


@pytest.mark.parametrize("code", Code)
def test_only_what_passes_is_retried(code: Code) -> None:
    """No memory and no storage; each delay in its turn, and then no more."""
    failure = JobFailure(code, "it failed")
    delays = [Retries((0.0, 30.0)).delay(a_job(retries=retries), failure) for retries in range(4)]
    assert delays == ([0.0, 30.0, None, None] if code in PASSING else [None] * 4)


async def test_a_job_without_memory_begins_again_after_each_delay() -> None:
    """It says so, waits, is painted from its first step, and succeeds under the same id."""
    house = House(retry_delays=(0.0, 30.0))
    job, watcher = await house.followed(seed=5)
    for delay in (0, 30):
        house.painter.start(job.id)
        house.painter.step(job.id, 3)
        house.painter.fail(job.id, OutOfMemory("full"))
        await settle()
        kept = await house.kept(job.id)
        assert (kept.state, kept.failure.code if kept.failure else None) == (JobState.RETRYING, Code.GPU_OUT_OF_MEMORY)
        assert job.id not in house.painter.known
        await house.pass_time(delay)
        assert (await house.kept(job.id)).state is JobState.QUEUED
        assert house.painter.known[job.id].seed == 5
    house.painter.paint(job.id)
    await settle()
    assert phases(watcher) == [*["denoising", "retrying", "queued"] * 2, "denoising", "finishing"]
    assert watcher.kinds[-1] == "Succeeded"
    assert ((await house.kept(job.id)).retries, (await house.kept(job.id)).attempts) == (2, 1)


async def test_when_the_retries_are_used_up_the_last_failure_is_told() -> None:
    """Once, with its own words."""
    house = House(retry_delays=(1.0,))
    job, watcher = await house.followed()
    for reason in ("first", "last"):
        house.painter.start(job.id)
        house.painter.fail(job.id, OutOfMemory(reason))
        await settle()
        await house.pass_time(1)
    assert (watcher.failure.code, str(watcher.failure)) == (Code.GPU_OUT_OF_MEMORY, "last")
    assert house.places.taken == 0


async def test_a_picture_that_cannot_be_stored_is_kept_and_stored_later() -> None:
    """It is not painted again, however often the storage fails; nothing is kept of a job that has ended."""
    house = House(retry_delays=(5.0, 5.0))
    job, watcher = await house.followed()
    house.artifacts.put_error = OSError("no route")
    house.painter.paint(job.id)
    await settle()
    assert phases(watcher)[-1] == "retrying"
    assert (await house.kept(job.id)).state is JobState.RETRYING
    assert house.lifecycle._jobs.unstored_bytes > 0
    await house.pass_time(5)
    assert (await house.kept(job.id)).retries == 2
    house.artifacts.put_error = None
    await house.pass_time(5)
    assert [artifact.key for artifact in watcher.succeeded.artifacts] == [picture_key(job.id)]
    assert phases(watcher)[-5:] == ["finishing", "retrying", "finishing", "retrying", "finishing"]
    assert house.painter.known == {}
    assert (await house.kept(job.id)).state is JobState.SUCCEEDED
    assert house.lifecycle._jobs.unstored_bytes == house.places.taken == 0


async def test_kept_pictures_can_be_cancelled_and_are_given_up_with_the_last_retry() -> None:
    """Then they take no room any more."""
    house = House(retry_delays=(5.0,))
    house.artifacts.put_error = OSError("no route")
    (first, one), (second, two) = [await house.followed() for _ in range(2)]
    for job in (first, second):
        house.painter.paint(job.id)
    await settle()
    house.lifecycle.cancel(first.id)
    await house.pass_time(5)
    assert one.kinds[-1] == "Canceled"
    assert two.failure.code is Code.STORAGE_FAILED
    assert house.lifecycle._jobs.unstored_bytes == house.places.taken == 0
    assert house.artifacts.stored == {}


async def test_a_picture_for_which_there_is_no_room_is_painted_again() -> None:
    """The storage is back by then."""
    house = House(retry_delays=(5.0,), unstored_bytes=10)
    job, watcher = await house.followed()
    house.artifacts.put_error = OSError("no route")
    house.painter.paint(job.id)
    await settle()
    assert phases(watcher)[-1] == "retrying"
    house.artifacts.put_error = None
    await house.pass_time(5)
    house.painter.paint(job.id)
    await settle()
    assert [artifact.key for artifact in watcher.succeeded.artifacts] == [picture_key(job.id)]


async def test_what_would_fail_again_fails_at_once() -> None:
    """Whatever the delays."""
    house = House(retry_delays=(0.0, 30.0))
    job, watcher = await house.followed()
    house.painter.start(job.id)
    house.painter.fail(job.id, GenerationError("it is not a number"))
    await settle()
    assert watcher.failure.code is Code.GENERATION_FAILED


async def test_a_job_that_waits_for_its_retry_can_be_cancelled() -> None:
    """It ends at once, its place is free, and nothing begins later."""
    house = House(retry_delays=(30.0,))
    job, watcher = await house.followed()
    house.painter.start(job.id)
    house.painter.fail(job.id, OutOfMemory("full"))
    await settle()
    house.lifecycle.cancel(job.id)
    await house.pass_time(60)
    assert watcher.kinds[-1] == "Canceled"
    assert (house.painter.known, house.places.taken) == ({}, 0)


async def test_a_deadline_holds_while_a_job_waits_for_its_retry() -> None:
    """It was given for the whole, and is not given anew."""
    house = House(retry_delays=(30.0,))
    job, watcher = await house.followed(deadline_seconds=20.0)
    house.painter.start(job.id)
    house.painter.fail(job.id, OutOfMemory("full"))
    await settle()
    await house.pass_time(20)
    assert watcher.failure.code is Code.DEADLINE_EXCEEDED


@pytest.mark.parametrize("when", ["waiting", "failing"])
async def test_a_server_that_stops_does_not_wait_for_retries(when: str) -> None:
    """The job is left as it is, for the next life, whether it failed before the stop or during it."""
    house = House(retry_delays=(30.0,))
    job = await house.job()
    house.painter.start(job.id)
    if when == "waiting":
        house.painter.fail(job.id, OutOfMemory("full"))
        await settle()
        await house.lifecycle.drain(10)
    else:
        draining = events_loop_task(house)
        await settle()
        house.painter.fail(job.id, OutOfMemory("full"))
        await draining
    assert (await house.kept(job.id)).state is JobState.RETRYING
    assert house.lifecycle.live == 0


def events_loop_task(house: House) -> Awaitable[None]:
    """A drain that is under way."""
    return asyncio.ensure_future(house.lifecycle.drain(10))


class Herald:
    """Tells every state by its name."""

    def calls(self, job: Job) -> Sequence[OutboxCall]:
        """One of them."""
        name = f"{job.state.value}-{job.retries}"
        return [
            OutboxCall(
                id=f"{job.id}-{name}", job_id=job.id, name=name, channel=Channel.WEBHOOK, payload="{}", position=0
            )
        ]


async def test_what_is_to_be_told_is_recorded_with_the_state_that_it_tells() -> None:
    """From the acceptance to the end, by whoever has something to tell."""
    store = MemoryJobStore(10)
    house = House(store=store, announcer=Announcers([Herald()]), retry_delays=(0.0,))
    job = await house.job()
    house.painter.start(job.id)
    house.painter.fail(job.id, OutOfMemory("full"))
    await settle()
    await house.pass_time(0)
    house.painter.paint(job.id)
    await settle()
    names = [
        "queued-0",
        "processing-0",
        "retrying-1",
        "queued-1",
        "processing-1",
        "succeeded-1",
    ]
    assert list(store.calls) == [(job.id, name) for name in names]
