"""What an earlier life of the server left is taken up again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from ai.types import InitImage
from server.errors import Code, RecordsUnavailable
from server.job import Job, JobState
from server.jobs.recovery import Recovery
from tests.conftest import LOOP
from tests.server.fakes import CARD, Recorder, settle
from tests.server.house import House
from tests.server.memory import MemoryJobStore
from tests.server.moving import move_job
from tests.server.pictures import a_png
from watermark import ImageMark, Signature

EVERY = 10.0  # seconds between renewals


class FakeLeases:
    """A node's `Leases`: hands out what a test puts into `expired`, and notes what it was asked."""

    def __init__(self) -> None:
        self.expired: list[Job] = []
        self.asked: list[str] = []
        self.away = False

    async def take_up(self, *, at: float, begin: bool) -> list[Job]:
        """Once."""
        self._note("begin" if begin else "take_up")
        taken, self.expired = self.expired, []
        return taken

    async def renew(self, *, at: float) -> None:
        """Note it."""
        self._note("renew")

    async def give_back(self, *, at: float) -> None:
        """Note it."""
        self._note("give_back")

    def _note(self, what: str) -> None:
        self.asked.append(what)
        if self.away:
            raise RecordsUnavailable("gone")


class Scene:
    """A house with a recovery, which `scenes_end` stops."""

    begun: ClassVar[list[Scene]] = []

    def __init__(self, **house: Any) -> None:
        self.begun.append(self)
        self.house = House(**house)
        self.leases = FakeLeases()
        self.models = ["demo", "other"]
        self.coming: list[str] = []
        self.gate = asyncio.Event()
        self.recovery = Recovery(
            leases=self.leases,
            lifecycle=self.house.lifecycle,
            places=self.house.places,
            models=self.models,
            clock=self.house.clock,
            every=EVERY,
            max_attempts=3,
            ready=self._ready,
        )

    async def _ready(self, model: str) -> bool:
        """Brings what `coming` has, when a test lets it."""
        await self.gate.wait()
        self.models += [model] if model in self.coming else []
        return model in self.models

    async def left(self, **changes: Any) -> Job:
        """A job that was accepted in an earlier life, and is queued anew."""
        job = await House(began_at=self.house.clock.seconds()).job(deadline_seconds=60)
        left = replace(job, fence=2, last_event=100_002, **changes)
        await self.house.store.admit(left)
        return left

    async def begin(self) -> Recorder:
        """Start, and follow what was left."""
        jobs = await self.recovery.take_up()
        self.recovery.begin(jobs)
        watcher = Recorder()
        await self.house.board.follow(jobs[0].id, watcher)
        await settle()
        return watcher


@pytest.fixture(autouse=True)
def scenes_end() -> Iterator[None]:
    """None is left with a task that waits."""
    yield
    while Scene.begun:
        LOOP.run_until_complete(Scene.begun.pop().recovery.stop())


async def test_a_job_that_was_left_is_painted_and_ends_once() -> None:
    """Under its new fence, with numbers above those of its earlier life; its place is taken and given back."""
    scene = Scene()
    left = await scene.left()
    scene.leases.expired = [left]
    watcher = await scene.begin()
    assert (scene.house.places.taken, scene.house.places.image_bytes) == (1, 0)
    scene.house.painter.paint(left.id)
    await settle()
    assert [event.number for event in watcher.events] == [0, 100_003, 100_004, 100_005]
    assert watcher.succeeded
    kept = await scene.house.kept(left.id)
    assert (kept.state, kept.last_event) == (JobState.SUCCEEDED, 100_005)
    assert scene.house.places.taken == 0


async def test_a_job_that_was_left_has_its_place_whatever_the_limits_are_now() -> None:
    """It was accepted; what is new is refused until it has ended."""
    scene = Scene(pending=1, pending_per_owner=1)
    first, second = await scene.left(), replace(await scene.left(), id="job-9")
    scene.leases.expired = [first, replace(second, request=replace(second.request, request_id="job-9"))]
    await scene.begin()
    assert scene.house.places.taken == scene.house.lifecycle.live == 2


async def test_an_init_image_that_was_left_takes_its_room() -> None:
    """Even where there is none any more: what is new is refused until it has ended."""
    scene, image = Scene(image_bytes=3), InitImage(2, 1, bytes(6))
    left = await scene.left()
    scene.leases.expired = [replace(left, request=replace(left.pictures_asked, init_image=image, strength=0.5))]
    await scene.begin()
    assert scene.house.places.image_bytes == 6
    scene.house.painter.paint(left.id)
    await settle()
    assert scene.house.places.image_bytes == 0


async def test_a_signature_image_that_was_left_takes_its_room() -> None:
    """As an init image does."""
    scene, mark = Scene(signature_bytes=3), ImageMark(a_png())
    left = await scene.left()
    scene.leases.expired = [replace(left, signature=Signature(mark))]
    await scene.begin()
    assert scene.house.places.signature_bytes == len(mark.png)
    scene.house.painter.paint(left.id)
    await settle()
    assert scene.house.places.signature_bytes == 0


