"""Who follows which job."""

from __future__ import annotations

import pytest

from server.errors import Code, JobFailure, Refusal
from server.events import Accepted, Canceled, Event, Phase, Preview, Progress, Succeeded
from server.job import JobState
from server.jobs.board import Board, owned_job
from tests.server.database.contract import ARTIFACT, a_job
from tests.server.fakes import Recorder
from tests.server.memory import MemoryJobStore
from tests.server.moving import move_job


class Scene:
    """A board with one live job on it."""

    def __init__(self) -> None:
        self.store = MemoryJobStore(1)
        self.board = Board(self.store)
        self.job = a_job()

    async def begin(self) -> Scene:
        """Put the job up."""
        await self.store.admit(self.job)
        self.board.open(self.job)
        return self

    def progress(self, step: int = 1) -> Progress:
        """Publish the next number as progress."""
        event = Progress(
            number=self.board.next_number("job-1"), job_id="job-1", phase=Phase.DENOISING,
            step=step, total_steps=20, fraction=step / 20, eta_seconds=1.0,
        )  # fmt: skip
        self.board.publish(event)
        return event

    def preview(self) -> Preview:
        """Publish the next number as a preview."""
        event = Preview(number=self.board.next_number("job-1"), job_id="job-1", image_index=0, step=1, png=b"png")
        self.board.publish(event)
        return event

    async def follow(self, from_event: int = 0) -> Recorder:
        """Someone who follows the job."""
        watcher = Recorder()
        await self.board.follow("job-1", watcher, from_event)
        return watcher

    async def end(self) -> Succeeded:
        """Record and tell the end."""
        number = self.board.next_number("job-1")
        for state in (JobState.STARTING, JobState.PROCESSING):
            await move_job(self.store, "job-1", state, fence=1, at=self.job.created_at + 2, last_event=0)
        await move_job(self.store, "job-1", JobState.SUCCEEDED, fence=1, at=self.job.created_at + 5, last_event=number,
            artifacts=(ARTIFACT,), warnings=("cut",),
        )  # fmt: skip
        event = Succeeded(
            number=number, job_id="job-1", artifacts=(ARTIFACT,), warnings=("cut",),
            queued_seconds=2.0, processing_seconds=3.0,
        )  # fmt: skip
        self.board.close(event)
        return event


async def test_events_are_told_in_order_from_accepted_to_the_end() -> None:
    """Accepted is number 0; every watcher hears the same."""
    scene = await Scene().begin()
    watchers = [await scene.follow(), await scene.follow()]
    scene.progress(1)
    scene.preview()
    end = await scene.end()
    for watcher in watchers:
        assert [event.number for event in watcher.events] == [0, 1, 2, 3]
        assert watcher.kinds == ["Accepted", "Progress", "Preview", "Succeeded"]
        assert watcher.events[-1] == end


async def test_a_late_watcher_gets_the_latest_progress_and_what_comes_then() -> None:
    """Earlier progress and previews are not kept."""
    scene = await Scene().begin()
    for step in (1, 2, 3):
        scene.progress(step)
    scene.preview()
    watcher = await scene.follow()
    assert [event.number for event in watcher.events] == [0, 3]
    scene.progress(4)
    assert [event.number for event in watcher.events] == [0, 3, 5]


@pytest.mark.parametrize(("from_event", "numbers"), [(0, [0, 3, 4]), (1, [3, 4]), (3, [3, 4]), (4, [4])])
async def test_a_watcher_that_was_here_before_hears_only_what_is_new(from_event: int, numbers: list[int]) -> None:
    """From the number it asks for on."""
    scene = await Scene().begin()
    for step in (1, 2, 3):
        scene.progress(step)
    watcher = await scene.follow(from_event)
    scene.progress(4)
    assert [event.number for event in watcher.events] == numbers


async def test_no_event_below_the_number_asked_for_is_told_but_the_end_always_is() -> None:
    """Who asks from 3 on does not hear 1 and 2 when they come; nobody waits for ever for the end."""
    scene = await Scene().begin()
    watcher, far = await scene.follow(3), await scene.follow(1000)
    for step in (1, 2, 3):
        scene.progress(step)
    end = await scene.end()
    assert far.events == [end]
    assert [event.number for event in watcher.events] == [3, 4]


