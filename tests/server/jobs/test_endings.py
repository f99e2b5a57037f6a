"""The ends that are not the engine's: cancel, deadline, a dead engine, a store that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from ai.types import DeadlineExceeded
from server.errors import Code, Refusal
from server.events import Canceled
from server.job import TERMINAL, Job, JobState
from server.webhook import OutboxCall
from tests.server.fakes import Recorder, finished, settle
from tests.server.house import House
from tests.server.memory import MemoryJobStore


@pytest.mark.parametrize("stage", ["queued", "running"])
async def test_a_cancelled_job_says_so_and_frees_its_row(stage: str) -> None:
    """Once, however often it is cancelled, and whatever the engine still says of it."""
    house = House()
    job, watcher = await house.followed(deadline_seconds=60)
    if stage == "running":
        house.painter.start(job.id)
        house.painter.step(job.id, 1)
        await settle()
    house.lifecycle.cancel(job.id)
    house.lifecycle.cancel(job.id)
    await settle()
    house.lifecycle.cancel(job.id)
    if stage == "running":
        house.painter.step(job.id, 2)
    assert house.painter.cancels == [job.id]
    house.painter.confirm_cancel(job.id)
    await settle()
    assert isinstance(watcher.events[-1], Canceled)
    assert (await house.kept(job.id)).state is JobState.CANCELED
    assert house.lifecycle.ended[JobState.CANCELED] == 1
    assert house.is_free()


async def test_cancelling_an_ended_or_unknown_job_changes_nothing() -> None:
    """The result stands."""
    house = House()
    job, watcher = await house.followed()
    house.painter.paint(job.id)
    await settle()
    house.lifecycle.cancel(job.id)
    house.lifecycle.cancel("no-such-job")
    await settle()
    assert watcher.succeeded
    assert house.lifecycle.ended[JobState.CANCELED] == 0


async def test_a_job_cancelled_while_it_is_stored_ends_once(logs: list[Any]) -> None:
    """As canceled or as succeeded, but as one of them, and without a stumble."""
    house = House()
    house.artifacts.gate = asyncio.Event()
    job, watcher = await house.followed()
    house.painter.paint(job.id)
    await settle()
    house.lifecycle.cancel(job.id)
    await settle()
    house.artifacts.gate.set()
    await settle()
    assert watcher.ended
    assert (await house.kept(job.id)).state in (JobState.CANCELED, JobState.SUCCEEDED)
    assert [line for line in logs if line["log_level"] == "error"] == []
    assert house.artifacts.stored == {}, "nobody will ever ask for it"
    assert house.is_free()


@pytest.mark.parametrize("how", ["cancel", "deadline"])
async def test_a_silent_engine_is_not_given_more_than_the_pending_limit(how: str) -> None:
    """While it loads a model, whoever submits and cancels in turn piles up no requests in it."""
    house = House(pending=10, pending_per_owner=8)
    for _ in range(100):
        with suppress(Refusal):  # RESOURCE_EXHAUSTED, in time
            job = await house.job(deadline_seconds=1)
            if how == "cancel":
                house.lifecycle.cancel(job.id)
        await house.pass_time(0 if how == "cancel" else 2)
    assert len(house.painter.known) <= 8
    for job_id in tuple(house.painter.known):
        house.painter.confirm_cancel(job_id)
    await settle()
    await house.job()


@pytest.mark.parametrize("stage", ["queued", "running", "stored"])
async def test_a_deadline_ends_a_job_wherever_it_is(stage: str) -> None:
    """Also while the engine is busy with loading and says nothing, and while a storage does not answer."""
    house = House()
    house.artifacts.gate = asyncio.Event()
    job, watcher = await house.followed(deadline_seconds=10.0)
    if stage == "running":
        house.painter.start(job.id)
    elif stage == "stored":
        house.painter.paint(job.id)
    await settle()
    await house.pass_time(9.9)
    assert not watcher.ended
    await house.pass_time(0.2)
    assert watcher.failure.code is Code.DEADLINE_EXCEEDED
    assert "10 s" in watcher.failure.message
    assert house.painter.cancels == ([] if stage == "stored" else [job.id])
    house.artifacts.gate.set()
    await settle()
    assert house.is_free()
    assert (await house.kept(job.id)).state is JobState.FAILED


async def test_the_engine_is_told_the_time_that_is_left() -> None:
    """What has passed since acceptance counts; a job without a deadline has none there either."""
    house = House()
    job = await house.job(deadline_seconds=10.0)
    assert house.painter.known[job.id].deadline_seconds == 10.0
    free = await house.job()
    assert house.painter.known[free.id].deadline_seconds is None
    house.painter.known.clear()
    house.clock.advance(4)
    house.lifecycle.begin(replace(job, id="again", request=replace(job.request, request_id="again")))
    assert house.painter.known["again"].deadline_seconds == 6.0


async def test_the_engine_s_word_that_it_is_too_late_comes_first() -> None:
    """The job fails at once with DEADLINE_EXCEEDED, and the server's own deadline says nothing more."""
    house = House()
    job, watcher = await house.followed(deadline_seconds=10.0)
    house.painter.start(job.id)
    house.painter.fail(job.id, DeadlineExceeded("deadline_seconds: 20 steps are left"))
    await settle()
    assert watcher.failure.code is Code.DEADLINE_EXCEEDED
    await house.pass_time(20)
    assert watcher.kinds.count("Failed") == 1
    assert house.is_free()


