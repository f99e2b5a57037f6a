"""A job of another node with the same records is cancelled by its record; the node that ran it lets go."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from server.errors import RecordsUnavailable
from server.events import Canceled
from server.job import TERMINAL, Job, JobState
from server.jobs.canceling import ASK_AGAIN, LOOK_EVERY, RecordedCanceling
from tests.server.fakes import Recorder, settle
from tests.server.house import SILENT, House


class FakeTakings:
    """`Takings` of a house whose jobs `theirs` are another node's."""

    def __init__(self, house: House) -> None:
        self._house = house
        self.theirs: set[str] = set()
        self.lost: set[str] = set()
        self.away = 0  # so many calls find no database

    async def take_away(self, job_id: str, *, at: float) -> Job | None:
        """By its fence."""
        self._reach()
        job = await self._house.store.get(job_id)
        if job is None or job_id not in self.theirs or job.state in TERMINAL:
            return None
        self.theirs.discard(job_id)
        taken = replace(job, state=JobState.QUEUED, fence=job.fence + 1, last_event=100_000)
        store: Any = self._house.store
        store._jobs[job_id] = taken
        return taken

    async def held(self) -> frozenset[str]:
        """All that the house runs but what was lost."""
        self._reach()
        return self._house.lifecycle.ids - self.lost

    def _reach(self) -> None:
        if self.away:
            self.away -= 1
            raise RecordsUnavailable("gone")


class Scene:
    """A house, and who cancels there."""

    def __init__(self) -> None:
        self.house = House()
        self.takings = FakeTakings(self.house)
        self.canceling = RecordedCanceling(
            here=self.house.lifecycle,
            store=self.house.store,
            takings=self.takings,
            board=self.house.board,
            announcer=SILENT,
            clock=self.house.clock,
        )

    async def theirs(self) -> Job:
        """A job that another node runs, in the same records."""
        job = replace(await House().job(), id="job-7")
        await self.house.store.admit(job)
        self.takings.theirs.add(job.id)
        return job


@pytest.fixture
def scene() -> Iterator[Scene]:
    """One, which looks no more afterwards."""
    made = Scene()
    yield made
    made.canceling.stop()


async def test_a_job_of_another_node_is_ended_by_its_record(scene: Scene) -> None:
    """Whoever follows it here hears its one end."""
    job = await scene.theirs()
    watcher = Recorder()
    await scene.house.board.follow(job.id, watcher)
    scene.canceling.cancel(job.id)
    await settle()
    assert (await scene.house.kept(job.id)).state is JobState.CANCELED
    assert isinstance(watcher.events[-1], Canceled)
    assert len([event for event in watcher.events if isinstance(event, Canceled)]) == 1


async def test_a_job_of_this_node_is_cancelled_here(scene: Scene) -> None:
    """Nothing is taken away."""
    job, watcher = await scene.house.followed()
    scene.takings.away = 1
    scene.canceling.cancel(job.id)
    await settle()
    assert isinstance(watcher.events[-1], Canceled)
    assert scene.takings.away == 1, "the records were asked for nothing"


async def test_an_ended_job_is_left_alone(scene: Scene) -> None:
    """Whoever ran it."""
    job, watcher = await scene.house.followed()
    scene.house.painter.paint(job.id)
    await settle()
    scene.canceling.cancel(job.id)
    await settle()
    assert watcher.succeeded
    assert (await scene.house.kept(job.id)).state is JobState.SUCCEEDED


async def test_it_asks_again_while_the_records_are_away(scene: Scene) -> None:
    """Twice is once."""
    job = await scene.theirs()
    scene.takings.away = 2
    scene.canceling.cancel(job.id)
    scene.canceling.cancel(job.id)
    await settle()
    assert (await scene.house.kept(job.id)).state is JobState.QUEUED
    for _ in range(2):
        await scene.house.pass_time(ASK_AGAIN)
    assert (await scene.house.kept(job.id)).state is JobState.CANCELED


async def test_what_was_taken_away_is_let_go_of(scene: Scene) -> None:
    """Within a second: its rows are free, and who follows it here hears how it ended."""
    job, watcher = await scene.house.followed()
    other = await scene.house.job()
    scene.canceling.begin()
    await scene.house.pass_time(LOOK_EVERY)
    assert scene.house.lifecycle.has(job.id), "it is held"
    scene.takings.away = 1
    await scene.house.pass_time(LOOK_EVERY)
    assert scene.house.lifecycle.has(job.id), "nobody can say"
    scene.takings.lost = {job.id}
    await scene.house.pass_time(LOOK_EVERY)
    assert not scene.house.lifecycle.has(job.id)
    assert scene.house.lifecycle.has(other.id)
    assert scene.house.painter.cancels == [job.id]
    store: Any = scene.house.store
    store._jobs[job.id] = replace(job, state=JobState.CANCELED, completed_at=1.0, last_event=100_001)
    await scene.house.pass_time(1.0)
    assert isinstance(watcher.events[-1], Canceled)
    scene.house.lifecycle.cancel(other.id)
    await settle()