@pytest.mark.parametrize("from_event", [0, 1, 2, 99])
async def test_an_ended_job_tells_its_end_from_its_record(from_event: int) -> None:
    """To any number of watchers, whenever they come."""
    scene = await Scene().begin()
    scene.progress()
    end = await scene.end()
    for _ in range(2):
        watcher = await scene.follow(from_event)
        assert watcher.events[-1] == end
        assert len(watcher.events) == (2 if from_event == 0 else 1)


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.CANCELED])
async def test_failed_and_canceled_jobs_are_told_as_such(state: JobState) -> None:
    """With the reason, where there is one."""
    scene = await Scene().begin()
    await move_job(scene.store, "job-1", state, fence=1, at=1.0, last_event=1,
        failure=JobFailure(Code.STORAGE_FAILED, "full") if state is JobState.FAILED else None,
    )  # fmt: skip
    scene.board.close(Canceled(number=1, job_id="job-1"))
    watcher = await scene.follow()
    assert watcher.kinds == ["Accepted", "Failed" if state is JobState.FAILED else "Canceled"]
    if state is JobState.FAILED:
        assert watcher.failure.code is Code.STORAGE_FAILED


async def test_a_watcher_that_left_hears_nothing_more() -> None:
    """Leaving twice, or a job that is not there, does no harm."""
    scene = await Scene().begin()
    watcher, other = await scene.follow(), await scene.follow()
    scene.board.leave("job-1", watcher)
    scene.board.leave("job-1", watcher)
    scene.board.leave("no-such-job", watcher)
    scene.progress()
    assert watcher.kinds == ["Accepted"]
    assert other.kinds == ["Accepted", "Progress"]


async def test_a_watcher_may_leave_when_it_hears() -> None:
    """The others hear the event all the same."""
    scene = await Scene().begin()

    class Leaving(Recorder):
        def job_event(self, event: Event) -> None:
            super().job_event(event)
            if isinstance(event, Progress):
                scene.board.leave("job-1", self)

    watchers = [Recorder(), Leaving(), Recorder()]
    for watcher in watchers:
        await scene.board.follow("job-1", watcher)
    scene.progress(1)
    scene.progress(2)
    assert [len(watcher.events) for watcher in watchers] == [3, 2, 3]


async def test_the_latest_number_and_progress_are_known_while_the_job_lives() -> None:
    """Afterwards the record has the number."""
    scene = await Scene().begin()
    assert scene.board.progress("job-1") is None
    assert scene.board.last_number(scene.job) == 0
    event = scene.progress()
    assert scene.board.progress("job-1") == event
    assert scene.board.last_number(scene.job) == 1
    await scene.end()
    assert scene.board.progress("job-1") is None
    ended = await scene.store.get("job-1")
    assert ended is not None
    assert scene.board.last_number(ended) == 2


async def test_a_forgotten_job_cannot_be_followed() -> None:
    """JOB_NOT_FOUND, with a long id shown short."""
    with pytest.raises(Refusal) as caught:
        await Scene().board.follow("x" * 5000, Recorder())
    assert (caught.value.code, caught.value.field) == (Code.JOB_NOT_FOUND, "job_id")
    assert len(str(caught.value)) < 100


async def test_another_s_job_looks_like_none() -> None:
    """The refusal is the same to the letter."""
    scene = await Scene().begin()
    assert await owned_job(scene.store, "ada", "job-1") == scene.job
    texts = []
    for job_id, owner in (("job-1", "bob"), ("job-2", "bob")):
        with pytest.raises(Refusal) as caught:
            await owned_job(scene.store, owner, job_id)
        texts.append(repr(caught.value).replace(job_id, "…"))
    assert texts[0] == texts[1]


async def test_a_job_that_is_kept_but_not_yet_begun_can_be_followed() -> None:
    """Between the store's commit and the board a second Submit under the key may come: it hears all there will be."""
    scene = Scene()
    await scene.store.admit(scene.job)
    watcher = await scene.follow()
    scene.board.open(scene.job)
    scene.progress()
    assert watcher.kinds == ["Accepted", "Progress"]


async def test_a_watcher_that_raises_harms_nobody_else() -> None:
    """Neither the others nor the job: what one door did wrong is its own."""
    scene = await Scene().begin()

    class Broken(Recorder):
        def job_event(self, event: Event) -> None:
            if not isinstance(event, Accepted):
                raise ValueError("a mistake in a door")

    before = await scene.follow()
    await scene.board.follow("job-1", Broken())
    after = await scene.follow()
    scene.progress()
    await scene.end()
    assert before.kinds == after.kinds == ["Accepted", "Progress", "Succeeded"]
    assert (await scene.follow(1)).kinds == ["Succeeded"]


async def test_a_tap_hears_every_job_and_outlives_a_broken_one() -> None:
    """What is published from then on, of whichever job, also where another that listens raises."""

    class Broken:
        def job_event(self, event: Event) -> None:
            raise ValueError("broken")

    scene = await Scene().begin()
    tapped = Recorder()
    scene.board.tap(Broken())
    scene.board.tap(tapped)
    told = [scene.progress(), scene.preview()]
    end = Canceled(number=scene.board.next_number("job-1"), job_id="job-1")
    scene.board.close(end)
    assert tapped.events == [*told, end]