async def test_a_job_done_in_time_leaves_no_deadline() -> None:
    """The clock holds nothing of it."""
    house = House()
    job, watcher = await house.followed(deadline_seconds=10.0)
    house.painter.paint(job.id)
    await settle()
    await house.pass_time(100)
    assert watcher.succeeded
    assert house.is_free()


async def test_who_was_first_decides_how_a_job_ends() -> None:
    """A cancel before the deadline is a cancel, whenever the engine confirms it."""
    house = House()
    job, watcher = await house.followed(deadline_seconds=10.0)
    house.lifecycle.cancel(job.id)
    await house.pass_time(20)
    house.painter.confirm_cancel(job.id)
    await settle()
    assert watcher.kinds[-1] == "Canceled"


async def test_a_dead_engine_fails_what_it_had() -> None:
    """GENERATION_FAILED with its last words, each job once."""
    house = House()
    followed = [await house.followed() for _ in range(3)]
    house.painter.start(followed[1][0].id)
    house.lifecycle.engine_died("the engine stopped: bus error")
    house.lifecycle.engine_died("again")
    await settle()
    for _, watcher in followed:
        assert (watcher.failure.code, watcher.failure.message) == (
            Code.GENERATION_FAILED,
            "the engine stopped: bus error",
        )
    assert house.is_free()


async def test_a_picture_that_was_painted_outlives_the_engine() -> None:
    """A job that only has to be stored needs no engine any more."""
    house = House()
    house.artifacts.gate = asyncio.Event()
    job, watcher = await house.followed()
    house.painter.paint(job.id)
    await settle()
    house.lifecycle.engine_died("the engine stopped: bus error")
    await settle()
    house.artifacts.gate.set()
    await settle()
    assert watcher.succeeded


async def test_a_job_begun_after_the_engine_died_does_not_hang() -> None:
    """Its admission was under way when it happened."""
    house = House()
    house.lifecycle.engine_died("bus error")
    _, watcher = await house.followed()
    await settle()
    assert watcher.ended
    assert house.is_free()


class Forgetful(MemoryJobStore):
    """A store whose disk fails when `broken`."""

    broken = False

    async def move(self, job: Job, calls: Sequence[OutboxCall] = ()) -> Job:
        """As it says."""
        if self.broken:
            raise OSError("disk full")
        return await super().move(job, calls)


@pytest.mark.parametrize("stage", ["start", "finish", "cancel"])
async def test_a_store_that_fails_leaves_no_job_hanging(stage: str) -> None:
    """The job ends for its watchers, its place is free, and a drain ends."""
    store = Forgetful(10)
    house = House(store=store)
    job, watcher = await house.followed(deadline_seconds=60)
    if stage != "start":
        house.painter.start(job.id)
        await settle()
    store.broken = True
    if stage == "start":
        house.painter.start(job.id)
    elif stage == "finish":
        house.painter.finish(job.id)
    else:
        house.lifecycle.cancel(job.id)
    await settle()
    assert watcher.failure.code is Code.INTERNAL_ERROR
    assert house.is_free()
    assert await finished(asyncio.ensure_future(house.lifecycle.drain(1)))


class Slow(MemoryJobStore):
    """A store that takes a while to record an end."""

    def __init__(self, keep_finished: int) -> None:
        super().__init__(keep_finished)
        self.gate = asyncio.Event()

    async def move(self, job: Job, calls: Sequence[OutboxCall] = ()) -> Job:
        """As it says."""
        if job.state in TERMINAL:
            await self.gate.wait()
        return await super().move(job, calls)


async def test_nothing_is_told_between_the_end_s_number_and_the_end() -> None:
    """While the end is being recorded the engine may go on talking: the watchers hear it in order, the end last."""
    store = Slow(10)
    house = House(store=store)
    job, watcher = await house.followed()
    house.painter.start(job.id)
    house.painter.step(job.id, 1)
    await settle()
    house.lifecycle.cancel(job.id)
    await settle()
    house.painter.step(job.id, 2)
    house.painter.preview(job.id, 0, 2)
    await settle()
    assert not watcher.ended, "told before it was durable"
    late = Recorder()
    await house.board.follow(job.id, late)
    store.gate.set()
    await settle()
    assert watcher.kinds[-1] == late.kinds[-1] == "Canceled"
    assert house.is_free()


async def test_the_pace_of_ends_tells_when_to_try_again() -> None:
    """Between a second and a minute, and longer when jobs end more slowly."""
    house = House()
    assert house.lifecycle.retry_after() == 1.0
    for _ in range(30):
        job = await house.job()
        await house.pass_time(20)
        house.painter.paint(job.id)
        await settle()
    assert 15 < house.lifecycle.retry_after() < 21
    await house.pass_time(100_000)
    job = await house.job()
    house.painter.paint(job.id)
    await settle()
    assert house.lifecycle.retry_after() == 60.0
