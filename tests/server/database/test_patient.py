"""What happens while the database is away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar, cast

import pytest
from twisted.internet.task import Clock

from server.database.patient import LONGEST_PAUSE, PatientStore
from server.database.sql import SqlJobStore
from server.database.writing import CommitUnknown
from server.errors import Code, RecordsUnavailable
from server.job import IllegalTransition, Job, JobState, moved
from server.webhook import OutboxCall
from tests.server.database.contract import a_job
from tests.server.fakes import settle
from tests.server.memory import MemoryJobStore

T = TypeVar("T")


class Wavering(MemoryJobStore):
    """A store that is `away` when it is told so; `unsure` ones record, and then lose the connection."""

    def __init__(self) -> None:
        super().__init__(100)
        self.away = False
        self.unsure = False
        self.tries = 0

    async def admit(self, job: Job, calls: Sequence[OutboxCall] = (), *, leased: bool = True) -> Job:
        """As it says."""
        return await self._do(lambda: super(Wavering, self).admit(job, calls, leased=leased))

    async def get(self, job_id: str) -> Job | None:
        """As it says."""
        return await self._do(lambda: super(Wavering, self).get(job_id))

    async def move(self, job: Job, calls: Sequence[OutboxCall] = ()) -> Job:
        """As it says."""
        return await self._do(lambda: super(Wavering, self).move(job, calls))

    async def withdraw(self, job_id: str) -> None:
        """As it says."""

        async def work() -> None:
            job = self._jobs.pop(job_id, None)
            if job is not None:
                self._keys.pop((job.owner, job.idempotency_key), None)

        await self._do(work)

    async def _do(self, work: Callable[[], Awaitable[T]]) -> T:
        self.tries += 1
        if self.away:
            raise RecordsUnavailable("the connection was refused")
        done = await work()
        if self.unsure:
            raise CommitUnknown("the connection was lost")
        return done


class Scene:
    """A patient store over a wavering one."""

    def __init__(self) -> None:
        self.clock: Any = Clock()
        self.below = Wavering()
        self.store = PatientStore(cast(SqlJobStore, self.below), self.clock)

    async def pass_time(self, seconds: float) -> None:
        """In small steps, so that every timer comes in its turn."""
        for _ in range(round(seconds * 10)):
            self.clock.advance(0.1)
            await settle()


async def test_what_is_new_is_refused_at_once() -> None:
    """UNAVAILABLE with a time to try again; nothing is tried behind the caller's back."""
    scene = Scene()
    scene.below.away = True
    for asked in (scene.store.admit(a_job()), scene.store.get("job-1")):
        with pytest.raises(RecordsUnavailable) as caught:
            await asked
        assert caught.value.code is Code.UNAVAILABLE
        assert caught.value.retry_after_seconds > 0
    assert scene.clock.getDelayedCalls() == []


async def test_what_was_promised_is_recorded_when_the_database_is_back(logs: list[Any]) -> None:
    """However long that takes, more and more slowly, and with two lines in the log."""
    scene = Scene()
    await scene.store.admit(a_job())
    scene.below.away = True
    moving = asyncio.ensure_future(scene.store.move(moved(a_job(), JobState.CANCELED, at=1.0, last_event=1)))
    await scene.pass_time(60)
    assert not moving.done()
    assert 60 / LONGEST_PAUSE <= scene.below.tries <= 60 / LONGEST_PAUSE + 10
    scene.below.away = False
    await scene.pass_time(LONGEST_PAUSE)
    assert (await moving).state is JobState.CANCELED
    assert [line["event"] for line in logs if line["event"].startswith("records.")] == ["records.away", "records.back"]


async def test_a_move_whose_answer_was_lost_is_one_move() -> None:
    """It was recorded; the second try finds that, and it is no illegal transition."""
    scene = Scene()
    await scene.store.admit(a_job())
    scene.below.unsure = True
    moving = asyncio.ensure_future(scene.store.move(moved(a_job(), JobState.CANCELED, at=1.0, last_event=1)))
    await settle()
    scene.below.unsure = False
    await scene.pass_time(1)
    assert (await moving).state is JobState.CANCELED


async def test_a_mistake_is_not_tried_again() -> None:
    """Waiting does not mend it."""
    scene = Scene()
    await scene.store.admit(a_job())
    with pytest.raises(IllegalTransition):
        await scene.store.move(moved(a_job(), JobState.SUCCEEDED, at=1.0, last_event=1))


async def test_a_job_that_was_refused_and_may_be_recorded_all_the_same_is_withdrawn() -> None:
    """Its key finds nothing until then, and is free for the caller's next try after it."""
    scene = Scene()
    scene.below.unsure = True
    with pytest.raises(RecordsUnavailable):
        await scene.store.admit(a_job(idempotency_key="key"))
    await settle()
    scene.below.unsure, scene.below.away = False, True
    await scene.pass_time(1)
    scene.below.away = False
    again = a_job("job-2", idempotency_key="key")
    scene.below._jobs["job-1"] = a_job(idempotency_key="key")  # it was recorded
    scene.below._keys["ada", "key"] = "job-1"
    for asked in (scene.store.find("ada", "key"), scene.store.admit(again)):
        with pytest.raises(RecordsUnavailable):
            await asked
    await scene.pass_time(LONGEST_PAUSE)
    assert await scene.store.find("ada", "key") is None
    assert await scene.store.admit(again) == again
    assert scene.clock.getDelayedCalls() == []


async def test_a_server_that_stops_waits_for_no_database() -> None:
    """What could not be recorded says so, and no timer is left."""
    scene = Scene()
    await scene.store.admit(a_job())
    scene.below.away = True
    moving = asyncio.ensure_future(scene.store.move(moved(a_job(), JobState.CANCELED, at=1.0, last_event=1)))
    await settle()
    scene.store.stop()
    with pytest.raises(RecordsUnavailable):
        await moving
    assert scene.clock.getDelayedCalls() == []