async def test_a_deadline_runs_on_while_no_server_does() -> None:
    """It is a time of day: one that has passed meanwhile ends the job at once."""
    scene = Scene()
    scene.leases.expired = [await scene.left()]
    scene.house.clock.advance(61)
    watcher = await scene.begin()
    await scene.house.pass_time(0)
    assert watcher.failure.code is Code.DEADLINE_EXCEEDED


@pytest.mark.parametrize(("attempts", "fails"), [(2, False), (3, True)])
async def test_a_job_that_ends_the_server_again_and_again_is_failed(attempts: int, fails: bool) -> None:
    """After so many attempts, with a text that says it; the engine does not get it any more."""
    scene = Scene()
    left = await scene.left(attempts=attempts)
    scene.leases.expired = [left]
    watcher = await scene.begin()
    assert watcher.ended is fails
    assert (left.id in scene.house.painter.known) is not fails
    if fails:
        assert watcher.failure.code is Code.GENERATION_FAILED
        assert "3 times" in watcher.failure.message


async def test_a_job_for_a_model_that_is_gone_fails() -> None:
    """With the names of those that are there."""
    scene = Scene()
    left = await scene.left()
    scene.leases.expired = [replace(left, request=replace(left.pictures_asked, model="sold"))]
    watcher = await scene.begin()
    assert watcher.failure.code is Code.MODEL_NOT_FOUND
    assert watcher.failure.limit == "one of demo, other"


async def test_leases_are_renewed_and_others_expired_ones_taken_up() -> None:
    """By the clock; a database that is away is asked again the next time."""
    scene = Scene()
    scene.recovery.begin(await scene.recovery.take_up())
    await settle()
    scene.leases.away = True
    await scene.house.pass_time(EVERY)
    scene.leases.away = False
    left = await scene.left()
    scene.leases.expired = [left]
    await scene.house.pass_time(EVERY)
    assert scene.leases.asked == ["begin", "renew", "renew", "take_up"]
    assert left.id in scene.house.painter.known


@pytest.mark.parametrize("away", [False, True])
async def test_a_server_that_stops_gives_back_what_it_holds(away: bool) -> None:
    """Once, and a database that is away does not keep it from stopping; no timer is left."""
    scene = Scene()
    scene.recovery.begin(await scene.recovery.take_up())
    await settle()
    scene.leases.away = away
    await scene.recovery.stop()
    await settle()
    assert scene.leases.asked == ["begin", "give_back"]
    assert scene.house.clock.getDelayedCalls() == []


class Taken(MemoryJobStore):
    """A store whose jobs another node takes up, when it is told so."""

    def take(self, job_id: str) -> None:
        """The other node's fence."""
        job = self._jobs[job_id]
        self._jobs[job_id] = replace(
            job, state=JobState.QUEUED, fence=job.fence + 1, last_event=job.last_event + 100_000
        )


@pytest.mark.parametrize("when", ["before it starts", "while it is painted", "before it is cancelled"])
async def test_a_job_that_another_node_has_taken_up_ends_as_that_one_says(when: str) -> None:
    """This node's pictures and words count no more; who follows the job here hears its one end."""
    store = Taken(10)
    house = House(store=store)
    job, watcher = await house.followed()
    if when != "before it starts":
        house.painter.start(job.id)
        await settle()
    store.take(job.id)
    if when == "before it starts":
        house.painter.start(job.id)
    elif when == "while it is painted":
        house.painter.finish(job.id)
    else:
        house.lifecycle.cancel(job.id)
    await settle()
    assert not watcher.ended
    assert house.lifecycle.live == 0
    assert house.artifacts.deletes == [], "they are the other node's by now"
    await house.pass_time(1)
    assert not watcher.ended
    for state in (JobState.STARTING, JobState.PROCESSING, JobState.SUCCEEDED):
        await move_job(store, job.id, state, fence=2, at=1.0, last_event=100_009)
    await house.pass_time(1)
    assert watcher.succeeded.number == 100_009
    house.painter.confirm_cancel(job.id) if job.id in house.painter.known else None
    assert house.clock.getDelayedCalls() == []
    assert house.places.taken == 0


@pytest.mark.parametrize("comes", [True, False])
async def test_a_job_of_a_registered_model_waits_until_it_is_here(comes: bool) -> None:
    """A model that another node was given a moment ago is brought first; one that nobody has any more fails its job, and the
    failure's words name no other user's model."""
    scene = Scene()
    name, others = "ada/fox:1.0.0@0123456789abcdef", "bob/hen:1@0123456789abcdef"
    scene.models.append(others)
    scene.coming = [name] if comes else []
    job = await House(began_at=scene.house.clock.seconds()).job()
    left = replace(job, request=replace(job.request, model=name), fence=2)
    await scene.house.store.admit(left)
    if comes:
        scene.house.painter.add(replace(CARD, name=name))
    scene.recovery.set_going([left])
    await settle()
    assert scene.house.lifecycle.live == 0
    scene.gate.set()
    await settle()
    if comes:
        assert list(scene.house.painter.known) == [left.id]
        return
    failure = (await scene.house.kept(left.id)).failure
    assert failure is not None
    assert (failure.code, failure.limit) == (Code.MODEL_NOT_FOUND, "one of demo, other")
    assert "ada/fox:1.0.0" in failure.message
