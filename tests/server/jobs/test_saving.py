"""What is painted of a job outlives a stop of the server, and a parked one's a kill."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from ai.types import Parked, Saved, SavedImage
from server.errors import RecordsUnavailable
from server.job import Job, JobState
from tests.server.fakes import Recorder, settle
from tests.server.house import House
from tests.server.memory import MemoryJobStore

HALF = (SavedImage(0, 10, b"half"),)


async def begun(house: House) -> Job:
    """A job that has made a step."""
    job = await house.job()
    house.painter.start(job.id)
    house.painter.step(job.id, 1)
    await settle()
    return job


async def test_what_is_under_way_when_the_time_is_up_is_saved_and_left() -> None:
    """The engine is asked, and the job stays as it is, with what it answered."""
    store = MemoryJobStore(10)
    house = House(store=store)
    job = await begun(house)
    house.painter.saves[job.id] = HALF
    draining = asyncio.ensure_future(house.lifecycle.drain(10))
    await settle()
    await house.pass_time(10)
    await draining
    assert (await house.kept(job.id)).state is JobState.PROCESSING
    assert await store.latents(job.id) == HALF
    assert house.painter.cancels == [job.id]


async def test_a_stop_waits_no_longer_for_an_engine_that_does_not_answer() -> None:
    """It leaves the job without."""
    house = House()
    house.painter.save = lambda request_id: None  # type: ignore[method-assign]
    job = await begun(house)
    draining = asyncio.ensure_future(house.lifecycle.drain(10))
    await settle()
    await house.pass_time(10)
    assert not draining.done()
    await house.pass_time(5)
    await draining
    assert (await house.kept(job.id)).state is JobState.PROCESSING


async def test_a_parked_job_is_saved_and_goes_on() -> None:
    """For a server that is killed meanwhile."""
    store = MemoryJobStore(10)
    house = House(store=store)
    job, watcher = await house.followed()
    house.painter.start(job.id)
    house.lifecycle.engine_events([Parked(job.id, 10, 20, 0.5), Saved(job.id, HALF)])
    await settle()
    assert await store.latents(job.id) == HALF
    house.painter.finish(job.id)
    await settle()
    assert watcher.kinds[-1] == "Succeeded"


class Away(MemoryJobStore):
    """Cannot keep latents."""

    async def keep_latents(self, *what: Any, **how: Any) -> None:
        """No."""
        raise RecordsUnavailable("gone")


async def test_what_cannot_be_saved_is_painted_anew_and_no_more() -> None:
    """The job goes on."""
    house = House(store=Away(10))
    job, watcher = await house.followed()
    house.painter.start(job.id)
    house.lifecycle.engine_events([Saved(job.id, HALF)])
    house.painter.finish(job.id)
    await settle()
    assert watcher.kinds[-1] == "Succeeded"


@pytest.mark.parametrize("fence", [1, 2])
async def test_a_job_that_is_taken_up_goes_on_from_what_was_saved(fence: int) -> None:
    """A new one has nothing to go on from, and is not looked for."""
    store = MemoryJobStore(10)
    house = House(store=store)
    job = replace(await _admitted(store), fence=fence)
    store._jobs[job.id] = job
    await store.keep_latents(job.id, HALF, fence=fence)
    house.places.hold(job.owner, job.id, 0)
    house.lifecycle.begin(job)
    watcher = Recorder()
    await house.board.follow(job.id, watcher)
    await settle()
    assert house.painter.known[job.id].saved == (HALF if fence == 2 else ())
    house.painter.paint(job.id)
    await settle()
    assert (watcher.kinds[-1], house.places.taken) == ("Succeeded", 0)


async def test_a_job_that_is_cancelled_before_it_goes_on_never_reaches_the_engine() -> None:
    """And its place is free."""
    store = MemoryJobStore(10)
    house = House(store=store)
    job = replace(await _admitted(store), fence=2)
    store._jobs[job.id] = job
    house.places.hold(job.owner, job.id, 0)
    house.lifecycle.begin(job)
    house.lifecycle.cancel(job.id)
    await settle()
    assert (await house.kept(job.id)).state is JobState.CANCELED
    assert (house.painter.known, house.places.taken) == ({}, 0)


async def _admitted(store: MemoryJobStore) -> Job:
    maker = House()
    return await store.admit(await maker.job())
