"""What a server that stops does with its jobs: it waits a while, and leaves the rest to the next life."""

from __future__ import annotations

import asyncio

import pytest

from server.job import JobState
from tests.server.fakes import finished, settle
from tests.server.house import House


async def test_drain_waits_for_what_runs() -> None:
    """And ends as soon as the last job has."""
    house = House()
    job, watcher = await house.followed()
    draining = asyncio.ensure_future(house.lifecycle.drain(30))
    await settle()
    await house.pass_time(29)
    assert not draining.done()
    house.painter.paint(job.id)
    assert await finished(draining)
    assert watcher.succeeded
    assert house.is_free()


async def test_drain_with_nothing_to_do_is_done_at_once() -> None:
    """No timer, no waiting."""
    house = House()
    await house.lifecycle.drain(30)
    assert house.is_free()


@pytest.mark.parametrize("stage", ["queued", "running", "stored"])
async def test_drain_leaves_after_its_time_what_is_not_done(stage: str) -> None:
    """To the next life: the record stays as it is and nobody is told an end, though engine and storage say nothing more."""
    house = House()
    house.artifacts.gate = asyncio.Event()
    job, watcher = await house.followed()
    if stage == "running":
        house.painter.start(job.id)
    elif stage == "stored":
        house.painter.paint(job.id)
    await settle()
    draining = asyncio.ensure_future(house.lifecycle.drain(30))
    await settle()
    await house.pass_time(30)
    assert await finished(draining)
    assert not watcher.ended
    assert (await house.kept(job.id)).state is (JobState.QUEUED if stage == "queued" else JobState.PROCESSING)
    house.artifacts.gate.set()
    await settle()
    assert house.artifacts.deletes == [], "the next life may have stored them anew by now"
    assert house.is_free()


@pytest.mark.parametrize("given_up", [True, False])
async def test_what_begins_after_a_drain_is_left_too(given_up: bool) -> None:
    """A job whose admission was under way meanwhile was accepted: it is in the records, and nothing holds up the stop."""
    house = House()
    if given_up:
        await house.job()
    draining = asyncio.ensure_future(house.lifecycle.drain(30))
    await settle()
    await house.pass_time(31)
    late, watcher = await house.followed()
    assert await finished(draining)
    assert not watcher.ended
    assert (await house.kept(late.id)).state is JobState.QUEUED
    assert late.id not in house.painter.known
    assert house.is_free()
