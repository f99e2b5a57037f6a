"""Jobs that wear what has to be fetched: in which order, held for how long, and how they end when it cannot be had."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ai.types import AdapterUse, OutOfMemory
from server.errors import Code, JobFailure, Refusal
from server.job import Job, JobState
from tests.server.fakes import Recorder, settle
from tests.server.house import ADA, BOB, House

INK, CHALK = "storage:models/ink.safetensors", "https://files.test/chalk.safetensors"


async def wearing(house: House, *names: str, **wishes: Any) -> tuple[Job, Recorder]:
    """A job that asks for adapters."""
    found = await house.followed(adapters=tuple(AdapterUse(name) for name in names), **wishes)
    await settle()
    return found


async def test_a_job_is_painted_when_what_it_wears_is_here() -> None:
    """Until then it is queued, and the engine has not heard of it; its request says where the files are."""
    house = House()
    house.adapters.gate = asyncio.Event()
    job, watcher = await wearing(house, INK, CHALK, INK)
    assert (await house.kept(job.id)).state is JobState.QUEUED
    assert house.painter.known == {}
    house.adapters.gate.set()
    await settle()
    assert house.painter.known[job.id].adapter_files == {INK: f"/fetched/{INK}", CHALK: f"/fetched/{CHALK}"}
    assert house.adapters.asked == [INK, CHALK]
    assert +house.adapters.held == {INK: 1, CHALK: 1}
    house.painter.paint(job.id)
    await settle()
    assert watcher.kinds[-1] == "Succeeded"
    assert +house.adapters.held == {}


async def test_a_job_that_wears_nothing_of_the_kind_waits_for_nobody() -> None:
    """Neither one that wears a card's adapter."""
    house = House()
    house.adapters.gate = asyncio.Event()
    await wearing(house, INK)
    plain, _ = await wearing(house, "ink", model="other", width=128, height=128)
    assert list(house.painter.known) == [plain.id]
    assert house.painter.known[plain.id].adapter_files == {}


@pytest.mark.parametrize("code", [Code.ADAPTER_NOT_FOUND, Code.ADAPTER_INVALID])
async def test_a_job_whose_adapter_is_not_there_or_none_fails_at_once(code: Code) -> None:
    """With the reason; what it held already is let go."""
    house = House(retry_delays=(0.0,))
    house.adapters.failures[CHALK] = JobFailure(code, "no such thing")
    _, watcher = await wearing(house, INK, CHALK)
    assert (watcher.failure.code, str(watcher.failure)) == (code, "no such thing")
    assert +house.adapters.held == {}
    assert house.places.taken == 0


async def test_a_storage_that_is_away_is_asked_again_later() -> None:
    """As the retries say; the files are fetched anew."""
    house = House(retry_delays=(30.0,))
    house.adapters.failures[INK] = JobFailure(Code.STORAGE_FAILED, "away")
    job, watcher = await wearing(house, INK)
    assert (await house.kept(job.id)).state is JobState.RETRYING
    house.adapters.failures.clear()
    await house.pass_time(30)
    house.painter.paint(job.id)
    await settle()
    assert watcher.kinds[-1] == "Succeeded"
    assert house.adapters.asked == [INK, INK]
    assert +house.adapters.held == {}


async def test_a_job_that_waits_for_a_retry_holds_nothing() -> None:
    """It may be minutes."""
    house = House(retry_delays=(30.0,))
    job, _ = await wearing(house, INK)
    house.painter.start(job.id)
    house.painter.fail(job.id, OutOfMemory("full"))
    await settle()
    assert (await house.kept(job.id)).state is JobState.RETRYING
    assert +house.adapters.held == {}
    await house.pass_time(30)
    assert +house.adapters.held == {INK: 1}
    assert house.painter.known[job.id].adapter_files == {INK: f"/fetched/{INK}"}


@pytest.mark.parametrize("how", ["cancel", "deadline", "drain"])
async def test_a_job_may_end_while_it_is_waited_for(how: str) -> None:
    """At once, whatever the download does; what comes after all is let go, and the engine never hears of the job."""
    house = House()
    house.adapters.gate = asyncio.Event()
    job, watcher = await wearing(house, INK, deadline_seconds=5.0)
    if how == "cancel":
        house.lifecycle.cancel(job.id)
        await settle()
        assert watcher.kinds[-1] == "Canceled"
    elif how == "deadline":
        await house.pass_time(5)
        assert watcher.failure.code is Code.DEADLINE_EXCEEDED
    else:
        draining = asyncio.ensure_future(house.lifecycle.drain(1.0))
        await settle()
        await house.pass_time(1)
        await draining
        assert (await house.kept(job.id)).state is JobState.QUEUED
    assert house.lifecycle.live == 0
    assert house.places.taken == 0
    house.adapters.gate.set()
    await settle()
    assert house.painter.known == {}
    assert +house.adapters.held == {}


async def test_an_engine_that_died_meanwhile_paints_nothing() -> None:
    """The job fails for the engine's reason."""
    house = House()
    house.adapters.gate = asyncio.Event()
    _, watcher = await wearing(house, INK)
    house.lifecycle.engine_died("lost")
    house.adapters.gate.set()
    await settle()
    assert watcher.failure.code is Code.GENERATION_FAILED
    assert +house.adapters.held == {}


async def test_only_so_many_jobs_hold_files_at_a_time() -> None:
    """The next is fetched for when one ends, or is let go before its turn."""
    house = House(adapters_ahead=2)
    jobs = [(await wearing(house, f"storage:models/{index}"))[0] for index in range(5)]
    assert list(house.painter.known) == [job.id for job in jobs[:2]]
    house.lifecycle.cancel(jobs[2].id)
    await settle()
    house.painter.paint(jobs[1].id)
    await settle()
    assert list(house.painter.known) == [jobs[0].id, jobs[3].id]
    assert house.adapters.asked == [f"storage:models/{index}" for index in (0, 1, 3)]


async def test_whose_turn_it_is() -> None:
    """The highest priority's; then who has fewer at work already; then who came first."""
    house = House(adapters_ahead=2, pending_per_owner=10, pending=20)
    first, second = [(await wearing(house, "storage:a", owner=ADA))[0] for _ in range(2)]
    third = (await wearing(house, "storage:a", owner=ADA))[0]
    bobs = (await wearing(house, "storage:a", owner=BOB))[0]
    urgent = (await wearing(house, "storage:a", owner=ADA, priority=5))[0]
    for ended, following in ((first, urgent), (second, bobs), (urgent, third)):
        house.painter.paint(ended.id)
        await settle()
        assert following.id in house.painter.known
        assert len(house.painter.known) == 2


async def test_a_name_that_can_never_be_fetched_is_refused() -> None:
    """With its place in the request; so is one without a colon that the card does not know."""
    house = House()
    with pytest.raises(Refusal, match=r"adapters\[1\]\.name: it never can be") as refused:
        await house.job(adapters=(AdapterUse(INK), AdapterUse("storage:never")))
    assert (refused.value.code, refused.value.field) == (Code.ADAPTER_INVALID, "adapters[1].name")
    assert refused.value.limit == "another"
    with pytest.raises(Refusal) as refused:
        await house.job(adapters=(AdapterUse("unknown"),))
    assert refused.value.code is Code.ADAPTER_NOT_FOUND
    assert house.places.taken == 0


async def test_an_artist_s_style_beside_a_fetched_one_is_still_signed_for() -> None:
    """A fetched one has no artist."""
    house = House()
    job, _ = await wearing(house, INK)
    assert job.signature is None
